//! Counting values in the recorder's own buckets, readable by other threads while it goes on.
//!
//! One thread writes, with plain loads and stores (no locked operation); others read whenever they want
//! and see each word whole, though not all words of one instant.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use probe_common::bucket::Scheme;
use probe_model::histogram::Histogram;

/// Add to a cell that only this thread writes.
#[inline]
pub fn bump(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
}

/// A distribution of the scheme with these constants ([`probe_common::bucket`]).
#[derive(Debug)]
pub struct Buckets<const G: u32, const BITS: u32> {
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
    saturated: AtomicU64,
}

/// Values that mostly repeat the one before: only a change goes to the buckets, a repetition costs an
/// increment.
#[derive(Debug, Default)]
pub struct Streaks<const G: u32, const BITS: u32> {
    settled: Buckets<G, BITS>,
    last: AtomicU64,
    /// How often `last` came since it did not.
    streak: AtomicU64,
}

/// Latencies in ns, as `probe_common::bucket::LATENCY`.
pub type Latencies = Buckets<7, 38>;
/// Latencies of failed calls in ns, as `probe_common::bucket::LATENCY_FAILED`.
pub type FailedLatencies = Buckets<4, 38>;
/// Run lengths in bytes, as `probe_common::bucket::RUN`.
pub type Runs = Streaks<7, 48>;

impl<const G: u32, const BITS: u32> Buckets<G, BITS> {
    pub const SCHEME: Scheme = Scheme { half_count_magnitude: G, value_bits: BITS };

    #[inline]
    pub fn record(&self, value: u64) {
        self.record_n(value, 1);
    }

    #[inline]
    fn record_n(&self, value: u64, count: u64) {
        bump(&self.sum, value.wrapping_mul(count));
        if value < self.min.load(Relaxed) {
            self.min.store(value, Relaxed);
        }
        if value > self.max.load(Relaxed) {
            self.max.store(value, Relaxed);
        }
        match self.counts.get(Self::SCHEME.index(value)) {
            Some(cell) => bump(cell, count),
            None => bump(&self.saturated, count),
        }
    }

    /// Everything so far.
    pub fn histogram(&self) -> Histogram {
        let mut histogram = Histogram::new(Self::SCHEME);
        histogram.saturated = self.saturated.load(Relaxed);
        for (index, cell) in (0u32..).zip(&self.counts) {
            let count = cell.load(Relaxed);
            if count > 0 {
                histogram.buckets.insert(index, count);
            }
        }
        histogram.count = histogram.buckets.values().sum::<u64>() + histogram.saturated;
        if histogram.count > 0 {
            histogram.sum = self.sum.load(Relaxed);
            histogram.min = Some(self.min.load(Relaxed));
            histogram.max = Some(self.max.load(Relaxed));
        }
        histogram
    }
}

impl<const G: u32, const BITS: u32> Streaks<G, BITS> {
    #[inline]
    pub fn record(&self, value: u64) {
        if value == self.last.load(Relaxed) {
            bump(&self.streak, 1);
        } else {
            self.change(value);
        }
    }

    #[cold]
    fn change(&self, value: u64) {
        let streak = self.streak.load(Relaxed);
        if streak > 0 {
            self.settled.record_n(self.last.load(Relaxed), streak);
        }
        self.last.store(value, Relaxed);
        self.streak.store(1, Relaxed);
    }

    /// Everything so far; exact once the writer has stopped.
    pub fn histogram(&self) -> Histogram {
        let mut histogram = self.settled.histogram();
        let streak = self.streak.load(Relaxed);
        if streak > 0 {
            let rest = Buckets::<G, BITS>::default();
            rest.record_n(self.last.load(Relaxed), streak);
            histogram.merge(&rest.histogram());
        }
        histogram
    }
}

impl<const G: u32, const BITS: u32> Default for Buckets<G, BITS> {
    fn default() -> Self {
        Self {
            counts: (0..Self::SCHEME.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
            saturated: AtomicU64::new(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use probe_common::bucket::{LATENCY, LATENCY_FAILED, RUN};

    #[test]
    fn schemes_are_the_recorders() {
        assert_eq!((Latencies::SCHEME, FailedLatencies::SCHEME), (LATENCY, LATENCY_FAILED));
        assert_eq!(Runs::default().histogram().scheme(), RUN);
    }

    #[test]
    fn streaks_count_as_single_values_do() {
        let (streaks, mut expected) = (Runs::default(), Histogram::new(RUN));
        assert_eq!(streaks.histogram(), expected);
        for value in [0, 0, 4096, 4096, 4096, 8192, 0, 1 << 50, 1 << 50] {
            streaks.record(value);
            expected.record(value);
            assert_eq!(streaks.histogram(), expected);
        }
    }

    #[test]
    fn what_is_counted_is_the_models_histogram() {
        let buckets = Latencies::default();
        let mut expected = Histogram::new(LATENCY);
        assert_eq!(buckets.histogram(), expected);
        for value in [5, 0, 1000, 77_777, 1 << 40] {
            buckets.record(value);
            expected.record(value);
        }
        assert_eq!(buckets.histogram(), expected);
    }
}
