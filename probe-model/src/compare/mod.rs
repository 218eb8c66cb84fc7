//! Comparison of two sides, each of one recording or several: measures, how sure they are, and a verdict
//! for each.
//!
//! How much a measure varies is learnt from the recordings themselves: each is cut into blocks of
//! neighbouring windows, and the measure is computed again and again from blocks drawn at random (a
//! bootstrap of blocks, and of recordings first where a side has several). Neighbours that resemble each
//! other count for less. No shape of distribution is assumed.

mod block;
mod measure;
mod resample;

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::loss::Balance;
use crate::origin::{Header, Recording};

pub use block::Side;
pub use measure::{MEASURES, Measure};

/// How sure a verdict is: the chance that any of the verdicts on two sides without a difference is one.
pub const LEVEL: f64 = 0.05;
/// Fewer blocks a side say nothing about how a measure varies.
const FEWEST_BLOCKS: usize = 5;

/// A measure on both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// Its name.
    pub measure: &'static str,
    /// What it is of.
    pub unit: &'static str,
    /// Whether more of it is worse.
    pub more_is_worse: bool,
    /// On side A; `None` where it has no value.
    pub a: Option<f64>,
    /// On side B.
    pub b: Option<f64>,
    /// By which share B is above A: 0.12 is 12 % more.
    pub change: Option<f64>,
    /// The change is this exact, both ways, at 95 %.
    pub margin: Option<f64>,
    /// What to make of it.
    pub verdict: Verdict,
}

/// What to make of a change.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
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
        why: &'static str,
    },
}

/// The comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Every measure.
    pub measures: Vec<Compared>,
    /// Chance that two sides of one distribution of GET_PA latencies differ by as much as these do;
    /// `None` where there are too few calls to tell.
    pub distribution: Option<f64>,
    /// Why the two sides may not be comparable.
    pub warnings: Vec<String>,
    /// What a regression must exceed, as a share.
    pub threshold: f64,
}

impl Comparison {
    /// Compare two sides; `seed` makes the draws repeatable.
    pub fn of(a: &Side, b: &Side, threshold: f64, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let draws = resample::draws(a, b, &mut random);
        let measures = MEASURES
            .iter()
            .enumerate()
            .map(|(place, measure)| compared(measure, place, a, b, &draws, threshold))
            .collect();
        Self {
            measures,
            distribution: resample::distribution(a, b, &mut random),
            warnings: warnings(a, b),
            threshold,
        }
    }

    /// Any measure is worse beyond the threshold.
    pub fn has_regression(&self) -> bool {
        self.measures.iter().any(|measure| measure.verdict == Verdict::Worse { regression: true })
    }
}

fn compared(
    measure: &Measure,
    place: usize,
    a: &Side,
    b: &Side,
    draws: &resample::Draws,
    threshold: f64,
) -> Compared {
    let (of_a, of_b) = ((measure.of)(&a.whole()), (measure.of)(&b.whole()));
    let unknown = |why| Compared {
        measure: measure.name,
        unit: measure.unit,
        more_is_worse: measure.more_is_worse,
        a: of_a,
        b: of_b,
        change: None,
        margin: None,
        verdict: Verdict::Unknown { why },
    };
    let (Some(from), Some(to)) = (of_a, of_b) else { return unknown("not on both sides") };
    if from <= 0.0 || to <= 0.0 {
        return if from.max(to) > 0.0 { unknown("0 on one side") } else { unknown("0 on both sides") };
    }
    let change = (to / from).ln();
    let enough = a.independent().min(b.independent()) >= FEWEST_BLOCKS || a.files() > 1 && b.files() > 1;
    if !enough {
        let mut row = unknown("too few windows, record longer");
        row.change = Some(change.exp_m1());
        return row;
    }
    let Some(error) = draws.error(place) else { return unknown("too few calls") };
    // Logarithms: a ratio and its inverse are the same distance from 1.
    let student = |chance: f64| quantile(a, b, chance);
    let worse = if measure.more_is_worse { change } else { -change };
    let sure = LEVEL / MEASURES.len() as f64 / 2.0;
    let verdict = if change.abs() > student(sure) * error {
        if worse > 0.0 {
            Verdict::Worse { regression: change.exp_m1().abs() > threshold }
        } else {
            Verdict::Better
        }
    } else {
        Verdict::Same { would_have_seen: ((student(sure) + student(0.2)) * error).exp_m1() }
    };
    Compared {
        change: Some(change.exp_m1()),
        margin: Some((student(0.025) * error).exp_m1()),
        verdict,
        ..unknown("")
    }
}

