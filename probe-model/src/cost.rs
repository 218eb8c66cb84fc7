//! How long the programs run. Recorded only on request (`--self-cost`); what they add to a call is in
//! [`crate::share`].

use serde::{Deserialize, Serialize};

/// Run time of one BPF program by the kernel's own statistics, cumulative. Additive. It holds the
/// program's body alone, not the way to it, and reading the clock for it makes each run longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProgramCost {
    /// Runs.
    pub runs: u64,
    /// Time of all runs, ns.
    pub nanos: u64,
}

impl ProgramCost {
    /// What happened since `older`.
    #[must_use]
    pub fn since(&self, older: &Self) -> Self {
        Self { runs: self.runs.wrapping_sub(older.runs), nanos: self.nanos.wrapping_sub(older.nanos) }
    }

    /// Add what happened next.
    pub fn append(&mut self, next: &Self) {
        self.runs = self.runs.wrapping_add(next.runs);
        self.nanos = self.nanos.wrapping_add(next.nanos);
    }
}
