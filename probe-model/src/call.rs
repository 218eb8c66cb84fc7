//! Single calls: sampled, or slower than a threshold. An extra beside the counters, which hold every
//! call; only these depend on the delivery of events, and what was not delivered is counted.

use serde::{Deserialize, Serialize};

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// When it returned, ns of `CLOCK_MONOTONIC`.
    pub at: u64,
    /// Latency, ns.
    pub nanos: u64,
    /// Process number in the initial PID namespace.
    pub pid: u32,
    /// Thread number.
    pub tid: u32,
    /// CPU on which it returned.
    pub cpu: u32,
    /// `comm` of the thread: up to 15 arbitrary bytes.
    #[serde(with = "serde_bytes")]
    pub comm: Vec<u8>,
    /// Errno of a failed call, 0 of a successful one.
    pub errno: u32,
    /// Whether it is one because it was slow; else it is a sample.
    pub slow: bool,
    /// What the site adds.
    pub what: What,
}

/// What a call was, by site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The dispatch site: the command by name.
    Dispatch {
        /// UAPI name without `IOMMU_`.
        command: String,
    },
    /// The `get_phys` site. Without a successful scan only the cap is known.
    GetPhys {
        /// The IOVA asked for; only where it was asked to be included.
        #[serde(default)]
        iova: Option<u64>,
        /// Bytes asked for; `None` where the ABI has no cap, or it is 2^64 - 1 (no limit).
        cap: Option<u64>,
        /// Bytes returned; `None` of a failed call.
        run: Option<u64>,
        /// Pages that the run touches; `None` of a failed call.
        pages: Option<u64>,
        /// Why the scan ended; `None` of a failed call.
        stop: Option<String>,
    },
}

/// How many calls were taken for single records, cumulative. Additive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Taken {
    /// Handed over.
    pub kept: u64,
    /// Chosen, and lost because the ring had no room.
    pub dropped: u64,
}

impl Taken {
    /// What happened since `older`.
    #[must_use]
    pub fn since(&self, older: &Self) -> Self {
        Self { kept: self.kept.wrapping_sub(older.kept), dropped: self.dropped.wrapping_sub(older.dropped) }
    }

    /// Add what happened next.
    pub fn append(&mut self, next: &Self) {
        self.kept = self.kept.wrapping_add(next.kept);
        self.dropped = self.dropped.wrapping_add(next.dropped);
    }
}
