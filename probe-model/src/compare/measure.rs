//! What is measured on each side: latency of equal work, the two parts of a scan's cost, contiguity.

use std::cell::OnceCell;

use super::mix::{Mix, Mixes};
use super::question;
use super::side::{Block, Side};
use crate::histogram::Histogram;
use crate::scan_cost::{Conditions, Estimate, Linearity, ScanCost, Work};

/// A value and how well it is resolved: the standard deviation that its buckets alone give it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Value {
    pub(super) is: f64,
    pub(super) resolution: f64,
}

impl Value {
    fn exact(is: f64) -> Self {
        Self { is, resolution: 0.0 }
    }
}

/// What measures are computed from: a block, or many in one, and its cost where that is asked for.
pub(super) struct Sum<'a> {
    block: Block,
    common: &'a Common,
    conditions: Conditions,
    cost: OnceCell<Option<ScanCost>>,
}

impl<'a> Sum<'a> {
    /// A block of a side, or many in one.
    pub(super) fn new(block: Block, side: &Side, common: &'a Common) -> Self {
        Self { block, common, conditions: side.conditions(), cost: OnceCell::new() }
    }

    /// A percentile by this side's clock: `None` below what that tells apart.
    fn resolved(&self, value: Value) -> Option<Value> {
        let step = self.conditions.clock_step as f64;
        let resolution =
            if step > 1.0 { value.resolution.hypot(step / 12f64.sqrt()) } else { value.resolution };
        (step <= 1.0 || value.is >= step).then_some(Value { resolution, ..value })
    }

    /// The cost of the compared lengths.
    fn cost(&self) -> Option<&ScanCost> {
        self.cost.get_or_init(|| self.common.fit(&self.block, self.conditions)).as_ref()
    }
}

/// The lengths that are compared, with their shares of the common mix.
pub(super) struct Common {
    classes: Vec<(u32, f64)>,
}

impl Common {
    pub(super) fn of(mix: &Mix) -> Self {
        Self { classes: mix.common().collect() }
    }

    fn fit(&self, block: &Block, conditions: Conditions) -> Option<ScanCost> {
        let scans = block.scans.as_ref()?;
        let ok = self
            .classes
            .iter()
            .filter_map(|(class, _)| Some((*class, scans.ok.get(class)?.clone())))
            .collect();
        Some(ScanCost::of(Work { ok: &ok, runs: &scans.runs, pages: scans.pages }, conditions))
    }
}

