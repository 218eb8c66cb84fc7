//! One thread's loop. Between the two clock readings of a call there is the ioctl and nothing else.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use rustix::thread::{CpuSet, sched_setaffinity};

use super::abi::Abi;
use super::arguments::ArgumentHash;
use super::board::{Board, Moments};
use super::clock;
use super::faults::{Expected, Fault, Turns};
use super::iommufd::Query;
use super::outcome::Outcome;
use super::pace::{Pace, Schedule};
use super::plan::Job;
use super::quantity::{Iova, PageSize};
use super::queries::{Ask, Field, Sequence};
use super::random::Random;
use super::session::Target;
use super::ticks::Ticks;
use super::verify::{Oracle, Place, Verdict};
use super::via::{GetPa, Means, Pagemap, PagemapBulk, Via, Way};

/// Longest sleep without a look at the stop flag, ns.
const NAP: u64 = 100_000_000;

/// What the threads of one job share.
pub(super) struct Work<'a> {
    pub(super) job: &'a Job,
    pub(super) way: Way,
    pub(super) means: Means<'a>,
    /// Where the buffer is mapped: once in each IOAS.
    pub(super) targets: &'a [Target],
    pub(super) abi: Abi,
    /// The cheap clock of a loop that reads it once a call, where the kernel allows for it.
    pub(super) ticks: Option<Ticks>,
    pub(super) huge: u64,
    pub(super) oracle: Option<&'a Oracle>,
    pub(super) stop: &'a AtomicBool,
}

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    Count,
    Duration,
    Interrupted,
}

/// How one kind of deliberate failure came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultCount {
    pub fault: Fault,
    pub expected: Expected,
    pub outcome: Outcome,
    pub count: u64,
}

/// What others may see of a thread while it runs.
pub(super) struct Visible {
    /// Calls of the warm-up, which no figure includes.
    pub(super) warm: Option<Board>,
    pub(super) board: Board,
    /// How late the last call began, ns; open loops only.
    pub(super) behind: AtomicU64,
    /// When the measured part began; 0 before.
    pub(super) began: AtomicU64,
}

/// One thread's work and what came of it.
pub(super) struct Lane<'a> {
    work: &'a Work<'a>,
    visible: &'a Visible,
    index: u64,
    target: Target,
    sequence: Box<dyn Sequence>,
    /// Bytes of the last answer.
    run: u64,
    turns: Turns,
    quota: Option<u64>,
    pub(super) hash: ArgumentHash,
    pub(super) verdict: Verdict,
    pub(super) faults: Vec<FaultCount>,
    pub(super) span: (u64, u64),
    pub(super) ended: Ended,
    /// Calls that were due before the end and were never issued.
    pub(super) owed: u64,
    /// How far the cheap clock was from the other at the end, ns.
    pub(super) clock_off: Option<u64>,
    /// The CPU that it was to run on and could not.
    pub(super) unpinned: Option<rustix::io::Errno>,
}

/// A stretch of the loop: where it is counted and when it ends.
struct Phase<'a> {
    board: &'a Board,
    is_warm_up: bool,
    /// By the clock; `u64::MAX` for none.
    until: u64,
    /// Good calls; `u64::MAX` for no limit.
    quota: u64,
}

impl Visible {
    pub(super) fn new(job: &Job, classes: usize) -> Self {
        let board = |classes| Board::new(job.pace.is_open(), classes);
        Self {
            warm: (!job.warm_up.is_zero()).then(|| board(0)),
            board: board(classes),
            behind: AtomicU64::new(0),
            began: AtomicU64::new(0),
        }
    }
}

