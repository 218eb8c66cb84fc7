//! What one thread has seen so far, readable while it goes on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use probe_model::histogram::Histogram;
use rustix::io::Errno;

use super::buckets::{FailedLatencies, Latencies, Runs, bump};
use super::iommufd::Answer;
use super::outcome::{Command, Ledger, Outcome};

/// Errnos that are kept apart; the kernel's own end at 133, and `ERESTART…` and friends below 533.
const ERRNOS: usize = 1024;

/// Latencies of calls, successful and failed ones apart.
#[derive(Debug, Default)]
pub struct Pair {
    pub ok: Latencies,
    pub failed: FailedLatencies,
}

/// The same as histograms, ns.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Times {
    pub ok: Histogram,
    pub failed: Histogram,
}

/// One thread's counts. That thread writes, anyone reads.
#[derive(Debug)]
pub struct Board {
    /// From the call to its return.
    pub service: Pair,
    /// From the moment a call was due to its return: open loops only.
    pub response: Option<Pair>,
    pub runs: Runs,
    /// Successful calls whose run was exactly as long as asked for.
    capped: AtomicU64,
    errnos: Box<[AtomicU64]>,
    /// Calls of [`Command::Unknown`], all of them failed with `ENOTTY`.
    unknown: AtomicU64,
    /// Service time and returned bytes of successful calls by the pattern's class.
    classes: Vec<(Latencies, AtomicU64)>,
}

/// When a call was due, began and ended, ns.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    /// `None` in a closed loop.
    pub due: Option<u64>,
    pub began: u64,
    pub ended: u64,
}

impl Board {
    pub fn new(open: bool, classes: usize) -> Self {
        Self {
            service: Pair::default(),
            response: open.then(Pair::default),
            runs: Runs::default(),
            capped: AtomicU64::new(0),
            errnos: (0..ERRNOS).map(|_| AtomicU64::new(0)).collect(),
            unknown: AtomicU64::new(0),
            classes: (0..classes).map(|_| (Latencies::default(), AtomicU64::new(0))).collect(),
        }
    }

    /// Take in one call that asked for `length` bytes.
    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "the measured loop: a call of it costs a tenth of the loop's own work"
    )]
    pub fn record(&self, at: Moments, length: u64, class: usize, result: Result<Answer, Errno>) {
        let service = at.ended - at.began;
        match result {
            Ok(answer) => {
                self.service.ok.record(service);
                if let (Some(response), Some(due)) = (&self.response, at.due) {
                    response.ok.record(at.ended - due);
                }
                self.runs.record(answer.length);
                bump(&self.capped, u64::from(answer.length == length));
                if let Some((latencies, bytes)) = self.classes.get(class) {
                    latencies.record(service);
                    bump(bytes, answer.length);
                }
            }
            Err(errno) => self.failed(at, errno),
        }
    }

    #[cold]
    fn failed(&self, at: Moments, errno: Errno) {
        self.service.failed.record(at.ended - at.began);
        if let (Some(response), Some(due)) = (&self.response, at.due) {
            response.failed.record(at.ended - due);
        }
        let index = usize::try_from(errno.raw_os_error()).ok().filter(|&index| index < ERRNOS);
        // 0 is no errno: it gathers what has no place of its own.
        bump(&self.errnos[index.unwrap_or(0)], 1);
    }

    /// A failed call of no known ioctl.
    pub fn record_unknown(&self, at: Moments, errno: Errno) {
        self.failed(at, errno);
        bump(&self.unknown, 1);
    }
}

/// Boards of several threads, added up.
#[derive(Debug, Clone)]
pub struct Sum {
    pub service: Times,
    pub response: Option<Times>,
    pub runs: Histogram,
    pub capped: u64,
    /// Failed calls by errno.
    pub errnos: BTreeMap<i32, u64>,
    unknown: u64,
    /// Service time of successful calls and the bytes they returned, by class.
    pub classes: Vec<(Histogram, u64)>,
}

impl Pair {
    fn times(&self) -> Times {
        Times { ok: self.ok.histogram(), failed: self.failed.histogram() }
    }
}

impl Times {
    pub fn merge(&mut self, other: &Self) {
        self.ok.merge(&other.ok);
        self.failed.merge(&other.failed);
    }

    /// Successful and failed calls.
    pub fn count(&self) -> u64 {
        self.ok.count + self.failed.count
    }
}

