//! Mapping and unmapping while others ask: the patterns there are, and the thread that does it.

mod apart;
mod beside;
mod under;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;

use super::board::Times;
use super::buckets::{FailedLatencies, Latencies, bump};
use super::clock;
use super::iommufd::{IoasId, Iommufd};
use super::outcome::{Command, Ledger, Outcome};
use super::quantity::{Bytes, Iova};

/// A pattern of churn. A new one is a file and a line in [`KINDS`].
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    /// For the help.
    pub about: &'static str,
    /// Whether the answers to queries depend on it: then they cannot be verified.
    pub disturbs_answers: bool,
    pub place: PlaceOf,
}

/// What is mapped and unmapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceOf {
    /// Memory of its own, in the queries' first IOAS.
    OwnMemory,
    /// Memory of its own, in an IOAS of its own.
    OwnIoas,
    /// Slices of the queried buffer.
    Slices,
}

/// Every pattern.
pub const KINDS: &[&Kind] = &[&beside::KIND, &apart::KIND, &under::KIND];

/// Churn, chosen.
#[derive(Debug, Clone, Copy)]
pub struct Churn {
    pub kind: &'static Kind,
    pub threads: u64,
    /// Bytes of each mapping, a multiple of the memory's unit.
    pub size: Bytes,
}

impl Kind {
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name).copied()
    }
}

/// One mapping that a thread takes away and puts back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) ioas: IoasId,
    pub(super) iova: Iova,
    /// In this process.
    pub(super) address: u64,
    pub(super) size: Bytes,
}

/// One thread's counts.
#[derive(Debug, Default)]
pub(super) struct ChurnBoard {
    map: Side,
    unmap: Side,
}

#[derive(Debug)]
struct Side {
    ok: Latencies,
    failed: FailedLatencies,
    /// By errno.
    errnos: Box<[AtomicU64]>,
}

impl Default for Side {
    fn default() -> Self {
        Self {
            ok: Latencies::default(),
            failed: FailedLatencies::default(),
            errnos: (0..1024).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Side {
    fn time(&self, call: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
        let began = clock::now();
        let result = call();
        let took = clock::now() - began;
        match result {
            Ok(()) => self.ok.record(took),
            Err(errno) => {
                self.failed.record(took);
                let index = usize::try_from(errno.raw_os_error()).unwrap_or(0);
                bump(&self.errnos[index.min(self.errnos.len() - 1)], 1);
            }
        }
        result
    }

    fn times(&self) -> Times {
        Times { ok: self.ok.histogram(), failed: self.failed.histogram() }
    }

    fn enter(&self, command: Command, ledger: &mut Ledger) {
        ledger.add(command, Outcome::Ok, self.ok.histogram().count);
        for (errno, cell) in (0..).zip(&self.errnos) {
            ledger.add(command, Outcome::Failed(errno), cell.load(Relaxed));
        }
    }
}

impl ChurnBoard {
    /// Latencies of maps and of unmaps, ns.
    pub(super) fn times(&self) -> (Times, Times) {
        (self.map.times(), self.unmap.times())
    }

    pub(super) fn enter(&self, ledger: &mut Ledger) {
        self.map.enter(Command::IoasMap, ledger);
        self.unmap.enter(Command::IoasUnmap, ledger);
    }

    /// Take the pieces, which are mapped, away and put them back, in turn, until told to stop. At the end
    /// all of them are mapped, unless the kernel refused.
    pub(super) fn run(&self, iommufd: &Iommufd, pieces: &[Piece], over: &AtomicBool, stop: &AtomicBool) {
        for piece in pieces.iter().cycle() {
            if over.load(Relaxed) || stop.load(Relaxed) {
                return;
            }
            let unmapped =
                self.unmap.time(|| iommufd.ioas_unmap_uncounted(piece.ioas, piece.iova, piece.size));
            let mapped = self
                .map
                .time(|| iommufd.ioas_map_uncounted(piece.ioas, piece.iova, piece.address, piece.size));
            // What is refused once is refused again: no reason to go on, and the counts say so.
            if unmapped.is_err() || mapped.is_err() {
                return;
            }
        }
    }
}
