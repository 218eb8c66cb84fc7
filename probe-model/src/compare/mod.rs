//! Comparison of two sides, each of one recording or several: measures, how sure they are, and a verdict
//! for each that holds for equal work.
//!
//! Latencies are compared by scan length and over a common mix of lengths; a percentile over all calls only
//! where both sides had the same mix; contiguity where both were asked the same; counts of rare things exactly.
//!
//! How much a measure varies is learnt from the recordings themselves: each is cut into blocks of
//! neighbouring windows, and the measure is computed again and again from blocks drawn at random (a
//! bootstrap of blocks, and of recordings first where a side has several). Neighbours that resemble each
//! other count for less. No shape of distribution is assumed.

mod caution;
mod measure;
mod mix;
mod question;
mod rare;
mod resample;
mod side;
mod stack;

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::scan_cost::ScanCost;
use measure::{Bars, Common, Measure, Sum};
use side::Block;

pub use mix::{Class, Mix, Mixes};
pub use side::Side;

/// How sure verdicts are: the chance that there is any verdict at all on two sides without a difference. It is
/// shared out among the measures that can have one, so each of them is judged the more strictly the more there
/// are.
pub const LEVEL: f64 = 0.05;
/// Fewer blocks a side say nothing about how a measure varies.
const FEWEST_BLOCKS: usize = 5;
/// A measure that would have missed a larger difference than this is not known to be the same.
const BLIND: f64 = 1.0;

/// A measure on both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// Its name.
    pub measure: String,
    /// What it is of: `ns`, `bytes` or `share`.
    pub unit: &'static str,
    /// Whether more of it is worse.
    pub more_is_worse: bool,
    /// On side A; `None` where it has no value.
    pub a: Option<f64>,
    /// On side B.
    pub b: Option<f64>,
    /// By which share B is above A: 0.12 is 12 % more; `None` where nothing of it holds for equal work.
    pub change: Option<f64>,
    /// The change is this exact, both ways, at 95 %.
    pub margin: Option<f64>,
    /// How often it happened on each side, and could have; only of what is counted.
    pub counts: Option<[(u64, u64); 2]>,
    /// What to make of it.
    pub verdict: Verdict,
}

/// What to make of a change.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Verdict {
    /// B is worse, by more than chance explains; whether by more than the threshold.
    Worse {
        /// Beyond the threshold.
        regression: bool,
    },
    /// B is better, by more than chance explains.
    Better,
    /// No difference was seen; one of this share would have been, four times of five.
    Same {
        /// The share.
        would_have_seen: f64,
    },
    /// Nothing can be said.
    Unknown {
        /// Why.
        why: String,
    },
}

/// What a scan costs on each side, over all lengths that it has.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Costs {
    /// On A; `None` without scans.
    pub a: Option<ScanCost>,
    /// On B.
    pub b: Option<ScanCost>,
}

/// The comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Every measure.
    pub measures: Vec<Compared>,
    /// How many of them could have a verdict: [`LEVEL`] is shared out among so many, and one for the
    /// distribution where that is compared.
    pub judged: usize,
    /// Scan lengths on both sides, and the common mix.
    pub mix: Mix,
    /// What a scan costs.
    pub costs: Costs,
    /// Chance that two sides of one distribution of GET_PA latencies differ by as much as these do;
    /// `None` where the work differs or there are too few windows to tell.
    pub distribution: Option<f64>,
    /// What was seen that no verdict can be made of.
    pub findings: Vec<String>,
    /// Why the two sides may not be comparable.
    pub warnings: Vec<String>,
    /// Why a side is no evidence, or not as much as was given: empty, one window, a recording given twice.
    pub unfit: Vec<String>,
    /// What a regression must exceed, as a share.
    pub threshold: f64,
}

impl Comparison {
    /// Compare two sides; `seed` makes the draws repeatable.
    pub fn of(a: &Side, b: &Side, threshold: f64, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mix = Mix::of(a, b, &mut random);
        let bars = caution::bars(a, b, &mix);
        let alike = bars.mix.is_none() && bars.instrument.is_none() && a.files() == 1 && b.files() == 1;
        let distribution = alike.then(|| resample::distribution(a, b, &mut random)).flatten();
        let (whole_a, whole_b) = (a.whole(), b.whole());
        let mut rows = Vec::new();
        let common = Common::of(&mix);
        rows.extend(measure::all(a, b, &mix, &common, &bars).into_iter().map(Row::Smooth));
        rows.extend(counted(a, b, (&whole_a, &whole_b), &mix, &bars));
        let judge = Judge::new(a, b, rows, &common, distribution.is_some(), threshold, &mut random);
        Self {
            measures: judge
                .verdicts(&Sum::new(whole_a.clone(), a, &common), &Sum::new(whole_b.clone(), b, &common)),
            judged: judge.family,
            costs: Costs { a: cost(a, &whole_a), b: cost(b, &whole_b) },
            distribution,
            findings: caution::findings(&mix, &whole_a, &whole_b),
            warnings: caution::warnings(a, b, &mix),
            unfit: caution::unfit(a, b),
            mix,
            threshold,
        }
    }

