//! What the instrument itself costs. Recorded only on request (`--self-cost`).

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

/// What the probes add to one GET_PA on this machine, measured with calls of the recorder's own before
/// and after attaching: calls of GET_PA that pass both sites and fail with ENOENT. All in ns; the smallest of
/// many averages, so that other work on the machine shows as little as it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calibration {
    /// Calls per average.
    pub calls: u32,
    /// Averages taken with and without probes.
    pub rounds: u32,
    /// One call without probes.
    pub bare: u64,
    /// One call with the dispatch site's probes alone.
    pub dispatch: u64,
    /// One call with both sites' probes.
    pub both: u64,
    /// By how much averages without probes differ among themselves: the largest less the smallest of
    /// the better half. Costs below it cannot be told from noise.
    pub noise: u64,
}

impl Calibration {
    /// What all probes add to a call.
    pub fn added(&self) -> u64 {
        self.both.saturating_sub(self.bare)
    }

    /// What the `get_phys` probes add: it lies inside the dispatch latency.
    pub fn inner(&self) -> u64 {
        self.both.saturating_sub(self.dispatch)
    }

    /// Whether the cost stands out of the noise.
    pub fn is_known(&self) -> bool {
        self.added() > self.noise
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_below_the_noise_are_not_known() {
        let calibration =
            Calibration { calls: 100, rounds: 50, bare: 400, dispatch: 520, both: 700, noise: 30 };
        assert_eq!((calibration.added(), calibration.inner()), (300, 180));
        assert!(calibration.is_known());
        assert!(!Calibration { noise: 300, ..calibration }.is_known());
        assert_eq!(Calibration { both: 390, ..calibration }.added(), 0);
    }
}
