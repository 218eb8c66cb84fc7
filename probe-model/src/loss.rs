//! Losses as values: what became of every call of a site.
//!
//! Two laws hold at every instant at which no call is inside the programs, and are checked:
//!
//! * ours: `entered = exited + unstored + superseded + open`
//! * the kernel's: `superseded + open = return misses + in flight`
//!
//! Together: `entered + entry misses = exited + unstored + entry misses + return misses + in flight`,
//! and the left side is every call that began.

use serde::{Deserialize, Serialize};

/// Fates of the calls of one site, cumulative. The first seven are `probe_common::wire::Flow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flow {
    /// Calls whose entry program ran.
    pub entered: u64,
    /// Calls whose return program ran and found the entry.
    pub exited: u64,
    /// Returns without an entry: the call began before the recording, or its entry was missed or not
    /// stored.
    pub unmatched: u64,
    /// Entries that found no room in the table of open calls.
    pub unstored: u64,
    /// Entries that found an older open call of the same thread: its return was lost.
    pub superseded: u64,
    /// Returns stamped earlier than their entry.
    pub backwards: u64,
    /// Successful returns whose outputs could not be read.
    pub unread: u64,
    /// Calls that the kernel did not show to the entry program: the entry kprobe's own miss counter
    /// (`bpf_link_info.perf_event.kprobe.missed`) and the program's recursion misses.
    pub entry_missed: u64,
    /// Returns that the kernel did not show to the return program: the kretprobe's miss counter less
    /// what it shares with the entry's, and the program's recursion misses. Mostly the kretprobe
    /// pool, max(10, 2 × CPUs) calls deep (kernel/kprobes.c, Linux 7.3), being empty.
    pub return_missed: u64,
}

/// Why calls are missing from the distributions of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The kernel did not run the entry program.
    EntryMissed,
    /// The kernel did not run the return program.
    ReturnMissed,
    /// No room in the table of open calls.
    OpenTableFull,
    /// The clock stepped back during the call.
    ClockBackwards,
    /// The outputs of the call could not be read.
    OutputsUnread,
}

impl Cause {
    /// What happened, for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::EntryMissed => "entry not shown to the probe by the kernel",
            Self::ReturnMissed => "return not shown by the kernel (kretprobe pool empty)",
            Self::OpenTableFull => "no room in the table of open calls",
            Self::ClockBackwards => "clock stepped back during the call",
            Self::OutputsUnread => "outputs could not be read",
        }
    }
}

/// The balance of one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// Calls that began: entries seen and entries that the kernel says we missed.
    pub calls: u64,
    /// Calls in the distributions.
    pub measured: u64,
    /// Calls not in the distributions, by cause; only causes that occurred.
    pub lost: Vec<(Cause, u64)>,
    /// Calls that had not returned.
    pub in_flight: u64,
    /// Returns of calls that began before the recording, or whose entry is counted as lost.
    pub unmatched: u64,
    /// What the two laws leave unexplained; 0 when every call is accounted for.
    pub unexplained: i128,
}

impl Flow {
    /// What happened since `older`.
    #[must_use]
    pub fn since(&self, older: &Self) -> Self {
        self.zip(older, u64::wrapping_sub)
    }

    /// Add what the same counters counted next.
    pub fn append(&mut self, other: &Self) {
        *self = self.zip(other, u64::wrapping_add);
    }

    /// Calls that entered and have not come back: in flight, or their return was lost.
    pub fn open(&self) -> i128 {
        i128::from(self.entered)
            - i128::from(self.exited)
            - i128::from(self.unstored)
            - i128::from(self.superseded)
    }

    /// The balance of these fates.
    pub fn balance(&self) -> Balance {
        let lost = [
            (Cause::EntryMissed, self.entry_missed),
            (Cause::ReturnMissed, self.return_missed),
            (Cause::OpenTableFull, self.unstored),
            (Cause::ClockBackwards, self.backwards),
            (Cause::OutputsUnread, self.unread),
        ];
        let in_flight = i128::from(self.superseded) + self.open() - i128::from(self.return_missed);
        Balance {
            calls: self.entered + self.entry_missed,
            measured: self.exited.saturating_sub(self.backwards + self.unread),
            lost: lost.into_iter().filter(|&(_, count)| count > 0).collect(),
            in_flight: u64::try_from(in_flight).unwrap_or(0),
            unmatched: self.unmatched,
            unexplained: in_flight.min(0),
        }
    }

    fn zip(&self, other: &Self, combine: fn(u64, u64) -> u64) -> Self {
        Self {
            entered: combine(self.entered, other.entered),
            exited: combine(self.exited, other.exited),
            unmatched: combine(self.unmatched, other.unmatched),
            unstored: combine(self.unstored, other.unstored),
            superseded: combine(self.superseded, other.superseded),
            backwards: combine(self.backwards, other.backwards),
            unread: combine(self.unread, other.unread),
            entry_missed: combine(self.entry_missed, other.entry_missed),
            return_missed: combine(self.return_missed, other.return_missed),
        }
    }
}

impl Balance {
    /// Calls not in the distributions, of all causes.
    pub fn lost_calls(&self) -> u64 {
        self.lost.iter().map(|&(_, count)| count).sum()
    }

    /// Every call that began is measured, and the laws hold.
    pub fn is_complete(&self) -> bool {
        self.lost.is_empty() && self.in_flight == 0 && self.unexplained == 0
    }

    /// Lost calls are the slow ones where returns were lost: they were inside together. Percentiles
    /// are then biased low.
    pub fn is_biased(&self) -> bool {
        self.lost.iter().any(|&(cause, _)| cause == Cause::ReturnMissed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_recording_is_complete() {
        let flow = Flow { entered: 20_000, exited: 20_000, ..Flow::default() };
        let balance = flow.balance();
        assert!(balance.is_complete() && !balance.is_biased());
        assert_eq!((balance.calls, balance.measured), (20_000, 20_000));
    }

    #[test]
    fn lost_returns_are_told_from_calls_in_flight() {
        // 640 calls, 48 returns lost: 16 threads called again (superseded), 32 did not; 2 still inside.
        let flow = Flow { entered: 642, exited: 592, superseded: 16, return_missed: 48, ..Flow::default() };
        let balance = flow.balance();
        assert_eq!(flow.open(), 34);
        assert_eq!(balance.in_flight, 2);
        assert_eq!(balance.lost, [(Cause::ReturnMissed, 48)]);
        assert!(balance.is_biased());
        assert_eq!(balance.unexplained, 0);
    }

    #[test]
    fn what_the_kernel_counts_too_much_is_unexplained() {
        let flow = Flow { entered: 10, exited: 10, return_missed: 3, ..Flow::default() };
        assert_eq!(flow.balance().unexplained, -3);
        assert!(!flow.balance().is_complete());
    }

    #[test]
    fn unstored_calls_are_lost_and_their_returns_unmatched() {
        let flow = Flow { entered: 10, exited: 6, unstored: 4, unmatched: 4, ..Flow::default() };
        let balance = flow.balance();
        assert_eq!(balance.lost, [(Cause::OpenTableFull, 4)]);
        assert_eq!((balance.in_flight, balance.unmatched), (0, 4));
    }
}
