//! Lock waits: where the time of calls went that had to wait. Recorded only on request (`--locks`).
//!
//! From the kernel's tracepoints `lock:contention_begin` and `contention_end`, for threads inside a
//! counted call. An uncontended lock fires neither, so a call that never waited has a wait of 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::sample::{append_histograms, histograms_since};

/// Waits of both sites, cumulative. Additive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Locks {
    /// Successful `get_phys` calls by part of their latency, ns, every call in each part:
    /// `iova_rwsem` (waiting for the IOAS's lock, shared with `IOAS_MAP` and `IOAS_UNMAP`), `pages_mutex`
    /// (waiting for other scans of the same pages), `scanning` (the rest).
    pub get_phys: BTreeMap<String, Histogram>,
    /// Time that calls waited for locks, ns, by command; only calls that waited at all. `GET_PA`'s
    /// contains the waits inside `get_phys`. Spinlocks are among them on `PREEMPT_RT` alone, where they sleep.
    pub commands: BTreeMap<String, Histogram>,
    /// Waits that began and whose end was not seen before the call returned: in no histogram.
    pub unended: u64,
    /// Calls that found no room in the table of waits: in no histogram here.
    pub unstored: u64,
    /// Contended locks of any thread at which the kernel refused to run our tracepoint programs, because
    /// they were in the middle of another one on that CPU. A wait among them is missing.
    pub missed: u64,
}

impl Locks {
    /// What was counted since `older`.
    #[must_use]
    pub fn since(&self, older: &Self) -> Self {
        Self {
            get_phys: histograms_since(&self.get_phys, &older.get_phys),
            commands: histograms_since(&self.commands, &older.commands),
            unended: self.unended.wrapping_sub(older.unended),
            unstored: self.unstored.wrapping_sub(older.unstored),
            missed: self.missed.wrapping_sub(older.missed),
        }
    }

    /// Add what was counted next.
    pub fn append(&mut self, next: &Self) {
        append_histograms(&mut self.get_phys, &next.get_phys);
        append_histograms(&mut self.commands, &next.commands);
        self.unended = self.unended.wrapping_add(next.unended);
        self.unstored = self.unstored.wrapping_add(next.unstored);
        self.missed = self.missed.wrapping_add(next.missed);
    }
}
