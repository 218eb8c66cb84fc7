//! Whether both sides did the same work: how long their scans were, and which lengths can be compared.
//!
//! The kernel counts latencies by class of lengths (powers of two). A class is compared where both sides have
//! it, and where the lengths within it are the same on both. Over the compared classes there is one mix, the
//! mean of both sides' shares: what is standardised is as if both sides had had that.

use std::collections::{BTreeMap, BTreeSet};

use probe_common::wire::SCAN_CLASSES;
use serde::Serialize;

use super::FEWEST_BLOCKS;
use super::side::{Block, Side};
use crate::contiguity::lengths;

/// Deals of the blocks to two sides at random.
const DEALS: usize = 400;
/// Mixes that chance explains less often than this differ.
const CHANCE: f64 = 0.05;
/// The same for the lengths within a class: there are up to 16 of those.
const CHANCE_WITHIN: f64 = 0.01;
/// Mixes nearer than this, as a share of the scans, are not told apart; what it can do to a percentile is
/// allowed for.
const NEAR: f64 = 0.001;
/// Mixes farther apart than this differ even where chance explains it.
const FAR: f64 = 0.1;
/// Fewer scans of a class are not compared.
const FEWEST_SCANS: u64 = 10;

/// Scans of a class of lengths.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Class {
    /// The class: scans of `2^class` to `2^(class+1) - 1` pages.
    pub class: u32,
    /// The shortest scan of either side, pages.
    pub from: u64,
    /// The longest one; a lower bound beyond 255 pages, at most 0.8 % below.
    pub to: u64,
    /// Share of A's scans, 0 to 1.
    pub share_a: f64,
    /// Share of B's.
    pub share_b: f64,
    /// Its share of the common mix; `None` where it is left out.
    pub weight: Option<f64>,
    /// Why it is left out.
    pub left_out: Option<&'static str>,
}

impl Class {
    /// `1 page`, `512 pages`, `300-400 pages`.
    pub fn name(&self) -> String {
        match (self.from, self.to) {
            (1, 1) => "1 page".to_owned(),
            (from, to) if from == to => format!("{from} pages"),
            (from, to) => format!("{from}-{to} pages"),
        }
    }
}

/// Whether the mixes of lengths are the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Mixes {
    /// They are the same, or differ by no more than chance does.
    Alike,
    /// They differ by this share of the scans, which is little: percentiles over all are compared with a margin
    /// for it.
    Near {
        /// The share, 0 to 1.
        by: f64,
    },
    /// They differ: a percentile over all calls is of other work on each side.
    Differ {
        /// By this share of the scans, 0 to 1.
        by: f64,
    },
    /// Not known: no scans on one side.
    Unknown,
}

/// What both sides did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mix {
    /// Whether it was the same.
    pub mixes: Mixes,
    /// Scan lengths, shortest first.
    pub classes: Vec<Class>,
}

impl Mix {
    /// Classes of the common mix, and their shares of it.
    pub(super) fn common(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        self.classes.iter().filter_map(|class| Some((class.class, class.weight?)))
    }

    pub(super) fn of(a: &Side, b: &Side, random: &mut fastrand::Rng) -> Self {
        let table = Table::of(a, b);
        let (whole_a, whole_b) = (a.whole(), b.whole());
        let (all_a, all_b) = (whole_a.scanned(), whole_b.scanned());
        if all_a == 0 || all_b == 0 {
            return Self { mixes: Mixes::Unknown, classes: Vec::new() };
        }
        let apart = table.apart(random);
        let count = |of: &Block, class| {
            of.scans.as_ref().and_then(|scans| scans.ok.get(&class)).map_or(0, |latency| latency.count)
        };
        let classes: BTreeSet<u32> = [&whole_a, &whole_b]
            .iter()
            .flat_map(|whole| whole.scans.iter().flat_map(|s| s.ok.keys().copied()))
            .collect();
        let mut classes: Vec<Class> = classes
            .into_iter()
            .filter(|&class| count(&whole_a, class) + count(&whole_b, class) > 0)
            .map(|class| {
                let (from, to) = table.bounds(class);
                let few = |side: &Side, whole| {
                    count(whole, class) < FEWEST_SCANS || held(side, class) < FEWEST_BLOCKS
                };
                let left_out = if count(&whole_a, class).min(count(&whole_b, class)) == 0 {
                    Some("only one side has it")
                } else if few(a, &whole_a) || few(b, &whole_b) {
                    Some("too few on one side")
                } else if !apart.within.contains_key(&class) {
                    Some("its lengths are not known")
                } else if apart.within.get(&class).copied() == Some(true) {
                    Some("other lengths within it")
                } else {
                    None
                };
                let share = |count: u64, all: u64| count as f64 / all as f64;
                let (share_a, share_b) =
                    (share(count(&whole_a, class), all_a), share(count(&whole_b, class), all_b));
                Class { class, from, to, share_a, share_b, weight: None, left_out }
            })
            .collect();
        let total: f64 = classes.iter().filter(|c| c.left_out.is_none()).map(|c| c.share_a + c.share_b).sum();
        for class in classes.iter_mut().filter(|class| class.left_out.is_none()) {
            class.weight = Some((class.share_a + class.share_b) / total);
        }
        Self { mixes: apart.mixes, classes }
    }
}

/// Blocks with scans of a class.
fn held(side: &Side, class: u32) -> usize {
    let has = |block: &&Block| {
        block.scans.as_ref().and_then(|scans| scans.ok.get(&class)).is_some_and(|latency| latency.count > 0)
    };
    side.blocks().flatten().filter(has).count()
}

