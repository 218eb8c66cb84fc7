//! What happens rarely: slow calls and failed ones. Too few for a percentile, so they are counted, and the
//! counts are compared exactly.
//!
//! Of all that happened on both sides, B has a share by chance: that of the work which is B's. Bursts count
//! for less than as many apart: counts are divided by how much more they vary from window to window than
//! chance lets them.

use statrs::function::beta::beta_reg;

use super::mix::Mix;
use super::side::{Block, Side};
use crate::histogram::Histogram;
use crate::sample::Scans;
use crate::unit;

/// A scan is slow from this many times the median of its length on; a GET_PA from as many times the 99 %.
pub(super) const SLOW: f64 = 10.0;
/// A longest call this many times the other side's is said.
const FAR: f64 = 3.0;

/// How often something happened on a side, in classes of work that are compared each with itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// By file and block: happened, and could have, of each class.
    files: Vec<Vec<Vec<(f64, f64)>>>,
}

impl Counts {
    pub(super) fn of(side: &Side, of: impl Fn(&Block) -> Vec<(f64, f64)>) -> Self {
        Self { files: side.blocks().map(|blocks| blocks.iter().map(&of).collect()).collect() }
    }

    fn sums(&self) -> Vec<(f64, f64)> {
        add(self.files.iter().flatten())
    }

    /// How often it happened, and could have.
    pub(super) fn total(&self) -> (f64, f64) {
        self.sums().iter().fold((0.0, 0.0), |sum, class| (sum.0 + class.0, sum.1 + class.1))
    }

    /// By how much more than chance counts vary: 1, or more.
    fn dispersion(&self) -> f64 {
        let shares: Vec<f64> =
            self.sums().iter().map(|(of, all)| if *all > 0.0 { of / all } else { 0.0 }).collect();
        let spread = |units: &[Vec<(f64, f64)>]| {
            let (mut squares, mut expected) = (0.0, 0.0);
            for unit in units {
                let due: f64 = unit.iter().zip(&shares).map(|(class, share)| class.1 * share).sum();
                squares += (unit.iter().map(|class| class.0).sum::<f64>() - due).powi(2);
                expected += due;
            }
            let units = units.len() as f64;
            if units > 1.0 && expected > 0.0 { squares / expected * units / (units - 1.0) } else { 1.0 }
        };
        let mut worst = 1.0f64;
        // A burst may last for several windows.
        for together in [1, 2, 4] {
            let units =
                self.files.iter().flat_map(|file| file.chunks(together).map(|blocks| add(blocks.iter())));
            let units: Vec<_> = units.collect();
            if together == 1 || units.len() >= super::FEWEST_BLOCKS {
                worst = worst.max(spread(&units));
            }
        }
        if self.files.len() > 1 {
            let files: Vec<_> = self.files.iter().map(|file| add(file.iter())).collect();
            worst = worst.max(spread(&files));
        }
        worst
    }
}

fn add<'a>(blocks: impl Iterator<Item = &'a Vec<(f64, f64)>>) -> Vec<(f64, f64)> {
    let mut sum: Vec<(f64, f64)> = Vec::new();
    for block in blocks {
        sum.resize(sum.len().max(block.len()), (0.0, 0.0));
        sum.iter_mut().zip(block).for_each(|(sum, class)| {
            sum.0 += class.0;
            sum.1 += class.1;
        });
    }
    sum
}

/// Counts of both sides, compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contrast {
    /// How often it happened on A, and could have.
    pub(super) a: (f64, f64),
    /// The same on B.
    pub(super) b: (f64, f64),
    /// Chance of counts as unequal as these, or more, where there is no difference.
    pub(super) chance: f64,
    /// Standard error of the logarithm of the ratio of shares; where a side has none, as if it had one half.
    pub(super) error: f64,
}

pub(super) fn contrast(a: &Counts, b: &Counts) -> Contrast {
    let classes: Vec<_> = a.sums().into_iter().zip(b.sums()).collect();
    let both: f64 = classes.iter().map(|(a, b)| a.0 + b.0).sum();
    // B's part of all by chance.
    let due: f64 = classes
        .iter()
        .map(|(a, b)| (a.0 + b.0) * if a.1 + b.1 > 0.0 { b.1 / (a.1 + b.1) } else { 0.0 })
        .sum();
    let (of_a, of_b) = (a.total(), b.total());
    let dispersion = a.dispersion().max(b.dispersion());
    let share = if both > 0.0 { due / both } else { 0.5 };
    let (events, theirs) = (both / dispersion, of_b.0 / dispersion);
    let chance = if both > 0.0 {
        (2.0 * at_least(theirs, events, share).min(at_least(events - theirs, events, 1.0 - share))).min(1.0)
    } else {
        1.0
    };
    let part = |of: f64| 1.0 / (of / dispersion).max(0.5);
    Contrast { a: of_a, b: of_b, chance, error: (part(of_a.0) + part(of_b.0)).sqrt() }
}

/// The chance that `some` or more of `all` fall to a side with this share. Numbers need not be whole.
fn at_least(some: f64, all: f64, share: f64) -> f64 {
    if some <= 0.0 || !(0.0..1.0).contains(&share) {
        return 1.0;
    }
    beta_reg(some, (all - some).max(0.0) + 1.0, share.max(f64::MIN_POSITIVE))
}