impl<'a> Lane<'a> {
    pub(super) fn new(work: &'a Work<'a>, visible: &'a Visible, index: u64) -> Self {
        let Job { threads, limit, queries, cap, seed, faults, .. } = work.job;
        let threads = threads.get();
        let quota = limit.count.map(|count| count.get() / threads + u64::from(index < count.get() % threads));
        let PageSize(page) = work.means.page;
        let spaces = work.targets.len() as u64;
        let target = work.targets[usize::try_from(index % spaces).unwrap_or(0)];
        let field = Field {
            size: target.size.0,
            page,
            huge: work.huge,
            cap: *cap,
            start: target.size.0 / page * index / threads * page,
            random: Random::new(*seed, index),
        };
        Self {
            work,
            visible,
            index,
            target,
            sequence: queries.begin(field),
            run: 0,
            turns: Turns::new(faults, index, threads, quota),
            quota,
            hash: ArgumentHash::new(index),
            verdict: Verdict::default(),
            faults: Vec::new(),
            span: (0, 0),
            ended: Ended::Count,
            owed: 0,
            clock_off: None,
            unpinned: None,
        }
    }

    /// The whole life of the thread.
    pub(super) fn run(&mut self) {
        self.settle();
        let means = self.work.means;
        match self.work.way {
            Way::GetPa => self.phases(&mut GetPa(means.iommufd)),
            Way::Pagemap => self.phases(&mut Pagemap::new(means)),
            Way::PagemapBulk => match PagemapBulk::open(means) {
                Ok(mut via) => self.phases(&mut via),
                // It was readable a moment ago; without it there is nothing to do.
                Err(_) => self.ended = Ended::Interrupted,
            },
        }
    }

    /// CPU and timer, as asked for.
    fn settle(&mut self) {
        if self.work.job.pace.is_open() {
            clock::be_punctual();
        }
        let cpus = &self.work.job.cpus;
        if cpus.is_empty() {
            return;
        }
        let mut set = CpuSet::new();
        set.set(cpus[usize::try_from(self.index).unwrap_or(0) % cpus.len()]);
        self.unpinned = sched_setaffinity(None, &set).err();
    }