/// Scans by length in every block of both sides, A's first.
struct Table {
    /// Lengths in pages, ascending, each with its class.
    lengths: Vec<(u64, u32)>,
    rows: Vec<Vec<f64>>,
    of_a: usize,
    of_b: usize,
}

/// How far two mixes are apart, and whether chance explains it.
struct Apart {
    mixes: Mixes,
    /// Whether the lengths within a class differ.
    within: BTreeMap<u32, bool>,
}

impl Table {
    fn of(a: &Side, b: &Side) -> Self {
        let runs = |block: &Block, page_size: u64| {
            let mut runs: BTreeMap<u64, u64> = BTreeMap::new();
            let all = block.scans.iter().flat_map(|scans| scans.runs.values());
            let pages = all.flat_map(lengths).map(|(run, count)| (run.div_ceil(page_size).max(1), count));
            pages.for_each(|(pages, count)| *runs.entry(pages).or_default() += count);
            runs
        };
        let of_a: Vec<_> = a.blocks().flatten().map(|block| runs(block, a.page_size())).collect();
        let of_b: Vec<_> = b.blocks().flatten().map(|block| runs(block, b.page_size())).collect();
        let all: BTreeSet<u64> = of_a.iter().chain(&of_b).flat_map(|runs| runs.keys().copied()).collect();
        let last = u32::try_from(SCAN_CLASSES - 1).unwrap_or(u32::MAX);
        let lengths: Vec<_> = all.into_iter().map(|pages| (pages, pages.ilog2().min(last))).collect();
        let row = |runs: &BTreeMap<u64, u64>| {
            lengths.iter().map(|(pages, _)| runs.get(pages).copied().unwrap_or(0) as f64).collect()
        };
        Self {
            rows: of_a.iter().chain(&of_b).map(row).collect(),
            of_a: of_a.len(),
            of_b: of_b.len(),
            lengths,
        }
    }

    /// The shortest and the longest scan of a class, pages.
    fn bounds(&self, class: u32) -> (u64, u64) {
        let mut pages = self.lengths.iter().filter(|(_, of)| *of == class).map(|&(pages, _)| pages);
        let first = pages.next().unwrap_or(1 << class);
        (first, pages.next_back().unwrap_or(first))
    }

    /// The blocks of `which`, summed up.
    fn sum(&self, which: &[usize]) -> Vec<f64> {
        let mut sum = vec![0.0; self.lengths.len()];
        for &block in which {
            sum.iter_mut().zip(&self.rows[block]).for_each(|(sum, count)| *sum += count);
        }
        sum
    }

    fn apart(&self, random: &mut fastrand::Rng) -> Apart {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        let all = self.sum(&order);
        let distances = |of_a: &[usize]| {
            let a = self.sum(of_a);
            let b: Vec<f64> = all.iter().zip(&a).map(|(all, a)| all - a).collect();
            self.distances(&a, &b)
        };
        let seen = distances(&order[..self.of_a]);
        let mut as_far = vec![1usize; seen.len()];
        for _ in 0..DEALS {
            random.shuffle(&mut order);
            for (count, (dealt, seen)) in
                as_far.iter_mut().zip(distances(&order[..self.of_a]).iter().zip(&seen))
            {
                // Sums of the same counts in another order.
                *count += usize::from(dealt.1 >= seen.1 - 1e-9);
            }
        }
        let enough = self.of_a.min(self.of_b) >= FEWEST_BLOCKS;
        let chance = |place: usize| if enough { as_far[place] as f64 / (DEALS + 1) as f64 } else { 0.0 };
        let by = seen[0].1;
        let mixes = match chance(0) {
            _ if by > FAR => Mixes::Differ { by },
            chance if chance >= CHANCE || by < 1e-9 => Mixes::Alike,
            _ if by <= NEAR => Mixes::Near { by },
            _ => Mixes::Differ { by },
        };
        let within = seen
            .iter()
            .enumerate()
            .skip(1)
            .map(|(place, &(class, by))| (class, by > NEAR && chance(place) < CHANCE_WITHIN))
            .collect();
        Apart { mixes, within }
    }

    /// The largest difference of two cumulative distributions of lengths: of all, then within each class.
    fn distances(&self, a: &[f64], b: &[f64]) -> Vec<(u32, f64)> {
        let mut found = vec![(0, farthest(a.iter().zip(b)))];
        let mut begin = 0;
        while begin < self.lengths.len() {
            let class = self.lengths[begin].1;
            let end = self.lengths[begin..].iter().position(|(_, of)| *of != class);
            let end = end.map_or(self.lengths.len(), |more| begin + more);
            found.push((class, farthest(a[begin..end].iter().zip(&b[begin..end]))));
            begin = end;
        }
        found
    }
}

fn farthest<'a>(counts: impl Iterator<Item = (&'a f64, &'a f64)> + Clone) -> f64 {
    let (all_a, all_b) = counts.clone().fold((0.0, 0.0), |sum, (a, b)| (sum.0 + a, sum.1 + b));
    if all_a == 0.0 || all_b == 0.0 {
        return 0.0;
    }
    let (mut a, mut b, mut farthest) = (0.0, 0.0, 0.0f64);
    for (of_a, of_b) in counts {
        a += of_a;
        b += of_b;
        farthest = farthest.max((a / all_a - b / all_b).abs());
    }
    farthest
}