/// Slow scans of each compared length: those that took ten times the median or more, the slower side's.
pub(super) fn slow_scans(mix: &Mix, a: &Block, b: &Block) -> impl Fn(&Block) -> Vec<(f64, f64)> + use<> {
    let of = |block: &Block, class| block.scans.as_ref().and_then(|scans| scans.ok.get(&class).cloned());
    let from = |class| {
        Some((
            class,
            SLOW * of(a, class)?.quantile(0.5).upper().max(of(b, class)?.quantile(0.5).upper())? as f64,
        ))
    };
    let from: Vec<(u32, f64)> = mix.common().filter_map(|(class, _)| from(class)).collect();
    move |block| {
        let scans = block.scans.as_ref();
        from.iter()
            .map(|(class, from)| {
                scans
                    .and_then(|scans| scans.ok.get(class))
                    .map_or((0.0, 0.0), |all| (beyond(all, *from), all.count as f64))
            })
            .collect()
    }
}

/// Slow GET_PA calls: those that took ten times the 99 % or more, the slower side's.
pub(super) fn slow_calls(a: &Block, b: &Block) -> impl Fn(&Block) -> Vec<(f64, f64)> + use<> {
    let high = |block: &Block| block.get_pa.as_ref().and_then(|calls| calls.quantile(0.99).upper());
    let from = SLOW * high(a).max(high(b)).unwrap_or(0) as f64;
    move |block| {
        vec![block.get_pa.as_ref().map_or((0.0, 0.0), |calls| (beyond(calls, from), calls.count as f64))]
    }
}

/// Failed GET_PA calls.
pub(super) fn failed(block: &Block) -> Vec<(f64, f64)> {
    vec![(block.failed as f64, block.asked() as f64)]
}

/// Values of `from` and more.
fn beyond(histogram: &Histogram, from: f64) -> f64 {
    let scheme = histogram.scheme();
    let counted = histogram
        .buckets
        .iter()
        .rev()
        .take_while(|&(&index, _)| scheme.lowest(index as usize) as f64 >= from);
    let counted: u64 = counted.map(|(_, count)| count).sum();
    counted.saturating_add(histogram.saturated) as f64
}

/// The longest calls of each side where they are far beyond the other's: a maximum has no margin, so this is a
/// finding and no verdict.
pub(super) fn longest(mix: &Mix, a: &Block, b: &Block) -> Vec<String> {
    let mut said = Vec::new();
    let of = |block: &Block, class| block.scans.as_ref().and_then(|scans| scans.ok.get(&class).cloned());
    for class in &mix.classes {
        if class.weight.is_some()
            && let (Some(a), Some(b)) = (of(a, class.class), of(b, class.class))
        {
            said.extend(farther(&format!("scans of {}", class.name()), &a, &b));
        }
    }
    // What was slow in the scan is said above, or is of lengths that are not compared.
    let outside = |block: &Block| {
        let scan = block.scans.as_ref().and_then(Scans::latency).and_then(|scans| scans.largest().upper());
        block.get_pa.clone().filter(|calls| calls.largest().upper() >= scan.map(|scan| 3 * scan))
    };
    if let (Some(of_a), Some(of_b)) = (&a.get_pa, &b.get_pa)
        && (outside(a).is_some() || outside(b).is_some())
    {
        let longer = if of_a.largest().upper() > of_b.largest().upper() { outside(a) } else { outside(b) };
        said.extend(longer.and_then(|_| farther("GET_PA calls", of_a, of_b)));
    }
    said
}

fn farther(what: &str, a: &Histogram, b: &Histogram) -> Option<String> {
    let (of_a, of_b) = (a.largest().upper()?, b.largest().upper()?);
    let (name, other, all, longest, least, rest) = if of_b as f64 >= FAR * of_a as f64 {
        ("B", "A", b, of_b, of_a, a.count)
    } else if of_a as f64 >= FAR * of_b as f64 {
        ("A", "B", a, of_a, of_b, b.count)
    } else {
        return None;
    };
    let count = beyond(all, least as f64 + 1.0);
    // That many of the longest calls of both sides all on the one or all on the other.
    let share = all.count as f64 / (all.count + rest) as f64;
    let chance = share.powf(count) + (1.0 - share).powf(count);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count, a ratio above 3, a share"
    )]
    let (some, times, chance) = (
        count as u64,
        (longest as f64 / least.max(1) as f64).round() as u64,
        (100.0 * chance).round() as u64,
    );
    let by_chance = if chance < 1 { "less than 1".to_owned() } else { chance.min(100).to_string() };
    Some(format!(
        "{} of {name}'s {} {what} took longer than any of {other}'s, the longest {}, {} times the longest of {other} \
         ({}); chance alone puts so many on one side in {by_chance} of 100 comparisons",
        unit::count(some),
        unit::count(all.count),
        unit::nanos(longest),
        unit::count(times),
        unit::nanos(least),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_that_of_a_coin() {
        for (some, expected) in [(2.0, 0.5), (8.0, 2.0 / 256.0)] {
            let counts = |all: f64| Counts { files: vec![vec![vec![(all / 8.0, 1000.0)]; 8]] };
            let found = contrast(&counts(0.0), &counts(some)).chance;
            assert!((found - expected).abs() < 1e-9, "{some}: {found}");
        }
    }

    #[test]
    fn a_burst_counts_as_one() {
        let none = Counts { files: vec![vec![vec![(0.0, 1000.0)]; 8]] };
        let mut burst = none.clone();
        burst.files[0][3][0].0 = 40.0;
        assert!(contrast(&none, &burst).chance > 0.3);
        let mut apart = none.clone();
        apart.files[0].iter_mut().for_each(|block| block[0].0 = 5.0);
        assert!(contrast(&none, &apart).chance < 1e-9);
    }

    #[test]
    fn more_work_has_more_of_it() {
        let counts = |of, all| Counts { files: vec![vec![vec![(of, all)]; 10]] };
        assert!(contrast(&counts(1.0, 100.0), &counts(10.0, 1000.0)).chance > 0.5);
        assert!(contrast(&counts(1.0, 1000.0), &counts(10.0, 1000.0)).chance < 1e-6);
    }
}