/// How a measure is computed.
type Compute = Box<dyn Fn(&Sum<'_>) -> Option<Value>>;

/// A measure.
pub(super) struct Measure {
    /// For people.
    pub(super) name: String,
    /// Of its values: `ns`, `bytes` or `share`.
    pub(super) unit: &'static str,
    /// Whether more of it is worse.
    pub(super) more_is_worse: bool,
    /// Its value; `None` without calls.
    pub(super) of: Compute,
    /// What neighbouring windows are compared by: itself, or something quicker to compute that moves with it.
    pub(super) moves_with: Option<Compute>,
    /// Why no verdict on it can hold, whatever its values are.
    pub(super) barred: Option<String>,
    /// What the work itself may shift it by, as a share.
    pub(super) shift: f64,
    /// How uncertain it is beyond what windows show, as a share of it, on both sides together.
    pub(super) beyond: f64,
}

/// What bars verdicts on latencies.
pub(super) struct Bars {
    /// Calls were measured by other means, or not all of them.
    pub(super) instrument: Option<String>,
    /// Calls do other work.
    pub(super) mix: Option<String>,
}

/// Every measure of two sides.
pub(super) fn all(a: &Side, b: &Side, mix: &Mix, common: &Common, bars: &Bars) -> Vec<Measure> {
    let (whole_a, whole_b) = (a.whole(), b.whole());
    let mut all = Vec::new();
    for (name, q) in [("GET_PA median", 0.5), ("GET_PA 90 %", 0.9), ("GET_PA 99 %", 0.99)] {
        let shift = match mix.mixes {
            Mixes::Near { by } => shifted(&whole_a, q, by).max(shifted(&whole_b, q, by)),
            _ => 0.0,
        };
        all.push(Measure {
            shift,
            barred: bars.mix.clone().or_else(|| bars.instrument.clone()),
            ..latency(name, move |sum| sum.resolved(quantile(&[(sum.block.get_pa.as_ref()?, 1.0)], q)?))
        });
    }
    all.push(Measure {
        barred: bars.instrument.clone().or_else(|| unpaired(&whole_a, &whole_b)),
        ..latency("GET_PA less scan", |sum| Some(Value::exact(outside(&sum.block)?)))
    });
    let none = common.classes.is_empty().then(|| "no scan length can be compared".to_owned());
    for (name, q) in [("scan median", 0.5), ("scan 99 %", 0.99)] {
        all.push(Measure {
            barred: none.clone().or_else(|| bars.instrument.clone()),
            ..latency(name, move |sum| standardised(sum, &sum.common.classes, q))
        });
    }
    for class in mix.classes.iter().filter(|class| class.weight.is_some() && common.classes.len() > 1) {
        let number = class.class;
        all.push(Measure {
            barred: bars.instrument.clone(),
            ..latency(format!("scan, {}", class.name()), move |block| {
                standardised(block, &[(number, 1.0)], 0.5)
            })
        });
    }
    for measure in &mut all {
        let is_known =
            |side: &Side, whole: &Block| (measure.of)(&Sum::new(whole.clone(), side, common)).is_some();
        let coarse = |side: &Side, whole: &Block| side.conditions().clock_step > 1 && !is_known(side, whole);
        if (coarse(a, &whole_a) && whole_a.calls() > 0) || (coarse(b, &whole_b) && whole_b.calls() > 0) {
            measure.barred =
                measure.barred.take().or_else(|| Some("below what the clock tells apart".to_owned()));
        }
    }
    all.extend(cost(a, b, common, bars));
    all.push(run(a, b));
    all
}

fn latency(name: impl Into<String>, of: impl Fn(&Sum<'_>) -> Option<Value> + 'static) -> Measure {
    Measure {
        name: name.into(),
        unit: "ns",
        more_is_worse: true,
        of: Box::new(of),
        moves_with: None,
        barred: None,
        shift: 0.0,
        beyond: 0.0,
    }
}

/// Mean latency of a GET_PA without its scan, ns: the same work whatever is scanned.
fn outside(block: &Block) -> Option<f64> {
    let calls = block.get_pa.as_ref()?.mean()?;
    let (count, sum) = (block.scans.as_ref()?.ok.values())
        .fold((0u64, 0u64), |all, class| (all.0 + class.count, all.1.wrapping_add(class.sum)));
    (count > 0).then(|| calls - sum as f64 / count as f64)
}

/// Whether a side has calls without scans, or scans without calls: 1 in 1,000 may be under way at the end.
fn unpaired(a: &Block, b: &Block) -> Option<String> {
    let differ = |side: &Block| side.calls().abs_diff(side.scanned()) > side.calls() / 1000 + 1;
    (differ(a) || differ(b)).then(|| "calls and scans are not the same calls".to_owned())
}

/// A percentile of the scans as if their lengths had these shares.
fn standardised(sum: &Sum<'_>, common: &[(u32, f64)], q: f64) -> Option<Value> {
    let scans = sum.block.scans.as_ref()?;
    let parts: Option<Vec<(&Histogram, f64)>> = common
        .iter()
        .map(|(class, weight)| {
            scans.ok.get(class).filter(|class| class.count > 0).map(|class| (class, *weight))
        })
        .collect();
    sum.resolved(quantile(&parts?, q)?)
}

/// A percentile of distributions that are mixed by weight, interpolated inside its bucket: neighbouring draws
/// must not jump from bucket to bucket.
fn quantile(parts: &[(&Histogram, f64)], q: f64) -> Option<Value> {
    let scheme = parts.first()?.0.scheme();
    let mut all: Vec<(u32, f64)> = Vec::new();
    for (part, weight) in parts {
        if part.count == 0 || part.scheme() != scheme {
            return None;
        }
        let each = weight / part.count as f64;
        all.extend(part.buckets.iter().map(|(&index, &count)| (index, each * count as f64)));
    }
    if parts.len() > 1 {
        all.sort_unstable_by_key(|(index, _)| *index);
    }
    let total: f64 = parts.iter().map(|(_, weight)| weight).sum();
    let (rank, mut below) = (q * total, 0.0);
    let mut shares = all.into_iter().peekable();
    while let Some((index, mut share)) = shares.next() {
        while let Some((_, more)) = shares.next_if(|(next, _)| *next == index) {
            share += more;
        }
        if below + share >= rank - 1e-12 && share > 0.0 {
            let (low, next) =
                (scheme.lowest(index as usize) as f64, scheme.highest(index as usize) as f64 + 1.0);
            let is = low + ((rank - below) / share).clamp(0.0, 1.0) * (next - low);
            // Where a bucket holds them all, the value is anywhere in it; where it holds few, its
            // neighbours say where.
            let resolution = (next - low) / 12f64.sqrt() * (2.0 * share / total).min(1.0);
            return Some(Value { is, resolution });
        }
        below += share;
    }
    // Among the values beyond the range.
    None
}

/// What a mix that differs by a share of the calls can do to a percentile, as a share.
fn shifted(whole: &Block, q: f64, by: f64) -> f64 {
    let at = |q: f64| quantile(&[(whole.get_pa.as_ref()?, 1.0)], q.clamp(0.0, 1.0));
    match (at(q - by), at(q + by)) {
        (Some(low), Some(high)) if low.is > 0.0 => high.is / low.is - 1.0,
        _ => f64::INFINITY,
    }
}

/// The two parts of a scan's cost, over the lengths that both sides have.
fn cost(a: &Side, b: &Side, common: &Common, bars: &Bars) -> [Measure; 2] {
    let none = || "no scan length can be compared".to_owned();
    let (barred, beyond) =
        match (common.fit(&a.whole(), a.conditions()), common.fit(&b.whole(), b.conditions())) {
            (Some(a), Some(b)) if !common.classes.is_empty() => comparable(&a, &b),
            _ => (Some(none()), (0.0, 0.0)),
        };
    let part = |name, barred, beyond, of: fn(&ScanCost) -> Option<Estimate>| Measure {
        barred,
        beyond,
        moves_with: Some(Box::new(|sum| standardised(sum, &sum.common.classes, 0.5))),
        ..latency(name, move |sum| Some(Value::exact(of(sum.cost()?)?.nanos)))
    };
    [
        part("fixed cost", bars.instrument.clone().or_else(|| barred.clone()), beyond.0, |cost| cost.fixed),
        // The probes' share is the same for every length: it is in the fixed part.
        part("a further page", barred, beyond.1, |cost| cost.further_page),
    ]
}

/// Why the parts of two fits cannot be compared; and where they can, how uncertain they are beyond what windows
/// show, as shares: two lines through the same lengths are off alike, others are not.
fn comparable(a: &ScanCost, b: &ScanCost) -> (Option<String>, (f64, f64)) {
    let why = |cost: &ScanCost| match cost.linearity {
        Linearity::TooFew => Some("too few scans"),
        Linearity::OneLength { .. } => Some("one length only"),
        Linearity::NotLinear { .. } => Some("not linear"),
        Linearity::DoesNotGrow { .. } => Some("does not grow with pages"),
        Linearity::TwoLengthsOnly { .. } | Linearity::Scattered { .. } | Linearity::Linear { .. } => None,
    };
    if let Some(why) = why(a).or_else(|| why(b)) {
        return (Some(why.to_owned()), (0.0, 0.0));
    }
    let same = a.lengths.len() == b.lengths.len()
        && a.lengths.iter().zip(&b.lengths).all(|(a, b)| (a.pages / b.pages - 1.0).abs() < 0.01);
    if same {
        return (None, (0.0, 0.0));
    }
    let tested = |cost: &ScanCost| matches!(cost.linearity, Linearity::Linear { .. });
    if !tested(a) || !tested(b) {
        return (Some("other lengths, linearity not tested".to_owned()), (0.0, 0.0));
    }
    let share = |cost: &ScanCost| {
        let (fixed, further) = cost.parts()?;
        let of = |part: Estimate| part.margin / part.nanos.abs().max(f64::MIN_POSITIVE) / 1.96;
        Some((of(fixed), of(further)))
    };
    let (of_a, of_b) = (share(a).unwrap_or_default(), share(b).unwrap_or_default());
    (None, (of_a.0.hypot(of_b.0), of_a.1.hypot(of_b.1)))
}

fn run(a: &Side, b: &Side) -> Measure {
    let question = question::of(a, b);
    let asked = question.unwrap_or(question::Question { cap: None });
    Measure {
        name: "mean run".to_owned(),
        unit: "bytes",
        more_is_worse: false,
        of: Box::new(move |sum| Some(Value::exact(asked.answer(&sum.block)?))),
        moves_with: None,
        barred: question.err().map(str::to_owned),
        shift: 0.0,
        beyond: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use probe_common::bucket::LATENCY;

    fn filled(values: &[(u64, u64)]) -> Histogram {
        let mut histogram = Histogram::new(LATENCY);
        for &(value, count) in values {
            (0..count).for_each(|_| histogram.record(value));
        }
        histogram
    }

    #[test]
    fn percentiles_move_smoothly() {
        let histogram = filled(&[(100_000, 1000)]);
        let at = |q| quantile(&[(&histogram, 1.0)], q).unwrap();
        let (low, high) = (at(0.1).is, at(0.9).is);
        assert!(low < high && (high / low - 1.0) < 0.01, "{low} {high}");
        assert!(at(0.5).resolution > 0.001 * low);
        assert_eq!(quantile(&[(&Histogram::new(LATENCY), 1.0)], 0.5), None);
    }

    #[test]
    fn a_mix_is_by_weight_and_not_by_number() {
        let (short, long) = (filled(&[(1000, 990)]), filled(&[(50_000, 10)]));
        let median = |weight| quantile(&[(&short, 1.0 - weight), (&long, weight)], 0.5).unwrap().is;
        assert!(median(0.01) < 1100.0 && median(0.6) > 40_000.0);
    }
}