    /// Any measure is worse beyond the threshold.
    pub fn has_regression(&self) -> bool {
        self.measures.iter().any(|measure| measure.verdict == Verdict::Worse { regression: true })
    }

    /// Some measure was compared: it is better, worse, or not seen to differ.
    pub fn compared_any(&self) -> bool {
        self.measures.iter().any(|measure| !matches!(measure.verdict, Verdict::Unknown { .. }))
    }

    /// The distribution of GET_PA latencies differs by more than chance explains.
    pub fn distributions_differ(&self) -> Option<bool> {
        self.distribution.map(|chance| chance < LEVEL / self.judged.max(1) as f64)
    }

    /// Both sides are evidence, and something could be compared.
    pub fn is_whole(&self) -> bool {
        self.unfit.is_empty() && self.compared_any()
    }
}

fn cost(side: &Side, whole: &Block) -> Option<ScanCost> {
    let scans = whole.scans.as_ref()?;
    Some(ScanCost::of(scans, side.conditions()))
}

/// A row of the comparison.
enum Row {
    Smooth(Measure),
    Counted { name: &'static str, contrast: rare::Contrast, barred: Option<String> },
}

/// What is counted.
fn counted(a: &Side, b: &Side, (whole_a, whole_b): (&Block, &Block), mix: &Mix, bars: &Bars) -> [Row; 3] {
    let row = |name, of: &dyn Fn(&Block) -> Vec<(f64, f64)>, barred: Option<String>| {
        let contrast = rare::contrast(&rare::Counts::of(a, of), &rare::Counts::of(b, of));
        Row::Counted { name, contrast, barred }
    };
    // Where no call of a side succeeded there is no mix to differ.
    let mixes = bars.mix.clone().filter(|_| whole_a.calls() > 0 && whole_b.calls() > 0);
    [
        row("failed calls", &rare::failed, mixes.or_else(|| caution::other_questions(a, b))),
        row(
            "slow GET_PA",
            &rare::slow_calls(whole_a, whole_b),
            bars.mix.clone().or_else(|| bars.instrument.clone()),
        ),
        row("slow scans", &rare::slow_scans(mix, whole_a, whole_b), bars.instrument.clone()),
    ]
}

/// What verdicts go by.
struct Judge {
    rows: Vec<Row>,
    errors: Vec<Option<f64>>,
    /// Rows that can have a verdict, and the distribution.
    family: usize,
    /// Whether the sides say how measures vary.
    enough: bool,
    freedom: f64,
    threshold: f64,
}

impl Judge {
    fn new(
        a: &Side,
        b: &Side,
        rows: Vec<Row>,
        common: &Common,
        distribution: bool,
        threshold: f64,
        random: &mut fastrand::Rng,
    ) -> Self {
        let enough = a.independent().min(b.independent()) >= FEWEST_BLOCKS || a.files() > 1 && b.files() > 1;
        let freedom = match (a.files(), b.files()) {
            (1, 1) => a.independent().min(b.independent()).saturating_sub(1),
            (a, b) => (a + b).saturating_sub(2),
        };
        let smooth: Vec<&Measure> = rows
            .iter()
            .filter_map(|row| if let Row::Smooth(measure) = row { Some(measure) } else { None })
            .collect();
        let errors =
            if enough { resample::errors(a, b, &smooth, common, random) } else { vec![None; smooth.len()] };
        let judged =
            smooth.iter().zip(&errors).filter(|(measure, error)| measure.barred.is_none() && error.is_some());
        let counted = rows.iter().filter(
            |row| matches!(row, Row::Counted { contrast, barred: None, .. } if contrast.a.0 + contrast.b.0 > 0.0),
        );
        let family = judged.count() + counted.count() + usize::from(distribution);
        Self { errors, family, enough, freedom: freedom.max(1) as f64, threshold, rows }
    }

    /// How many standard errors are exceeded by chance with this probability, given how few there are to learn
    /// the error from.
    fn student(&self, chance: f64) -> f64 {
        let student = StudentsT::new(0.0, 1.0, self.freedom);
        student.map_or(f64::INFINITY, |student| student.inverse_cdf(1.0 - chance))
    }

    /// The chance, both ways, that one row is allowed.
    fn level(&self) -> f64 {
        LEVEL / self.family.max(1) as f64
    }

