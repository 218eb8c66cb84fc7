//! One distribution over all CPUs: 32-bit counters that wrap in the kernel, 64-bit totals here.
//!
//! A distribution whose head (summary and first bucket) is what it was is not read again: every value
//! moves one of the two. A program writes the head before the bucket, so after a change it is read
//! once more; and at the end everything is. What did not move is the histogram that it was: samples share
//! its counts.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use probe_common::bucket::Scheme;
use probe_common::dist::{Distribution, Summary};
use probe_model::histogram::Histogram;
use zerocopy::{FromBytes, IntoBytes as _};

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
    /// All of it, as it was read last.
    histogram: Histogram,
}

/// What was read of one CPU last.
#[derive(Default)]
struct Cpu {
    head: [u64; SUMMARY + 1],
    changed: bool,
    /// Its buckets, two a word; empty before the first value.
    last: Vec<u64>,
}

impl Total {
    /// The distribution of type `D` at a byte offset of an element.
    pub(super) fn at<D: Distribution>(offset: usize) -> Self {
        let scheme = D::SCHEME;
        Self { offset, scheme, cpus: Vec::new(), buckets: Vec::new(), histogram: Histogram::new(scheme) }
    }

    /// Read on; whether anything was counted since.
    pub(super) fn advance<T: FromBytes>(&mut self, blocks: &Mapping<T>, depth: Depth) -> bool {
        self.cpus.resize_with(blocks.elements(), Cpu::default);
        let (mut moved, mut changed) = (false, false);
        for (element, cpu) in self.cpus.iter_mut().enumerate() {
            let mut head = [0; SUMMARY + 1];
            blocks.read(element, self.offset, &mut head);
            let is_other = head != cpu.head;
            let is_empty = head == [0; SUMMARY + 1];
            let again = cpu.changed || depth == Depth::Whole;
            if is_empty || !(is_other || again) {
                continue;
            }
            (cpu.head, cpu.changed) = (head, is_other);
            changed |= is_other;
            let words = self.scheme.len() / 2;
            cpu.last.resize(words, 0);
            self.buckets.resize(2 * words, 0);
            let used = if depth == Depth::Whole { 0..words } else { used(self.scheme, &head) };
            let first = self.offset + size_of::<Summary>() + used.start * size_of::<u64>();
            let now = blocks.words_of(element, first, used.len());
            let buckets = &mut self.buckets[2 * used.start..2 * used.end];
            moved |= add_moved(now, &mut cpu.last[used], buckets);
        }
        if moved || changed {
            self.histogram = self.sum();
        }
        moved
    }

    /// Everything since the beginning, as it was read last.
    pub(super) fn histogram(&self) -> &Histogram {
        &self.histogram
    }

    fn sum(&self) -> Histogram {
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

/// The words in which there can be values: between the smallest and the largest. A program writes these before
/// the bucket, so a value outside comes with another head and is read then.
fn used(scheme: Scheme, head: &[u64; SUMMARY + 1]) -> Range<usize> {
    let Ok(summary) = Summary::read_from_bytes(head[..SUMMARY].as_bytes()) else { return 0..0 };
    let word = |value| scheme.index(value).min(scheme.len() - 1) / 2;
    // No smallest yet, while the largest is there.
    let first = if summary.min_complement == 0 { 0 } else { word(!summary.min_complement) };
    let end = word(summary.max) + 1;
    first.min(end)..end
}

/// Add what one CPU's buckets counted since they were read last, two a word; whether they counted anything.
/// Most words did not move, so a word is compared before it is taken apart.
fn add_moved(words: &[AtomicU64], last: &mut [u64], totals: &mut [u64]) -> bool {
    let mut moved = false;
    for ((word, last), totals) in words.iter().zip(last).zip(totals.as_chunks_mut::<2>().0) {
        let now = word.load(Ordering::Relaxed);
        if now == *last {
            continue;
        }
        moved = true;
        for (total, (now, last)) in totals.iter_mut().zip(halves(now).into_iter().zip(halves(*last))) {
            *total += u64::from(now.wrapping_sub(last));
        }
        *last = now;
    }
    moved
}

/// The two buckets of a word, in the order of memory.
pub(super) fn halves(word: u64) -> [u32; 2] {
    zerocopy::transmute!(word)
}
