//! A timeline: samples and slices of a recording in bounded memory, however long it lasts.
//!
//! Samples are cumulative, so leaving some out loses no total, only the choice of where a window may begin
//! or end. What is left out first is what is told apart least: among the old of a live recording, anywhere
//! in a finished one.

use std::collections::VecDeque;

use crate::sample::{Counters, Instant, Sample};
use crate::slice::Slice;
use crate::window::Window;

/// Where samples are left out when there are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinning {
    /// The older, the more: the distance of two is then proportional to their age.
    Old,
    /// Everywhere alike.
    Even,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Entries (histogram buckets, rows, counters) of all samples together. One takes about 40 bytes.
    pub entries: usize,
    /// Samples.
    pub samples: usize,
    /// Slices.
    pub slices: usize,
}

impl Budget {
    /// About 64 MiB at most; an hour of samples a second of a usual workload in full.
    pub const USUAL: Self = Self { entries: 1_500_000, samples: 8192, slices: 2048 };
}

#[derive(Debug, Clone)]
struct Kept {
    sample: Sample,
    entries: usize,
}

/// Samples and slices, oldest first.
#[derive(Debug, Clone)]
pub struct Timeline {
    samples: VecDeque<Kept>,
    slices: VecDeque<Slice>,
    entries: usize,
    budget: Budget,
    thinning: Thinning,
    dropped: u64,
}

impl Timeline {
    /// An empty timeline.
    pub fn new(budget: Budget, thinning: Thinning) -> Self {
        Self { samples: [].into(), slices: [].into(), entries: 0, budget, thinning, dropped: 0 }
    }

    /// Append a sample; one that is not later than the newest is ignored. Samples at the instants in
    /// `keep` (monotonic, ns) are not left out.
    pub fn push(&mut self, sample: Sample, keep: &[u64]) {
        if let Some(newest) = self.samples.back() {
            if sample.at.monotonic <= newest.sample.at.monotonic {
                return;
            }
            self.slices.push_back(Slice::of(&Window::between(&newest.sample, &sample)));
        }
        let entries = entries(&sample.counters);
        self.entries += entries;
        self.samples.push_back(Kept { sample, entries });
        while (self.entries > self.budget.entries || self.samples.len() > self.budget.samples)
            && self.drop_one(keep)
        {}
        while self.slices.len() > self.budget.slices {
            self.join_two();
        }
    }

    /// The first sample.
    pub fn oldest(&self) -> Option<&Sample> {
        self.samples.front().map(|kept| &kept.sample)
    }

    /// The last sample.
    pub fn newest(&self) -> Option<&Sample> {
        self.samples.back().map(|kept| &kept.sample)
    }

    /// Samples kept.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// No sample yet.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Samples left out so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The slices, oldest first.
    pub fn slices(&self) -> impl DoubleEndedIterator<Item = &Slice> + ExactSizeIterator {
        self.slices.iter()
    }

    /// The last sample at or before an instant (monotonic, ns); the first one when all are later.
    pub fn at(&self, monotonic: u64) -> Option<&Sample> {
        let after = self.samples.partition_point(|kept| kept.sample.at.monotonic <= monotonic);
        self.samples.get(after.saturating_sub(1)).map(|kept| &kept.sample)
    }

    /// The instant `steps` samples after (before) the sample at `monotonic`, within the timeline.
    pub fn step(&self, monotonic: u64, steps: isize) -> Option<Instant> {
        let here = self.samples.partition_point(|kept| kept.sample.at.monotonic <= monotonic);
        let there = here.saturating_sub(1).saturating_add_signed(steps);
        self.samples.get(there.min(self.samples.len().saturating_sub(1))).map(|kept| kept.sample.at)
    }

    /// The window that ends with the sample at `end` and is `length` ns long, or the least longer one that
    /// samples allow; it never begins before `floor`. `None` before there are two samples.
    pub fn window(&self, end: u64, length: u64, floor: u64) -> Option<Window> {
        let (older, newer) = self.ends(end, length, floor)?;
        Some(Window::between(older, newer))
    }

    /// The samples that [`Timeline::window`] takes.
    pub fn ends(&self, end: u64, length: u64, floor: u64) -> Option<(&Sample, &Sample)> {
        let newer = self.at(end)?;
        let begin = newer.at.monotonic.saturating_sub(length).max(floor);
        let mut older = self.at(begin)?;
        if older.at.monotonic < floor {
            let next = self.samples.partition_point(|kept| kept.sample.at.monotonic < floor);
            older = &self.samples.get(next)?.sample;
        }
        (older.at.monotonic < newer.at.monotonic).then_some((older, newer))
    }

    fn drop_one(&mut self, keep: &[u64]) -> bool {
        let now = self.newest().map_or(0, |sample| sample.at.monotonic);
        let at = |index: usize| self.samples[index].sample.at.monotonic;
        let last = self.samples.len().saturating_sub(1);
        let droppable = (1..last).filter(|&index| !keep.contains(&at(index)));
        let cost = |index: &usize| self.cost(at(index + 1) - at(index - 1), now - at(*index));
        let Some(index) = droppable.min_by(|a, b| cost(a).total_cmp(&cost(b))) else { return false };
        if let Some(kept) = self.samples.remove(index) {
            self.entries -= kept.entries;
            self.dropped += 1;
        }
        true
    }