    fn verdicts(&self, a: &Sum<'_>, b: &Sum<'_>) -> Vec<Compared> {
        let mut errors = self.errors.iter();
        let verdict = |row: &Row| match row {
            Row::Smooth(measure) => self.smooth(measure, errors.next().copied().flatten(), a, b),
            Row::Counted { name, contrast, barred } => self.counted(name, *contrast, barred.clone()),
        };
        self.rows.iter().map(verdict).collect()
    }

    fn smooth(&self, measure: &Measure, error: Option<f64>, a: &Sum<'_>, b: &Sum<'_>) -> Compared {
        let (of_a, of_b) = ((measure.of)(a), (measure.of)(b));
        let mut row = Compared {
            measure: measure.name.clone(),
            unit: measure.unit,
            more_is_worse: measure.more_is_worse,
            a: of_a.map(|value| value.is),
            b: of_b.map(|value| value.is),
            change: None,
            margin: None,
            counts: None,
            verdict: Verdict::Unknown { why: String::new() },
        };
        let unknown =
            |row: Compared, why: &str| Compared { verdict: Verdict::Unknown { why: why.into() }, ..row };
        let (Some(from), Some(to)) = (of_a, of_b) else {
            let why = if of_a.or(of_b).is_some() { "not on both sides" } else { "on neither side" };
            return unknown(row, measure.barred.as_deref().unwrap_or(why));
        };
        if let Some(why) = &measure.barred {
            return unknown(row, why);
        }
        if from.is <= 0.0 || to.is <= 0.0 {
            let why = if from.is.max(to.is) > 0.0 { "not above 0 on one side" } else { "not above 0" };
            return unknown(row, why);
        }
        // Logarithms: a ratio and its inverse are the same distance from 1.
        let change = (to.is / from.is).ln();
        row.change = Some(change.exp_m1());
        if !self.enough {
            return unknown(row, "too few windows, record longer");
        }
        let Some(error) = error else { return unknown(row, "too few calls") };
        let error = [from.resolution / from.is, to.resolution / to.is, measure.beyond]
            .iter()
            .fold(error, |sum, part| sum.hypot(*part));
        let needed = self.student(self.level() / 2.0) * error + measure.shift;
        row.margin = Some((self.student(0.025) * error + measure.shift).exp_m1());
        row.verdict = if change.abs() > needed {
            self.told(if measure.more_is_worse { change } else { -change }, change.exp_m1())
        } else {
            same((needed + self.student(0.2) * error).exp_m1())
        };
        row
    }

    fn counted(&self, name: &str, contrast: rare::Contrast, barred: Option<String>) -> Compared {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
        let whole = |(of, all): (f64, f64)| (of as u64, all as u64);
        let share = |(of, all): (f64, f64)| (all > 0.0).then(|| of / all);
        let (of_a, of_b) = (share(contrast.a), share(contrast.b));
        let mut row = Compared {
            measure: name.to_owned(),
            unit: "share",
            more_is_worse: true,
            a: of_a,
            b: of_b,
            change: None,
            margin: None,
            counts: Some([whole(contrast.a), whole(contrast.b)]),
            verdict: Verdict::Unknown { why: String::new() },
        };
        let unknown =
            |row: Compared, why: &str| Compared { verdict: Verdict::Unknown { why: why.into() }, ..row };
        let (Some(from), Some(to)) = (of_a, of_b) else {
            let why = if of_a.or(of_b).is_some() { "not on both sides" } else { "on neither side" };
            return unknown(row, barred.as_deref().unwrap_or(why));
        };
        if from + to <= 0.0 {
            return unknown(row, "none on both sides");
        }
        if let Some(why) = barred {
            return unknown(row, &why);
        }
        if !self.enough {
            return unknown(row, "too few windows, record longer");
        }
        let both = from > 0.0 && to > 0.0;
        row.change = both.then(|| to / from - 1.0);
        row.margin = both.then(|| (self.student(0.025) * contrast.error).exp_m1());
        row.verdict = if contrast.chance < self.level() {
            // From none to some is beyond any threshold.
            self.told(to - from, row.change.unwrap_or(f64::INFINITY))
        } else {
            match same(((self.student(self.level() / 2.0) + self.student(0.2)) * contrast.error).exp_m1()) {
                Verdict::Unknown { .. } => {
                    Verdict::Unknown { why: "too few for a verdict, chance explains them".to_owned() }
                }
                known => known,
            }
        };
        row
    }

    /// A verdict on what is known to differ; `worse` is above 0 where B is worse.
    fn told(&self, worse: f64, change: f64) -> Verdict {
        if worse > 0.0 {
            Verdict::Worse { regression: change.abs() > self.threshold }
        } else {
            Verdict::Better
        }
    }
}

fn same(would_have_seen: f64) -> Verdict {
    if would_have_seen <= BLIND {
        Verdict::Same { would_have_seen }
    } else {
        Verdict::Unknown { why: "varies so much that twice as much would not be seen".to_owned() }
    }
}

#[cfg(test)]
mod tests;