    fn phases(&mut self, via: &mut impl Via) {
        let job = self.work.job;
        let (begin, visible) = (clock::now(), self.visible);
        let mut schedule = match job.pace {
            Pace::Closed => None,
            Pace::Open { rate, arrivals } => {
                // A stream of its own: the queries' numbers do not depend on the pace.
                let random = Random::new(job.seed ^ u64::MAX, self.index);
                Some(Schedule::new(rate, arrivals, self.index, job.threads.get(), begin, random))
            }
        };
        let mut due = schedule.as_mut().map_or(0, Schedule::due);
        let mut phase = |lane: &mut Self, phase: &Phase<'_>| match &mut schedule {
            None => match self.work.ticks {
                Some(ticks) => lane.closed::<true>(via, phase, || ticks.now()),
                None if job.one_clock => lane.closed::<true>(via, phase, clock::now),
                None => lane.closed::<false>(via, phase, clock::now),
            },
            Some(schedule) => lane.open(via, phase, schedule, &mut due),
        };
        let mut from = begin;
        if let Some(board) = &visible.warm {
            from = begin.saturating_add(nanos(job.warm_up));
            let warm = Phase { board, is_warm_up: true, until: from, quota: u64::MAX };
            if phase(self, &warm) == Ended::Interrupted {
                self.ended = Ended::Interrupted;
                return;
            }
            from = from.max(clock::now());
        }
        visible.began.store(from, Relaxed);
        let until = job.limit.duration.map_or(u64::MAX, |duration| from.saturating_add(nanos(duration)));
        let quota = self.quota.unwrap_or(u64::MAX);
        let measured = Phase { board: &visible.board, is_warm_up: false, until, quota };
        self.ended = phase(self, &measured);
        while self.ended != Ended::Interrupted
            && self.work.way == Way::GetPa
            && let Some(fault) = self.turns.left_over()
        {
            self.bad(&measured, fault, job.pace.is_open().then(clock::now));
        }
        self.clock_off = self.work.ticks.and_then(Ticks::off);
        self.span = (from, clock::now());
    }

    /// `ONE_CLOCK`: the end of a call is the beginning of the next.
    fn closed<const ONE_CLOCK: bool>(
        &mut self,
        via: &mut impl Via,
        phase: &Phase<'_>,
        clock: impl Fn() -> u64 + Copy,
    ) -> Ended {
        let (mut done, mut now) = (0, clock());
        loop {
            if self.work.stop.load(Relaxed) {
                return Ended::Interrupted;
            }
            if done >= phase.quota {
                return Ended::Count;
            }
            if now >= phase.until {
                return Ended::Duration;
            }
            now = self.good(via, phase, None, if ONE_CLOCK { Some(now) } else { None }, clock);
            done += 1;
            if done >= self.turns.due {
                self.due_faults(phase, done, None);
                now = clock();
            }
        }
    }

    fn open(
        &mut self,
        via: &mut impl Via,
        phase: &Phase<'_>,
        schedule: &mut Schedule,
        due: &mut u64,
    ) -> Ended {
        let mut done = 0;
        loop {
            if done >= phase.quota {
                return Ended::Count;
            }
            if *due >= phase.until {
                return Ended::Duration;
            }
            let now = loop {
                let now = clock::now();
                if self.work.stop.load(Relaxed) {
                    return Ended::Interrupted;
                }
                if now >= *due {
                    break now;
                }
                clock::sleep_until((*due).min(now + NAP));
            };
            self.visible.behind.store(now - *due, Relaxed);
            if now >= phase.until && !phase.is_warm_up {
                // The clock ran out before the calls did. They are not dropped in silence.
                while *due < phase.until {
                    self.owed += 1;
                    *due = schedule.due();
                }
                return Ended::Duration;
            }
            self.good(via, phase, Some(*due), None, clock::now);
            done += 1;
            if done >= self.turns.due {
                self.due_faults(phase, done, Some(*due));
            }
            *due = schedule.due();
        }
    }

    /// One query of the pattern; returns when it ended, by `clock`. `began`: a reading that is to do.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the measured loop, in two forms")]
    fn good(
        &mut self,
        via: &mut impl Via,
        phase: &Phase<'_>,
        due: Option<u64>,
        began: Option<u64>,
        clock: impl Fn() -> u64,
    ) -> u64 {
        let Ask { offset, length, class } = self.sequence.next(self.run);
        let iova = Iova(self.target.start.0 + offset);
        let query = Query { ioas: self.target.ioas, flags: 0, iova, length };
        self.hash.word(iova.0);
        self.hash.word(length);
        let began = began.unwrap_or_else(&clock);
        let result = via.ask(query, offset);
        // A thread that changed its CPU may read a counter that is a few ticks behind.
        let ended = clock().max(began);
        phase.board.record(Moments { due, began, ended }, length, class, result);
        self.run = match result {
            Ok(answer) => {
                if let Some(oracle) = self.work.oracle {
                    let place = Place { thread: self.index, offset, length };
                    oracle.check(place, answer, &mut self.verdict);
                }
                answer.length
            }
            Err(_) => 0,
        };
        ended
    }

    /// Failures that are due after `done` good calls.
    #[cold]
    fn due_faults(&mut self, phase: &Phase<'_>, done: u64, due: Option<u64>) {
        // The page tables know no wrong questions, and a warm-up is not counted.
        if self.work.way != Way::GetPa || phase.is_warm_up {
            return;
        }
        while done >= self.turns.due
            && let Some(fault) = self.turns.take(done)
        {
            self.bad(phase, fault, due);
        }
    }

    fn bad(&mut self, phase: &Phase<'_>, fault: Fault, due: Option<u64>) {
        let Target { ioas, start, size } = self.target;
        let good = Query { ioas, flags: 0, iova: start, length: self.work.means.page.0 };
        let query = fault.spoil(good, Iova(start.0.saturating_add(size.0)));
        for word in [fault as u64, query.iova.0, query.length] {
            self.hash.word(word);
        }
        let began = clock::now();
        let result = fault.provoke(self.work.means.iommufd, query);
        let ended = clock::now();
        let at = Moments { due, began, ended };
        match result {
            Err(errno) if fault == Fault::NoIoctl => phase.board.record_unknown(at, errno),
            _ => phase.board.record(at, query.length, usize::MAX, result),
        }
        let outcome = Outcome::from(&result);
        let known = self.faults.iter_mut().find(|old| (old.fault, old.outcome) == (fault, outcome));
        if let Some(old) = known {
            old.count += 1;
        } else {
            let expected = fault.expected(self.work.abi);
            self.faults.push(FaultCount { fault, expected, outcome, count: 1 });
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

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
