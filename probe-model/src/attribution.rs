//! Attribution: whose calls they were, by process at the dispatch site, by process and IOAS at `get_phys`.
//!
//! A bounded table a site in the kernel; who came when it was full shares the row without a `who`, so the
//! totals over all rows are exact. A row belongs to a process and when it began, so a later one that
//! gets the same number has a row of its own; where the beginning is not known, it counts on in the same row. A process
//! that uses an IOAS which it did not make is told from the one before it at the next sample.

use std::collections::BTreeMap;

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
    /// The process's name (`comm` of its first thread, as `ps` shows it) when it called last before the
    /// window's end, or up to a window earlier: names change. Up to 15 arbitrary bytes, not necessarily UTF-8
    /// and not safe to print.
    #[serde(with = "serde_bytes")]
    pub comm: Vec<u8>,
    /// The IOAS's number as its file descriptor knows it (`ioas_id` of the UAPI); `None` at the
    /// dispatch site, and where the kernel's types did not tell where it is kept.
    pub ioas: Option<u32>,
    /// `comm` is that of a thread that called: where the kernel's types cannot be read, the process's name
    /// is not known.
    #[serde(default, skip_serializing_if = "is_not")]
    pub is_threads_name: bool,
    /// When the process began, ns of `CLOCK_BOOTTIME` of the initial time namespace: numbers of processes are used
    /// again. `None` where the kernel's types did not tell, and in older recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
}

impl Who {
    /// What makes a process one, whatever it is called.
    pub fn process(&self) -> (u32, Option<u64>) {
        (self.pid, self.started)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_not(flag: &bool) -> bool {
    !flag
}

/// Give rows of processes that called later the names that they had then: a process's rows are of different
/// sites and times, and it has one name.
pub(crate) fn rename(rows: &mut BTreeMap<u32, Row>, later: &BTreeMap<u32, Row>) {
    let callers = later.values().filter_map(|row| row.who.as_ref());
    let names: BTreeMap<_, &Who> = callers.map(|who| (who.process(), who)).collect();
    for who in rows.values_mut().filter_map(|row| row.who.as_mut()) {
        if let Some(now) = names.get(&who.process()).filter(|now| now.comm != who.comm) {
            who.comm.clone_from(&now.comm);
            who.is_threads_name = now.is_threads_name;
        }
    }
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

#[cfg(test)]
mod tests {
    use crate::attribution::{Row, Who};
    use crate::sample::Counters;

    #[test]
    fn a_process_has_its_last_name_in_all_its_rows() {
        let row = |pid, comm: &str, calls| Row {
            who: Some(Who { pid, comm: comm.into(), ioas: None, is_threads_name: false, started: None }),
            site: "dispatch".to_owned(),
            calls,
            failed: 0,
            nanos: calls,
            pages: 0,
            bytes: 0,
        };
        let window = |rows: &[(u32, Row)]| Counters {
            attribution: rows.iter().cloned().collect(),
            ..Counters::default()
        };
        let mut whole =
            window(&[(1, row(7, "before", 1)), (1025, row(7, "before", 2)), (2, row(8, "other", 1))]);
        whole.append(&window(&[(1, row(7, "after", 4)), (1026, row(7, "after", 1))]));
        let expected = [
            (1, row(7, "after", 5)),
            (2, row(8, "other", 1)),
            (1025, row(7, "after", 2)),
            (1026, row(7, "after", 1)),
        ];
        assert_eq!(
            whole.attribution,
            expected.map(|(slot, row)| (slot, Row { nanos: row.calls, ..row })).into()
        );
    }
}
