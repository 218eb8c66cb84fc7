//! A run while it goes on: a snapshot for who watches.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::board::{Sum, Times};
use super::clock;
use super::lane::Visible;
use super::pace::Pace;
use super::plan::Limit;
use super::via::Way;

/// Everything that runs now.
#[derive(Debug, Clone, Serialize)]
pub struct Progress {
    /// `CLOCK_MONOTONIC`, ns.
    pub at_ns: u64,
    /// Counted from 1.
    pub stage: usize,
    pub stages: usize,
    /// The stage's jobs that have begun.
    pub jobs: Vec<JobProgress>,
}

/// One job. All counts are cumulative and exclude the warm-up.
#[derive(Debug, Clone, Serialize)]
pub struct JobProgress {
    pub label: String,
    pub via: &'static str,
    pub warming_up: bool,
    /// Since the warm-up ended.
    pub elapsed_ns: u64,
    /// Where the end is known or can be reckoned.
    pub left_ns: Option<u64>,
    /// Successful and failed calls.
    pub calls: u64,
    pub failed: u64,
    /// The rate asked for; `None` in a closed loop.
    pub intended_per_second: Option<f64>,
    /// The mean rate since the warm-up.
    pub achieved_per_second: f64,
    /// How late the latest call began, of the latest thread; 0 in a closed loop.
    pub behind_ns: u64,
    pub service_ns: Times,
    pub response_ns: Option<Times>,
}

/// What is shown of the jobs of a stage.
#[derive(Default)]
pub(super) struct Shown(Mutex<Vec<Entry>>);

struct Entry {
    /// Of the job in its stage.
    index: usize,
    label: String,
    way: Way,
    pace: Pace,
    limit: Limit,
    lanes: Arc<Vec<Visible>>,
}

impl Shown {
    /// A job begins, by one of its ways; what it showed before is over.
    pub(super) fn begin(&self, index: usize, job: &super::plan::Job, way: Way, lanes: &Arc<Vec<Visible>>) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.index != index);
        let (label, lanes) = (job.label.clone(), Arc::clone(lanes));
        entries.push(Entry { index, label, way, pace: job.pace, limit: job.limit, lanes });
        entries.sort_by_key(|entry| entry.index);
    }

    pub(super) fn snapshot(&self, stage: usize, stages: usize) -> Progress {
        let at_ns = clock::now();
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Progress { at_ns, stage, stages, jobs: entries.iter().map(|entry| entry.at(at_ns)).collect() }
    }
}

impl Entry {
    fn at(&self, now: u64) -> JobProgress {
        let sum = Sum::of(self.lanes.iter().map(|lane| &lane.board));
        let began = self.lanes.iter().map(|lane| lane.began.load(Relaxed)).filter(|&began| began > 0).min();
        let elapsed = began.map_or(0, |began| now.saturating_sub(began));
        let calls = sum.service.count();
        let achieved = if elapsed > 0 { calls as f64 * 1e9 / elapsed as f64 } else { 0.0 };
        JobProgress {
            label: self.label.clone(),
            via: self.way.name(),
            warming_up: began.is_none(),
            elapsed_ns: elapsed,
            left_ns: left(self.limit, elapsed, calls, achieved),
            calls,
            failed: sum.service.failed.count,
            intended_per_second: self.pace.rate(),
            achieved_per_second: achieved,
            behind_ns: self.lanes.iter().map(|lane| lane.behind.load(Relaxed)).max().unwrap_or(0),
            service_ns: sum.service,
            response_ns: sum.response,
        }
    }
}

fn left(limit: Limit, elapsed: u64, calls: u64, achieved: f64) -> Option<u64> {
    let by_time = limit
        .duration
        .map(|duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).saturating_sub(elapsed));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive; saturates")]
    let by_count = limit
        .count
        .filter(|_| achieved > 0.0)
        .map(|count| (count.get().saturating_sub(calls) as f64 / achieved * 1e9) as u64);
    by_time.into_iter().chain(by_count).min()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_nearer_end_is_what_is_left() {
        let limit = |count, seconds: Option<u64>| Limit {
            count: NonZeroU64::new(count),
            duration: seconds.map(Duration::from_secs),
        };
        assert_eq!(left(limit(0, Some(10)), 4_000_000_000, 5, 1.0), Some(6_000_000_000));
        assert_eq!(left(limit(100, Some(10)), 4_000_000_000, 80, 20.0), Some(1_000_000_000));
        assert_eq!(left(limit(100, None), 0, 0, 0.0), None);
    }
}
