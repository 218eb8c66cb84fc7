//! One distribution over all CPUs: 32-bit counters that wrap in the kernel, 64-bit totals here.
//!
//! A distribution whose head (summary and first bucket) is what it was is not read again: every value
//! moves one of the two. A program writes the head before the bucket, so after a change it is read
//! once more; and at the end everything is.

use probe_common::bucket::Scheme;
use probe_common::dist::{Distribution, Summary};
use probe_model::histogram::Histogram;
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::mapping::Mapping;

/// Words of a summary.
const SUMMARY: usize = size_of::<Summary>() / size_of::<u64>();

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// What changed.
    Changed,
    /// Everything that was ever counted: after the last program has run.
    Whole,
}

/// One distribution of each element of a mapping.
pub(super) struct Total {
    /// Byte offset in an element.
    offset: usize,
    scheme: Scheme,
    cpus: Vec<Cpu>,
    /// Values per bucket over all CPUs; empty before the first value.
    buckets: Vec<u64>,
}

/// What was read of one CPU last.
#[derive(Default)]
struct Cpu {
    head: [u64; SUMMARY + 1],
    changed: bool,
    /// Its buckets; empty before the first value.
    last: Vec<u32>,
}

impl Total {
    /// The distribution of type `D` at a byte offset of an element.
    pub(super) fn at<D: Distribution>(offset: usize) -> Self {
        Self { offset, scheme: D::SCHEME, cpus: Vec::new(), buckets: Vec::new() }
    }

    /// Read on; whether anything was counted since.
    pub(super) fn advance<T: zerocopy::FromBytes>(&mut self, blocks: &Mapping<T>, depth: Depth) -> bool {
        self.cpus.resize_with(blocks.elements(), Cpu::default);
        let mut moved = false;
        for (element, cpu) in self.cpus.iter_mut().enumerate() {
            let mut head = [0; SUMMARY + 1];
            blocks.read(element, self.offset, &mut head);
            let changed = head != cpu.head;
            let is_empty = head == [0; SUMMARY + 1];
            let again = cpu.changed || depth == Depth::Whole;
            if is_empty || !(changed || again) {
                continue;
            }
            (cpu.head, cpu.changed) = (head, changed);
            moved |= read_buckets(blocks, element, self.offset, self.scheme, cpu, &mut self.buckets);
        }
        moved
    }

    /// Everything since the beginning.
    pub(super) fn histogram(&self) -> Histogram {
        let mut histogram = Histogram::new(self.scheme);
        for cpu in &self.cpus {
            let Ok(summary) = Summary::read_from_bytes(cpu.head[..SUMMARY].as_bytes()) else { continue };
            // The complement of a smallest value is 0 only where there is none: none is 2^64 - 1.
            if summary.min_complement == 0 {
                continue;
            }
            histogram.sum = histogram.sum.wrapping_add(summary.sum);
            histogram.saturated += summary.saturated;
            histogram.max = histogram.max.max(Some(summary.max));
            let min = !summary.min_complement;
            histogram.min = Some(histogram.min.map_or(min, |known| known.min(min)));
        }
        histogram.count = self.buckets.iter().sum::<u64>() + histogram.saturated;
        let filled = (0u32..).zip(&self.buckets).filter(|&(_, &count)| count > 0);
        histogram.buckets = filled.map(|(index, &count)| (index, count)).collect();
        histogram
    }
}

/// Add what one CPU counted since it was read last.
fn read_buckets<T: zerocopy::FromBytes>(
    blocks: &Mapping<T>,
    element: usize,
    offset: usize,
    scheme: Scheme,
    cpu: &mut Cpu,
    totals: &mut Vec<u64>,
) -> bool {
    let mut words = vec![0u64; scheme.len() / 2];
    blocks.read(element, offset + size_of::<Summary>(), &mut words);
    let Ok(now) = <[u32]>::ref_from_bytes(words.as_bytes()) else { return false };
    cpu.last.resize(scheme.len(), 0);
    totals.resize(scheme.len(), 0);
    let mut moved = false;
    for ((last, &now), total) in cpu.last.iter_mut().zip(now).zip(totals) {
        let new = now.wrapping_sub(*last);
        moved |= new > 0;
        *total += u64::from(new);
        *last = now;
    }
    moved
}
