//! Blocks of a side laid out so that any choice of them, some several times, is summed up quickly: one list of
//! the buckets that occur, and counts by place in it.

use std::collections::{BTreeMap, BTreeSet};

use super::side::{Block, Side};
use crate::histogram::Histogram;
use crate::sample::Scans;

/// The blocks of a side.
pub(super) struct Stack {
    blocks: usize,
    get_pa: Option<Layers>,
    ok: BTreeMap<u32, Layers>,
    runs: BTreeMap<String, Layers>,
    /// Pages, failed calls.
    others: Vec<(u64, u64)>,
    /// Scans without any value.
    empty: Option<Scans>,
}

/// One distribution in all blocks.
struct Layers {
    empty: Histogram,
    buckets: Vec<u32>,
    by_block: Vec<Layer>,
}

/// One distribution in one block.
struct Layer {
    block: usize,
    /// Places among the buckets, and counts.
    counts: Vec<(usize, u64)>,
    count: u64,
    sum: u64,
    saturated: u64,
}

impl Layers {
    fn of<'a>(blocks: impl Iterator<Item = (usize, &'a Histogram)>) -> Option<Self> {
        let blocks: Vec<(usize, &Histogram)> = blocks.collect();
        let like = blocks.first()?.1;
        let scheme = like.scheme();
        // Recordings from outside may claim any scheme for any histogram.
        let converted: Vec<(usize, std::borrow::Cow<'_, Histogram>)> = blocks
            .into_iter()
            .map(|(block, histogram)| {
                if histogram.scheme() == scheme {
                    return (block, std::borrow::Cow::Borrowed(histogram));
                }
                let mut same = Histogram::new(scheme);
                // An empty histogram takes over the other's scheme: this one must not be empty.
                same.record(0);
                same.merge(histogram);
                same.count -= 1;
                same.buckets.entry(0).and_modify(|count| *count -= 1);
                (block, std::borrow::Cow::Owned(same))
            })
            .collect();
        let all: BTreeSet<u32> =
            converted.iter().flat_map(|(_, histogram)| histogram.buckets.keys().copied()).collect();
        let buckets: Vec<u32> = all.into_iter().collect();
        let by_block = converted
            .iter()
            .map(|(block, histogram)| Layer {
                block: *block,
                counts: histogram
                    .buckets
                    .iter()
                    .filter_map(|(index, &count)| Some((buckets.binary_search(index).ok()?, count)))
                    .collect(),
                count: histogram.count,
                sum: histogram.sum,
                saturated: histogram.saturated,
            })
            .collect();
        Some(Self { empty: Histogram::new(scheme), buckets, by_block })
    }

    fn sum(&self, times: &[u64]) -> Histogram {
        let mut counts = vec![0u64; self.buckets.len()];
        let mut all = self.empty.clone();
        for layer in &self.by_block {
            let times = times[layer.block];
            if times == 0 {
                continue;
            }
            for &(place, count) in &layer.counts {
                counts[place] = counts[place].saturating_add(times.saturating_mul(count));
            }
            all.count = all.count.saturating_add(times.saturating_mul(layer.count));
            all.sum = all.sum.wrapping_add(times.wrapping_mul(layer.sum));
            all.saturated = all.saturated.saturating_add(times.saturating_mul(layer.saturated));
        }
        all.buckets = self.buckets.iter().copied().zip(counts).filter(|&(_, count)| count > 0).collect();
        all
    }
}

impl Stack {
    pub(super) fn of(side: &Side) -> Self {
        let blocks: Vec<&Block> = side.blocks().flatten().collect();
        let numbered = || blocks.iter().enumerate();
        let scans = || numbered().filter_map(|(number, block)| Some((number, block.scans.as_ref()?)));
        let classes: BTreeSet<u32> = scans().flat_map(|(_, scans)| scans.ok.keys().copied()).collect();
        let stops: BTreeSet<&String> = scans().flat_map(|(_, scans)| scans.runs.keys()).collect();
        let of_class = |class: &u32| {
            Layers::of(scans().filter_map(|(number, scans)| Some((number, scans.ok.get(class)?))))
        };
        let of_stop = |stop: &String| {
            Layers::of(scans().filter_map(|(number, scans)| Some((number, scans.runs.get(stop)?))))
        };
        Self {
            blocks: blocks.len(),
            get_pa: Layers::of(
                numbered().filter_map(|(number, block)| Some((number, block.get_pa.as_ref()?))),
            ),
            ok: classes.iter().filter_map(|class| Some((*class, of_class(class)?))).collect(),
            runs: stops.iter().filter_map(|&stop| Some((stop.clone(), of_stop(stop)?))).collect(),
            others: blocks
                .iter()
                .map(|block| (block.scans.as_ref().map_or(0, |scans| scans.pages), block.failed))
                .collect(),
            empty: scans().next().map(|(_, scans)| Scans {
                ok: BTreeMap::new(),
                failed: Histogram::new(scans.failed.scheme()),
                errors: BTreeMap::new(),
                pages: 0,
                runs: BTreeMap::new(),
            }),
        }
    }

    /// Blocks.
    pub(super) fn len(&self) -> usize {
        self.blocks
    }

    /// The sum of the blocks, each as many times as said.
    pub(super) fn sum(&self, times: &[u64]) -> Block {
        let with_values = |layers: &Layers| Some(layers.sum(times)).filter(|sum| !sum.is_empty());
        let add = |of: fn(&(u64, u64)) -> u64| {
            let each = self.others.iter().zip(times).map(|(other, times)| of(other).wrapping_mul(*times));
            each.fold(0, u64::wrapping_add)
        };
        Block {
            get_pa: self.get_pa.as_ref().and_then(with_values),
            scans: self.empty.clone().map(|empty| Scans {
                ok: self.ok.iter().filter_map(|(class, all)| Some((*class, with_values(all)?))).collect(),
                runs: self
                    .runs
                    .iter()
                    .filter_map(|(stop, all)| Some((stop.clone(), with_values(all)?)))
                    .collect(),
                pages: add(|other| other.0),
                ..empty
            }),
            failed: add(|other| other.1),
            ..Block::default()
        }
    }
}
