//! The measured loop: threads that ask GET_PA over one mapping, each in a closed loop.
//!
//! Between the two clock readings there is the ioctl and nothing else.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::abi::Abi;
use super::errors::{Expected, Fault, FaultPlan};
use super::iommufd::{Iommufd, Query};
use super::outcome::Outcome;
use super::quantity::{Bytes, Iova, PageSize};
use super::session::Target;
use super::tally::{Tally, TallyError};
use super::verify::{Oracle, Verdict};

/// The `length` of each query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    Bytes(Bytes),
    Page,
    /// From the asked IOVA to the end of the mapping.
    Area,
    /// `u64::MAX`: whatever there is.
    Max,
}

/// How far the next query is from the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// By the run the last answer gave
    Returned,
    /// By one page
    Page,
    /// By one huge page of the default size
    Huge,
}

/// When the loop ends by itself; whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Over all threads; deliberate failures come on top.
    pub count: Option<NonZeroU64>,
    pub duration: Option<Duration>,
}

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    Count,
    Duration,
    Interrupted,
}

/// What all threads share.
pub struct Job<'a> {
    pub iommufd: &'a Iommufd,
    pub target: Target,
    pub abi: Abi,
    pub cap: Cap,
    pub step: Step,
    pub limit: Limit,
    pub threads: u64,
    pub page: PageSize,
    pub huge_page: Bytes,
    pub faults: &'a FaultPlan,
    pub oracle: Option<&'a Oracle>,
    pub stop: &'a AtomicBool,
}

/// How one kind of deliberate failure came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultCount {
    pub fault: Fault,
    pub expected: Expected,
    pub outcome: Outcome,
    pub count: u64,
}

/// What the threads saw together.
pub struct Driven {
    pub tally: Tally,
    pub verdict: Verdict,
    pub faults: Vec<FaultCount>,
    pub elapsed: Duration,
    pub ended: Ended,
}

#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    #[error(transparent)]
    Tally(#[from] TallyError),
    #[error("starting load thread {index}")]
    Spawn { index: u64, source: std::io::Error },
    #[error("load thread {0} panicked")]
    Panicked(u64),
}

/// Run the job to its end on `job.threads` threads. All of them are joined, whatever happens.
pub fn drive(job: &Job<'_>) -> Result<Driven, DriveError> {
    let mut lanes = Vec::new();
    for index in 0..job.threads {
        lanes.push(Lane::new(job, index)?);
    }
    let mut driven = Driven {
        tally: Tally::new()?,
        verdict: Verdict::default(),
        faults: Vec::new(),
        elapsed: Duration::ZERO,
        ended: Ended::Count,
    };
    run_all(job, &mut lanes)?;
    let mut span: Option<(Instant, Instant)> = None;
    for lane in lanes {
        let (from, to) = lane.span;
        let whole = span.get_or_insert((from, to));
        *whole = (whole.0.min(from), whole.1.max(to));
        driven.take(lane);
    }
    driven.elapsed = span.map_or(Duration::ZERO, |(from, to)| to - from);
    Ok(driven)
}

/// What the threads wait for, so that they start together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    Go,
    /// A thread could not be started: the others do nothing.
    Abandon,
}

fn run_all(job: &Job<'_>, lanes: &mut [Lane]) -> Result<(), DriveError> {
    let gate = RwLock::new(Gate::Go);
    std::thread::scope(|scope| {
        let mut closed = gate.write().unwrap_or_else(PoisonError::into_inner);
        let mut running = Vec::new();
        let mut failed = None;
        for lane in lanes {
            let index = lane.index;
            let wait = || *gate.read().unwrap_or_else(PoisonError::into_inner);
            let work = move || {
                if wait() == Gate::Go {
                    lane.run(job);
                }
            };
            match std::thread::Builder::new().name(format!("load-{index}")).spawn_scoped(scope, work) {
                Ok(thread) => running.push((index, thread)),
                Err(source) => {
                    *closed = Gate::Abandon;
                    failed = Some(DriveError::Spawn { index, source });
                    break;
                }
            }
        }
        drop(closed);
        for (index, thread) in running {
            if thread.join().is_err() {
                failed.get_or_insert(DriveError::Panicked(index));
            }
        }
        failed.map_or(Ok(()), Err)
    })
}

impl Driven {
    fn take(&mut self, lane: Lane) {
        self.tally.merge(&lane.tally);
        self.verdict.merge(lane.verdict);
        for new in lane.fault_counts {
            match self.faults.iter_mut().find(|old| (old.fault, old.outcome) == (new.fault, new.outcome)) {
                Some(old) => old.count += new.count,
                None => self.faults.push(new),
            }
        }
        // An interruption anywhere is one everywhere; a deadline outranks a count that was reached.
        self.ended = match (self.ended, lane.ended) {
            (Ended::Interrupted, _) | (_, Ended::Interrupted) => Ended::Interrupted,
            (Ended::Duration, _) | (_, Ended::Duration) => Ended::Duration,
            _ => Ended::Count,
        };
    }
}