    fn join_two(&mut self) {
        let now = self.slices.back().map_or(0, |slice| slice.to.monotonic);
        let cost = |&index: &usize| {
            let (first, second) = (&self.slices[index], &self.slices[index + 1]);
            self.cost(first.nanos() + second.nanos(), now - second.from.monotonic.min(now))
        };
        let pairs = 0..self.slices.len().saturating_sub(1);
        let Some(index) = pairs.min_by(|a, b| cost(a).total_cmp(&cost(b))) else { return };
        if let Some(second) = self.slices.remove(index + 1) {
            self.slices[index].append(&second);
        }
    }

    /// How much is lost by a gap of `nanos` at an `age`.
    fn cost(&self, nanos: u64, age: u64) -> f64 {
        match self.thinning {
            Thinning::Even => nanos as f64,
            Thinning::Old => nanos as f64 / (age as f64 + 1.0),
        }
    }
}

/// What a sample takes, in entries of maps.
fn entries(counters: &Counters) -> usize {
    let calls = counters
        .dispatch
        .values()
        .map(|calls| 8 + calls.ok.buckets.len() + calls.failed.buckets.len() + calls.errors.len());
    let scans = counters.get_phys.iter().flat_map(|scans| {
        scans.ok.values().chain(scans.runs.values()).chain([&scans.failed]).map(|h| 4 + h.buckets.len())
    });
    let locks = counters.locks.iter().flat_map(|locks| {
        locks.get_phys.values().chain(locks.commands.values()).map(|h| 4 + h.buckets.len())
    });
    let rest = 16 + 4 * counters.attribution.len() + 2 * counters.programs.len();
    calls.chain(scans).chain(locks).sum::<usize>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Histogram;
    use crate::sample::Calls;
    use probe_common::bucket::{LATENCY, LATENCY_FAILED};

    const SECOND: u64 = 1_000_000_000;

    fn sample(second: u64) -> Sample {
        let mut ok = Histogram::new(LATENCY);
        (0..=second.min(40)).for_each(|call| ok.record(1000 + 100 * call));
        ok.count = second;
        Sample {
            at: Instant { monotonic: second * SECOND, realtime: 0 },
            counters: Counters {
                dispatch: [(
                    "IOAS_MAP".to_owned(),
                    Calls { ok, failed: Histogram::new(LATENCY_FAILED), errors: [].into() },
                )]
                .into(),
                ..Counters::default()
            },
        }
    }

    fn filled(seconds: u64, thinning: Thinning) -> Timeline {
        let mut timeline = Timeline::new(Budget { entries: 20_000, samples: 200, slices: 100 }, thinning);
        (1..=seconds).for_each(|second| timeline.push(sample(second), &[5 * SECOND]));
        timeline
    }

    #[test]
    fn a_day_of_samples_stays_within_the_budget_and_loses_no_total() {
        for thinning in [Thinning::Old, Thinning::Even] {
            let timeline = filled(86_400, thinning);
            assert!(timeline.len() <= 200 && timeline.slices().len() <= 100 && timeline.entries <= 20_000);
            assert_eq!(timeline.dropped() + timeline.len() as u64, 86_400);
            assert_eq!(
                timeline.at(5 * SECOND).unwrap().at.monotonic,
                5 * SECOND,
                "what is asked to stay stays"
            );
            let whole = timeline.window(u64::MAX, u64::MAX, 0).unwrap();
            assert_eq!(whole.counters.dispatch["IOAS_MAP"].count(), 86_399);
            let length: u64 = timeline.slices().map(Slice::nanos).sum();
            assert_eq!(length, 86_399 * SECOND, "slices leave no gap");
        }
    }

    #[test]
    fn the_recent_past_is_kept_in_full() {
        let timeline = filled(5_000, Thinning::Old);
        let window = timeline.window(u64::MAX, 3 * SECOND, 0).unwrap();
        assert_eq!(window.duration().as_secs(), 3);
        assert_eq!(timeline.step(5_000 * SECOND, -2).unwrap().monotonic, 4_998 * SECOND);
    }

    #[test]
    fn windows_end_and_begin_with_samples_and_not_before_the_floor() {
        let timeline = filled(10, Thinning::Even);
        let window = timeline.window(7 * SECOND + 5, 2 * SECOND + 1, 0).unwrap();
        assert_eq!((window.from.monotonic, window.to.monotonic), (4 * SECOND, 7 * SECOND));
        let window = timeline.window(7 * SECOND, u64::MAX, 5 * SECOND + 1).unwrap();
        assert_eq!(window.from.monotonic, 6 * SECOND);
        assert_eq!(timeline.window(SECOND, SECOND, 0), None);
    }
}