impl Sum {
    pub fn of<'a>(boards: impl IntoIterator<Item = &'a Board>) -> Self {
        let mut boards = boards.into_iter();
        let nothing = Board::new(false, 0);
        let mut sum = Self::of_one(boards.next().unwrap_or(&nothing));
        for board in boards {
            sum.merge(&Self::of_one(board));
        }
        sum
    }

    fn of_one(board: &Board) -> Self {
        let errnos = (0..).zip(&board.errnos).map(|(errno, cell)| (errno, cell.load(Relaxed)));
        Self {
            service: board.service.times(),
            response: board.response.as_ref().map(Pair::times),
            runs: board.runs.histogram(),
            capped: board.capped.load(Relaxed),
            errnos: errnos.filter(|(_, count)| *count > 0).collect(),
            unknown: board.unknown.load(Relaxed),
            classes: board
                .classes
                .iter()
                .map(|(times, bytes)| (times.histogram(), bytes.load(Relaxed)))
                .collect(),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.service.merge(&other.service);
        if let (Some(ours), Some(theirs)) = (&mut self.response, &other.response) {
            ours.merge(theirs);
        }
        self.runs.merge(&other.runs);
        self.capped += other.capped;
        for (&errno, &count) in &other.errnos {
            *self.errnos.entry(errno).or_default() += count;
        }
        self.unknown += other.unknown;
        for ((ours, bytes), (theirs, more)) in self.classes.iter_mut().zip(&other.classes) {
            ours.merge(theirs);
            *bytes += more;
        }
    }

    /// Every call, by command and outcome.
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.add(Command::GetPa, Outcome::Ok, self.service.ok.count);
        for (&errno, &count) in &self.errnos {
            let unknown = if errno == Errno::NOTTY.raw_os_error() { self.unknown } else { 0 };
            ledger.add(Command::GetPa, Outcome::Failed(errno), count - unknown);
            ledger.add(Command::Unknown, Outcome::Failed(errno), unknown);
        }
        ledger
    }
}

#[cfg(test)]
mod tests {
    use super::super::quantity::PhysAddr;
    use super::*;

    fn answer(length: u64) -> Answer {
        Answer { phys: PhysAddr(0x1000), length }
    }

    fn at(due: Option<u64>, began: u64, ended: u64) -> Moments {
        Moments { due, began, ended }
    }

    #[test]
    fn ok_and_failed_do_not_mix_and_threads_add_up() {
        let boards = [Board::new(false, 0), Board::new(false, 0)];
        for board in &boards {
            board.record(at(None, 100, 200), 4096, 0, Ok(answer(4096)));
            board.record(at(None, 100, 210), 8192, 0, Ok(answer(4096)));
            board.record(at(None, 100, 107), 4096, 0, Err(Errno::NOENT));
            board.record_unknown(at(None, 100, 103), Errno::NOTTY);
        }
        let sum = Sum::of(&boards);
        assert_eq!((sum.service.ok.count, sum.service.failed.count, sum.capped), (4, 4, 2));
        assert_eq!((sum.service.ok.sum, sum.runs.sum), (420, 4 * 4096));
        assert!(sum.response.is_none());
        let counts: Vec<_> =
            sum.ledger().iter().map(|(command, outcome, count)| (command, outcome.name(), count)).collect();
        let expected = [
            (Command::GetPa, "ok".to_owned(), 4),
            (Command::GetPa, "ENOENT".to_owned(), 2),
            (Command::Unknown, "ENOTTY".to_owned(), 2),
        ];
        assert_eq!(counts, expected);
    }

    #[test]
    fn response_counts_from_when_a_call_was_due() {
        let board = Board::new(true, 0);
        board.record(at(Some(100), 600, 650), 4096, 0, Ok(answer(4096)));
        let sum = Sum::of([&board]);
        assert_eq!((sum.service.ok.max, sum.response.and_then(|times| times.ok.max)), (Some(50), Some(550)));
    }

    #[test]
    fn classes_are_kept_apart() {
        let board = Board::new(false, 2);
        board.record(at(None, 0, 10), 4096, 0, Ok(answer(4096)));
        board.record(at(None, 0, 90), 8192, 1, Ok(answer(8192)));
        let classes = Sum::of([&board]).classes;
        assert_eq!(
            classes.iter().map(|(times, bytes)| (times.sum, *bytes)).collect::<Vec<_>>(),
            [(10, 4096), (90, 8192)]
        );
    }
}