/// One thread's work and what came of it.
struct Lane {
    index: u64,
    offset: u64,
    quota: Option<u64>,
    /// Deliberate failures still to issue, the next one last.
    faults: Vec<Fault>,
    /// Good calls between two of them.
    gap: u64,
    tally: Tally,
    verdict: Verdict,
    fault_counts: Vec<FaultCount>,
    span: (Instant, Instant),
    ended: Ended,
}

impl Lane {
    fn new(job: &Job<'_>, index: u64) -> Result<Self, TallyError> {
        let count = job.limit.count.map(NonZeroU64::get);
        let quota = count.map(|count| count / job.threads + u64::from(index < count % job.threads));
        let faults = job.faults.share(index, job.threads);
        let gap = quota.map_or(1, |quota| quota / (faults.len() as u64 + 1)).max(1);
        let pages = job.target.size.0 / job.page.0;
        let now = Instant::now();
        Ok(Self {
            index,
            offset: pages * index / job.threads * job.page.0,
            quota,
            faults,
            gap,
            tally: Tally::new()?,
            verdict: Verdict::default(),
            fault_counts: Vec::new(),
            span: (now, now),
            ended: Ended::Count,
        })
    }

    fn run(&mut self, job: &Job<'_>) {
        let began = Instant::now();
        let deadline = job.limit.duration.and_then(|duration| began.checked_add(duration));
        let mut done = 0;
        let mut now = began;
        self.ended = loop {
            if job.stop.load(Ordering::Relaxed) {
                break Ended::Interrupted;
            }
            if self.quota.is_some_and(|quota| done >= quota) {
                break Ended::Count;
            }
            if deadline.is_some_and(|deadline| now >= deadline) {
                break Ended::Duration;
            }
            now = self.good_call(job);
            done += 1;
            if done % self.gap == 0
                && let Some(fault) = self.faults.pop()
            {
                now = self.bad_call(job, fault);
            }
        };
        while self.ended != Ended::Interrupted
            && let Some(fault) = self.faults.pop()
        {
            now = self.bad_call(job, fault);
        }
        self.span = (began, now);
    }

    /// One query at the current offset; returns when it ended.
    fn good_call(&mut self, job: &Job<'_>) -> Instant {
        let offset = self.offset;
        let length = job.length_at(offset);
        let query =
            Query { ioas: job.target.ioas, flags: 0, iova: Iova(job.target.start.0 + offset), length };
        let began = Instant::now();
        let result = job.iommufd.get_pa_uncounted(query);
        let ended = Instant::now();
        self.tally.record(nanos(ended - began), length, result);
        let run = match result {
            Ok(answer) => {
                if let Some(oracle) = job.oracle {
                    oracle.check(offset, length, answer, &mut self.verdict);
                }
                answer.length
            }
            Err(_) => 0,
        };
        self.offset = job.next(offset, run);
        ended
    }

    fn bad_call(&mut self, job: &Job<'_>, fault: Fault) -> Instant {
        let target = job.target;
        let good = Query { ioas: target.ioas, flags: 0, iova: target.start, length: job.page.0 };
        let query = fault.spoil(good, Iova(target.start.0.saturating_add(target.size.0)));
        let began = Instant::now();
        let result = job.iommufd.get_pa_uncounted(query);
        let ended = Instant::now();
        self.tally.record(nanos(ended - began), query.length, result);
        let outcome = Outcome::from(&result);
        let known = self.fault_counts.iter_mut().find(|old| (old.fault, old.outcome) == (fault, outcome));
        if let Some(old) = known {
            old.count += 1;
        } else {
            let expected = fault.expected(job.abi);
            self.fault_counts.push(FaultCount { fault, expected, outcome, count: 1 });
        }
        ended
    }
}

impl Job<'_> {
    fn length_at(&self, offset: u64) -> u64 {
        match self.cap {
            Cap::Bytes(bytes) => bytes.0,
            Cap::Page => self.page.0,
            Cap::Area => self.target.size.0 - offset,
            Cap::Max => u64::MAX,
        }
    }

    /// Where the next query goes: forward, and from the end back to the start.
    fn next(&self, offset: u64, run: u64) -> u64 {
        let forward = match self.step {
            Step::Page => self.page.0,
            Step::Huge => self.huge_page.0.max(self.page.0),
            // A failed call returned nothing to advance by.
            Step::Returned if run == 0 => self.page.0,
            Step::Returned => run,
        };
        match offset.checked_add(forward) {
            Some(next) if next < self.target.size.0 => next,
            _ => 0,
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Step {
    pub fn name(self) -> &'static str {
        match self {
            Self::Returned => "returned",
            Self::Page => "page",
            Self::Huge => "huge",
        }
    }
}

impl Ended {
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "its count",
            Self::Duration => "its duration",
            Self::Interrupted => "a signal",
        }
    }
}

impl std::str::FromStr for Cap {
    type Err = super::quantity::QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "page" => Ok(Self::Page),
            "area" => Ok(Self::Area),
            "max" => Ok(Self::Max),
            _ => text.parse().map(Self::Bytes),
        }
    }
}

impl std::fmt::Display for Cap {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(out, "{}", bytes.0),
            Self::Page => out.write_str("page"),
            Self::Area => out.write_str("area"),
            Self::Max => out.write_str("max"),
        }
    }
}

#[cfg(test)]
mod tests;
