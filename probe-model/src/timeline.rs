//! A timeline: samples and slices of a recording in bounded memory, however long it lasts.
//!
//! Samples are cumulative, so leaving some out loses no total, only the choice of where a window may begin
//! or end. What is left out first is what is told apart least: among the old of a live recording, anywhere
//! in a finished one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::histogram::Histogram;
use crate::sample::{Counters, Instant, Sample};
use crate::slice::Slice;
use crate::window::Window;

/// One in so many samples is left out at a time: looking for the best to leave out costs a look at all.
const AT_ONCE: usize = 64;

/// How many times longer two slices alike may be than two of which one is idle, to be joined before them: a busy
/// minute is not spread over an idle hour.
const APART: u64 = 8;

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
    /// Entries (histogram buckets, rows, counters) of all samples together, shared ones once. One takes about
    /// 40 bytes.
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
    /// What it does not share with the one before.
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
        let entries = entries(&sample.counters, self.newest().map(|newest| &newest.counters));
        self.entries += entries;
        self.samples.push_back(Kept { sample, entries });
        while (self.entries > self.budget.entries || self.samples.len() > self.budget.samples)
            && self.drop_some(keep)
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

    /// Leave a few samples out, no two of them neighbours: those that are told apart least. False where none may be.
    fn drop_some(&mut self, keep: &[u64]) -> bool {
        let now = self.newest().map_or(0, |sample| sample.at.monotonic);
        let at = |index: usize| self.samples[index].sample.at.monotonic;
        let last = self.samples.len().saturating_sub(1);
        let droppable = (1..last).filter(|&index| !keep.contains(&at(index)));
        let cost = |index: usize| self.cost(at(index + 1) - at(index - 1), now - at(index));
        let mut costs: Vec<_> = droppable.map(|index| (cost(index), index)).collect();
        costs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut gone = BTreeSet::new();
        for (_, index) in costs {
            if gone.len() > last / AT_ONCE {
                break;
            }
            if !gone.contains(&(index - 1)) && !gone.contains(&(index + 1)) {
                gone.insert(index);
            }
        }
        let mut index = 0;
        self.samples.retain(|_| {
            index += 1;
            !gone.contains(&(index - 1))
        });
        for (before, index) in gone.iter().enumerate() {
            // What the next one shared with it is the next one's now.
            let next = index - before;
            let older = &self.samples[next - 1].sample.counters;
            self.samples[next].entries = entries(&self.samples[next].sample.counters, Some(older));
        }
        self.entries = self.samples.iter().map(|kept| kept.entries).sum();
        self.dropped += gone.len() as u64;
        !gone.is_empty()
    }

    fn join_two(&mut self) {
        let now = self.slices.back().map_or(0, |slice| slice.to.monotonic);
        let cost = |&index: &usize| {
            let (first, second) = (&self.slices[index], &self.slices[index + 1]);
            let nanos = first.nanos() + second.nanos();
            let differ = first.is_idle() != second.is_idle() || first.dark != second.dark;
            let nanos = nanos.saturating_mul(if differ { APART } else { 1 });
            self.cost(nanos, now - second.from.monotonic.min(now))
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

/// What a sample takes, in entries of maps, beside those that it shares with the one before.
fn entries(counters: &Counters, before: Option<&Counters>) -> usize {
    let own = |histogram: &Histogram, before: Option<&Histogram>| {
        let shared = before.is_some_and(|before| before.buckets.is_shared_with(&histogram.buckets));
        4 + if shared { 0 } else { histogram.buckets.len() }
    };
    let calls = counters.dispatch.iter().map(|(name, calls)| {
        let before = before.and_then(|before| before.dispatch.get(name));
        let failed = own(&calls.failed, before.map(|before| &before.failed));
        own(&calls.ok, before.map(|before| &before.ok)) + failed + calls.errors.len()
    });
    let scans = counters.get_phys.iter().map(|scans| {
        let before = before.and_then(|before| before.get_phys.as_ref());
        let ok = scans.ok.iter().map(|(class, h)| own(h, before.and_then(|before| before.ok.get(class))));
        let runs = scans.runs.iter().map(|(stop, h)| own(h, before.and_then(|before| before.runs.get(stop))));
        ok.chain(runs).sum::<usize>() + own(&scans.failed, before.map(|before| &before.failed))
    });
    let locks = counters.locks.iter().map(|locks| {
        let before = before.and_then(|before| before.locks.as_ref());
        let waits = |now: &BTreeMap<String, Histogram>, before: Option<&BTreeMap<String, Histogram>>| {
            now.iter().map(|(name, h)| own(h, before.and_then(|before| before.get(name)))).sum::<usize>()
        };
        waits(&locks.get_phys, before.map(|before| &before.get_phys))
            + waits(&locks.commands, before.map(|before| &before.commands))
    });
    let rest = 16 + 4 * counters.attribution.len() + 2 * counters.programs.len();
    calls.chain(scans).chain(locks).sum::<usize>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn what_is_shared_counts_once_whatever_is_left_out() {
        let mut timeline =
            Timeline::new(Budget { entries: 1_000_000, samples: 50, slices: 50 }, Thinning::Even);
        let mut still = sample(40);
        for second in 41..400 {
            // Every tenth moves.
            if second % 10 == 0 {
                still = sample(second);
            }
            still.at.monotonic = second * SECOND;
            timeline.push(still.clone(), &[]);
            let counted: usize = timeline.samples.iter().map(|kept| kept.entries).sum();
            assert_eq!(timeline.entries, counted);
        }
        let mut before = None;
        let mut whole = 0;
        for kept in &timeline.samples {
            whole += entries(&kept.sample.counters, before);
            before = Some(&kept.sample.counters);
        }
        assert_eq!(timeline.entries, whole);
        assert!(whole < timeline.len() * entries(&still.counters, None), "some are shared");
    }

    #[test]
    fn a_busy_minute_is_not_spread_over_the_idle_hour_around_it() {
        let mut timeline =
            Timeline::new(Budget { entries: 1_000_000, samples: 8000, slices: 100 }, Thinning::Even);
        let calls = |second: u64| sample(second.clamp(2_000, 2_060) - 1_999).counters;
        for second in 0..7_200 {
            let at = Instant { monotonic: second * SECOND, realtime: 0 };
            timeline.push(Sample { at, counters: calls(second) }, &[]);
        }
        let busy: Vec<_> = timeline.slices().filter(|slice| !slice.is_idle()).collect();
        let ends = (busy[0].from.monotonic / SECOND, busy[busy.len() - 1].to.monotonic / SECOND);
        assert_eq!(ends, (2_000, 2_060));
        assert_eq!(busy.iter().map(|slice| slice.dispatch.calls).sum::<u64>(), 60);
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