/// How many standard errors are exceeded by chance with this probability, given how few there are to learn
/// the error from.
fn quantile(a: &Side, b: &Side, chance: f64) -> f64 {
    let freedom = match (a.files(), b.files()) {
        (1, 1) => a.independent().min(b.independent()).saturating_sub(1),
        (a, b) => (a + b).saturating_sub(2),
    };
    let student = StudentsT::new(0.0, 1.0, freedom.max(1) as f64);
    student.map_or(f64::INFINITY, |student| student.inverse_cdf(1.0 - chance))
}

/// Why two sides may not be comparable.
fn warnings(a: &Side, b: &Side) -> Vec<String> {
    let mut all = Vec::new();
    let (one, two) = (a.header(), b.header());
    let mut differ = |what: &str, of: fn(&Header) -> String, why: &str| {
        let (of_a, of_b) = (one.map(of).unwrap_or_default(), two.map(of).unwrap_or_default());
        if of_a != of_b {
            all.push(format!("{what} differs ({of_a}; {of_b}): {why}"));
        }
    };
    differ("GET_PA's ABI", |header| header.abi.clone(), "calls do not mean the same");
    differ("backend", |header| header.backend.clone(), "the probes' own cost differs");
    differ("page size", |header| header.page_size.to_string(), "a scan of as many bytes has other steps");
    differ("machine", |header| header.machine.clone(), "this compares machines");
    differ("processor", |header| header.host.cpu.clone().unwrap_or_default(), "this compares machines");
    differ("number of CPUs", |header| header.cpus.to_string(), "this compares machines");
    let clock = |header: &Header| header.host.clocksource.clone().unwrap_or_default();
    differ("clock source", clock, "reading the clock costs otherwise");
    for (name, side) in [("A", a), ("B", b)] {
        if side.incomplete > 0 {
            all.push(format!("{name} is not complete: calls were lost, or it was cut off"));
        }
        if side.biased > 0 {
            all.push(format!("{name} lost slow calls: its percentiles are too low"));
        }
    }
    let single = match (a.files(), b.files()) {
        (1, 1) => Some("each side is one recording"),
        (1, _) => Some("A is one recording"),
        (_, 1) => Some("B is one recording"),
        _ => None,
    };
    if let Some(single) = single {
        all.push(format!(
            "{single}: the ± is how much its windows vary, and cannot know how much another run of the same \
             setting would differ; to know, record both several times and give all, as A1,A2,A3 B1,B2,B3"
        ));
    }
    if let (Some(of_a), Some(of_b)) = (a.rate(), b.rate())
        && !(0.5..=2.0).contains(&(of_b / of_a))
    {
        all.push(format!("load differs ({of_a:.0} and {of_b:.0} GET_PA a second)"));
    }
    let mix = a.mix_distance(b);
    if mix > 0.1 {
        all.push(format!(
            "scan lengths differ ({:.0} % of the scans are of other lengths): compare time per page",
            100.0 * mix
        ));
    }
    all
}

/// Whether what was recorded can be trusted to be all.
pub(crate) fn quality(recording: &Recording) -> (bool, bool) {
    let biased = recording.window.counters.balances().values().any(Balance::is_biased);
    (recording.is_complete(), biased)
}

#[cfg(test)]
mod tests;
