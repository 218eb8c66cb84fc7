//! Attribution: whose calls they were, by process at the dispatch site, by process and IOAS at `get_phys`.
//!
//! A bounded table in the kernel; who came when it was full shares the row without a `who`, so the
//! totals over all rows are exact. A row belongs to a process *number*: a later process that gets the
//! same number and the same IOAS counts on in the same row.

use serde::{Deserialize, Serialize};

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Whose calls; `None` for all that found the table full.
    pub who: Option<Who>,
    /// Name of the site.
    pub site: String,
    /// Calls that returned.
    pub calls: u64,
    /// Of these, the ones that failed.
    pub failed: u64,
    /// Sum of their latencies, ns.
    pub nanos: u64,
    /// Sum of the pages that the returned runs touch; 0 at the dispatch site.
    pub pages: u64,
    /// Sum of the returned runs, bytes; 0 at the dispatch site.
    pub bytes: u64,
}

/// A caller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Who {
    /// Process number in the initial PID namespace.
    pub pid: u32,
    /// The process's name when it was first seen (`comm` of the calling thread): up to 15 arbitrary
    /// bytes, not necessarily UTF-8 and not safe to print.
    #[serde(with = "serde_bytes")]
    pub comm: Vec<u8>,
    /// The IOAS's number as its file descriptor knows it (`ioas_id` of the UAPI); `None` at the
    /// dispatch site, and where the kernel's types did not tell where it is kept.
    pub ioas: Option<u32>,
}

impl Row {
    /// What was counted since `older`, a state of the same row before.
    #[must_use]
    pub fn since(&self, older: &Self) -> Self {
        self.zip(older, u64::wrapping_sub)
    }

    /// Add what the same row counted next.
    pub fn append(&mut self, next: &Self) {
        *self = self.zip(next, u64::wrapping_add);
    }

    /// Nothing was counted: no call, nor what the window before lacks of one.
    pub fn is_empty(&self) -> bool {
        [self.calls, self.failed, self.nanos, self.pages, self.bytes] == [0; 5]
    }

    fn zip(&self, other: &Self, combine: fn(u64, u64) -> u64) -> Self {
        Self {
            who: self.who.clone(),
            site: self.site.clone(),
            calls: combine(self.calls, other.calls),
            failed: combine(self.failed, other.failed),
            nanos: combine(self.nanos, other.nanos),
            pages: combine(self.pages, other.pages),
            bytes: combine(self.bytes, other.bytes),
        }
    }
}
