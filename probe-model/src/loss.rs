//! Losses as values: what became of every call of a site.
//!
//! Two laws hold at every instant at which no call is inside the programs, and are checked:
//!
//! * ours: `entered = exited + unstored + unreadable + superseded + open`
//! * the kernel's: `superseded + open = return misses + in flight`
//!
//! Together: `entered + entry misses = exited + unstored + entry misses + return misses + in flight`,
//! and the left side is every call that began.
//!
//! A call can be missed at both ends. It is one entry miss; its return miss has no open call, so the
//! kernel's law then has more return misses than open calls, by at most the entry misses.
//!
//! The one program of fsession serves entries and returns, and the kernel has one counter of misses
//! for it. A return whose entry was missed finds an empty cookie: `unseen` is their number, and what
//! the kernel counted beyond are returns of open calls, one each, and calls missed at both ends, two
//! each. With no call in flight that is exact; with some, the fewest calls are taken that explain the
//! counters.
//!
//! Calls that began before counting, or after its end, are `unarmed`. Those that did not come back are taken
//! to be what the kernel's counters have beyond: their returns may be missed too, and are nobody's loss.
//!
//! A kprobe session's program shows no return of a call whose entry it was not shown, so one miss hides one call,
//! whichever end it hit: `call-missed` is their number. As many as open calls wait for were at returns, the
//! others at entries; with calls in flight the fewest calls are taken.

use serde::{Deserialize, Serialize};

/// Fates of the calls of one site, cumulative. The first nine come from `probe_common::wire::Flow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flow {
    /// Calls whose entry program ran.
    pub entered: u64,
    /// Calls whose return program ran and found the entry.
    pub exited: u64,
    /// Returns without an entry: the call began before the recording, or its entry was missed or not
    /// stored.
    pub unmatched: u64,
    /// Entries that found no slot in the table of open calls.
    pub unstored: u64,
    /// Entries whose arguments could not be read.
    #[serde(default)]
    pub unreadable: u64,
    /// Entries that found an older open call of the same thread: its return was lost.
    pub superseded: u64,
    /// Returns stamped earlier than their entry.
    pub backwards: u64,
    /// Successful returns whose outputs could not be read.
    pub unread: u64,
    /// Of `unmatched`: returns of calls whose entry the kernel did not show to the program of a session.
    #[serde(default)]
    pub unseen: u64,
    /// Of `exited`: calls of the recorder's own (see [`crate::canary`]), in no distribution.
    #[serde(default)]
    pub canary: u64,
    /// Calls of the recorder's own that the kernel's misses hit: they are among those, and no loss.
    #[serde(default)]
    pub canary_missed: u64,
    /// Calls that the entry program saw while calls were not to be counted, before and after the recording.
    #[serde(default)]
    pub unarmed: u64,
    /// Calls that the kernel did not show to the entry program: the entry kprobe's own miss counter
    /// (`bpf_link_info.perf_event.kprobe.missed`) and the program's recursion misses.
    pub entry_missed: u64,
    /// Returns that the kernel did not show to the return program: the kretprobe's miss counter less
    /// what it shares with the entry's. Mostly the kretprobe pool, max(10, 2 × CPUs) calls deep
    /// (kernel/kprobes.c, Linux 7.3), being empty. Trampolines have no pool.
    pub return_missed: u64,
    /// Recursion misses of the return program: it was in the middle of another call on that CPU,
    /// preempted or interrupted.
    #[serde(default)]
    pub return_recursion: u64,
    /// Recursion misses of the program of a session, at entries and returns.
    #[serde(default)]
    pub session_missed: u64,
    /// Calls of a kprobe session that the kernel did not show to its program, at entries (and then not at the
    /// return either) or at returns: the link's own miss counter and the program's recursion misses.
    #[serde(default)]
    pub call_missed: u64,
}

/// Why calls are missing from the distributions of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The kernel did not run the entry program.
    EntryMissed,
    /// The kernel did not run the return program.
    ReturnMissed,
    /// The return program was in the middle of another call on that CPU.
    ReturnRecursion,
    /// The program of a session was in the middle of another call at the entry and at the return.
    BothMissed,
    /// The kernel did not run the program of a kprobe session, at the entry or at the return.
    CallMissed,
    /// No room in the table of open calls.
    OpenTableFull,
    /// The arguments of the call could not be read.
    ArgumentsUnread,
    /// The clock stepped back during the call.
    ClockBackwards,
    /// The outputs of the call could not be read.
    OutputsUnread,
}

/// No call finds its program preempted.
pub(crate) const SESSION: &str = crate::backends::COMPLETE;
/// No call finds them switched off.
const TRAMPOLINES: &str = "fsession or fentry";

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 9] = [
        Self::EntryMissed,
        Self::ReturnMissed,
        Self::ReturnRecursion,
        Self::BothMissed,
        Self::CallMissed,
        Self::OpenTableFull,
        Self::ArgumentsUnread,
        Self::ClockBackwards,
        Self::OutputsUnread,
    ];

    /// Its name in files and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::EntryMissed => "entry-missed",
            Self::ReturnMissed => "return-missed",
            Self::ReturnRecursion => "return-recursion",
            Self::BothMissed => "both-missed",
            Self::CallMissed => "call-missed",
            Self::OpenTableFull => "open-table-full",
            Self::ArgumentsUnread => "arguments-unread",
            Self::ClockBackwards => "clock-backwards",
            Self::OutputsUnread => "outputs-unread",
        }
    }

    /// The other backends that would have measured a call which `backend` lost to this.
    ///
    /// A kprobe session has no pool, and is not preempted in the middle as a trampoline's program is. Trampolines
    /// do not ask whether the CPU is inside the kernel's map code, where it runs no program of a kprobe
    /// (`bpf_prog_active`, `kernel/trace/bpf_trace.c`, Linux 7.3).
    pub fn measured_by(self, backend: &str) -> Option<&'static str> {
        let is_recursion = matches!(self, Self::EntryMissed | Self::ReturnRecursion | Self::BothMissed);
        match self {
            Self::ReturnMissed => Some(SESSION),
            Self::CallMissed => Some(TRAMPOLINES),
            _ if is_recursion && backend == "kprobe" => Some(TRAMPOLINES),
            _ if is_recursion => Some(SESSION),
            _ => None,
        }
    }

    /// What happened, for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::EntryMissed => "entry not shown to the probe by the kernel",
            Self::ReturnMissed => "return not shown by the kernel (kretprobe pool empty)",
            Self::ReturnRecursion => "return met the probe preempted in another call",
            Self::BothMissed => "entry and return met the probe preempted",
            Self::CallMissed => "call not shown to the session by the kernel",
            Self::OpenTableFull => "no room in the table of open calls",
            Self::ArgumentsUnread => "arguments could not be read",
            Self::ClockBackwards => "clock stepped back during the call",
            Self::OutputsUnread => "outputs could not be read",
        }
    }
}

/// The balance of one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// Calls that began: entries seen and entries that the kernel says we missed, less the canaries.
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

/// Misses at returns by the calls they hit.
struct Missed {
    /// Entered calls for whose return the kernel had no room.
    pool: u64,
    /// Entered calls whose return found the program running.
    recursion: u64,
    /// Calls of a session of which nothing was seen.
    both: u64,
    /// A call of a session whose entry was missed and which is still inside.
    hidden: u64,
    /// Calls of a kprobe session of which nothing was seen.
    whole: u64,
    /// Calls of a kprobe session that were missed and were not to be counted.
    nobodys: u64,
    unexplained: i128,
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
            - i128::from(self.unreadable)
            - i128::from(self.superseded)
    }

    /// The balance of these fates.
    pub fn balance(&self) -> Balance {
        let Missed { pool, recursion, both, hidden, whole, nobodys, unexplained } = self.missed();
        let lost = [
            (Cause::EntryMissed, self.entry_missed + self.unseen),
            (Cause::ReturnMissed, pool),
            (Cause::ReturnRecursion, recursion),
            (Cause::BothMissed, both),
            (Cause::CallMissed, self.call_missed - nobodys),
            (Cause::OpenTableFull, self.unstored),
            (Cause::ArgumentsUnread, self.unreadable),
            (Cause::ClockBackwards, self.backwards),
            (Cause::OutputsUnread, self.unread),
        ];
        let at_returns = pool + recursion + (self.call_missed - whole - nobodys);
        Balance {
            calls: (self.entered + self.entry_missed + self.unseen + both + hidden + whole)
                .saturating_sub(self.canary + self.canary_missed),
            measured: self.exited.saturating_sub(self.backwards + self.unread + self.canary),
            lost: without(self.canary_missed, lost),
            in_flight: self.due().saturating_sub(at_returns) + hidden,
            unmatched: self.unmatched,
            unexplained,
        }
    }

    /// Calls that entered and whose return was not seen.
    pub fn due(&self) -> u64 {
        u64::try_from(i128::from(self.superseded) + self.open()).unwrap_or(0)
    }

    /// Whose the misses at returns were.
    fn missed(&self) -> Missed {
        let none = Missed { pool: 0, recursion: 0, both: 0, hidden: 0, whole: 0, nobodys: 0, unexplained: 0 };
        let whole = self.call_missed.saturating_sub(self.due());
        let nobodys = whole.min(self.unarmed_open());
        let whole = whole - nobodys;
        let of_session = i128::from(self.session_missed) - i128::from(self.unseen);
        let at_returns = u64::try_from(of_session).unwrap_or(0) + self.return_recursion;
        let excess = (self.return_missed + at_returns).saturating_sub(self.due());
        let unexplained = of_session.min(0);
        if self.session_missed > 0 {
            let recursion = at_returns.saturating_sub(excess);
            let beyond = excess - excess.min(self.unarmed_open());
            return Missed { recursion, both: beyond / 2, hidden: beyond % 2, unexplained, ..none };
        }
        // Those beyond are of calls that are counted as missed at their entry, or of calls that began before
        // the recording, where such calls came back.
        let of_missed = excess.min(self.entry_missed);
        let beyond = excess - of_missed;
        let beyond = if self.older() > 0 { 0 } else { beyond - beyond.min(self.unarmed_open()) };
        let recursion = at_returns.saturating_sub(excess - beyond);
        let pool = self.return_missed.saturating_sub((excess - beyond).saturating_sub(at_returns));
        Missed { pool, recursion, whole, nobodys, unexplained: unexplained - i128::from(beyond), ..none }
    }

    /// Calls that were not to be counted and whose return was not seen.
    fn unarmed_open(&self) -> u64 {
        self.unarmed.saturating_sub(self.older())
    }

    /// Returns of calls that began before the recording: no entry of theirs is counted as lost.
    fn older(&self) -> u64 {
        self.unmatched.saturating_sub(self.unstored + self.unreadable + self.entry_missed + self.unseen)
    }

    fn zip(&self, other: &Self, combine: fn(u64, u64) -> u64) -> Self {
        Self {
            entered: combine(self.entered, other.entered),
            exited: combine(self.exited, other.exited),
            unmatched: combine(self.unmatched, other.unmatched),
            unstored: combine(self.unstored, other.unstored),
            unreadable: combine(self.unreadable, other.unreadable),
            superseded: combine(self.superseded, other.superseded),
            backwards: combine(self.backwards, other.backwards),
            unread: combine(self.unread, other.unread),
            unseen: combine(self.unseen, other.unseen),
            canary: combine(self.canary, other.canary),
            canary_missed: combine(self.canary_missed, other.canary_missed),
            unarmed: combine(self.unarmed, other.unarmed),
            entry_missed: combine(self.entry_missed, other.entry_missed),
            return_missed: combine(self.return_missed, other.return_missed),
            return_recursion: combine(self.return_recursion, other.return_recursion),
            session_missed: combine(self.session_missed, other.session_missed),
            call_missed: combine(self.call_missed, other.call_missed),
        }
    }
}

/// Losses that happened, less those of `canaries` missed ones: of which cause these were is not known where
/// several are, their sum is.
fn without<const N: usize>(mut canaries: u64, mut lost: [(Cause, u64); N]) -> Vec<(Cause, u64)> {
    const HIT: [Cause; 5] = [
        Cause::ReturnMissed,
        Cause::ReturnRecursion,
        Cause::EntryMissed,
        Cause::BothMissed,
        Cause::CallMissed,
    ];
    for cause in HIT {
        for (_, count) in lost.iter_mut().filter(|(known, _)| *known == cause) {
            let canary = canaries.min(*count);
            *count -= canary;
            canaries -= canary;
        }
    }
    lost.into_iter().filter(|&(_, count)| count > 0).collect()
}

impl Balance {
    /// The balance of these calls and of others.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (cause, count) in other.lost {
            match self.lost.iter_mut().find(|(known, _)| *known == cause) {
                Some((_, known)) => *known += count,
                None => self.lost.push((cause, count)),
            }
        }
        self.lost.sort_by_key(|&(cause, _)| cause);
        Self {
            calls: self.calls.saturating_add(other.calls),
            measured: self.measured.saturating_add(other.measured),
            lost: self.lost,
            in_flight: self.in_flight.saturating_add(other.in_flight),
            unmatched: self.unmatched.saturating_add(other.unmatched),
            unexplained: self.unexplained + other.unexplained,
        }
    }

    /// Calls not in the distributions, of all causes.
    pub fn lost_calls(&self) -> u64 {
        self.lost.iter().map(|&(_, count)| count).sum()
    }

    /// Every call that began is measured, and the laws hold.
    pub fn is_complete(&self) -> bool {
        self.lost.is_empty() && self.in_flight == 0 && self.unexplained == 0
    }

    /// Lost calls are the slow ones where the kernel had no room for returns: they were inside
    /// together. Percentiles are then biased low.
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
    fn canaries_are_no_calls() {
        let flow = Flow { entered: 20_010, exited: 20_010, canary: 10, ..Flow::default() };
        let balance = flow.balance();
        assert!(balance.is_complete());
        assert_eq!((balance.calls, balance.measured), (20_000, 20_000));
    }

    #[test]
    fn canaries_that_were_missed_are_no_losses() {
        // 640 calls and 10 canaries; 203 returns lost, 3 of them canaries'.
        let flow = Flow {
            entered: 650,
            exited: 447,
            superseded: 188,
            return_missed: 203,
            canary: 7,
            canary_missed: 3,
            ..Flow::default()
        };
        let balance = flow.balance();
        assert_eq!((balance.calls, balance.measured, balance.in_flight), (640, 440, 0));
        assert_eq!(balance.lost, [(Cause::ReturnMissed, 200)]);
        assert_eq!(balance.unexplained, 0);
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
    fn misses_of_a_session_are_split_by_the_empty_cookies() {
        // 640 calls. Of 5 misses 2 were at entries, whose returns came; 3 calls never came back.
        let flow =
            Flow { entered: 638, exited: 635, unmatched: 2, unseen: 2, session_missed: 5, ..Flow::default() };
        let balance = flow.balance();
        assert_eq!((balance.calls, balance.measured, balance.in_flight), (640, 635, 0));
        assert_eq!(balance.lost, [(Cause::EntryMissed, 2), (Cause::ReturnRecursion, 3)]);
        assert_eq!((balance.unexplained, balance.unmatched), (0, 2));
        assert!(!balance.is_complete() && !balance.is_biased());
    }

    #[test]
    fn calls_of_a_session_missed_at_both_ends_cost_two_misses() {
        // 640 calls: 7 missed at both ends, 2 at the entry, 1 at the return.
        let flow = Flow {
            entered: 631,
            exited: 630,
            unmatched: 2,
            unseen: 2,
            session_missed: 17,
            ..Flow::default()
        };
        let balance = flow.balance();
        let lost = [(Cause::EntryMissed, 2), (Cause::ReturnRecursion, 1), (Cause::BothMissed, 7)];
        assert_eq!((balance.calls, &balance.lost[..]), (640, &lost[..]));
        assert_eq!((balance.in_flight, balance.unexplained), (0, 0));
        // One miss more: the entry of a call that is still inside.
        let balance = Flow { session_missed: 18, ..flow }.balance();
        assert_eq!((balance.calls, balance.in_flight, balance.lost_calls()), (641, 1, 10));
        let impossible = Flow { entered: 10, exited: 10, unseen: 1, ..Flow::default() };
        assert_eq!(impossible.balance().unexplained, -1);
    }

    #[test]
    fn one_miss_of_a_kprobe_session_hides_one_call() {
        // 640 calls: 3 missed at the entry, 2 at the return.
        let flow = Flow { entered: 637, exited: 635, call_missed: 5, ..Flow::default() };
        let balance = flow.balance();
        assert_eq!((balance.calls, balance.measured, balance.in_flight), (640, 635, 0));
        assert_eq!(balance.lost, [(Cause::CallMissed, 5)]);
        assert_eq!(balance.unexplained, 0);
        // 6 more are inside: the fewest calls that explain the misses.
        let balance = Flow { entered: 643, ..flow }.balance();
        assert_eq!((balance.calls, balance.in_flight, balance.lost_calls()), (643, 3, 5));
        // A superseded call is one that waits.
        let flow = Flow { entered: 640, exited: 639, superseded: 1, call_missed: 1, ..Flow::default() };
        let balance = flow.balance();
        assert_eq!(
            (balance.calls, balance.measured, balance.in_flight, balance.unexplained),
            (640, 639, 0, 0)
        );
        let flow = Flow { call_missed: 2, canary_missed: 2, ..Flow::default() };
        assert!(flow.balance().is_complete());
    }

    #[test]
    fn returns_missed_of_calls_that_were_not_counted_are_nobodys_loss() {
        // 7 calls were inside when the recording began: 5 came back unmatched, 2 returns were missed.
        let flow = Flow { entered: 10, exited: 9, unmatched: 5, return_recursion: 3, ..Flow::default() };
        let balance = flow.balance();
        assert_eq!(balance.lost, [(Cause::ReturnRecursion, 1)]);
        assert_eq!((balance.calls, balance.in_flight, balance.unexplained), (10, 0, 0));
        // No older call came back: what the kernel counts too much is not explained away.
        assert_eq!(Flow { unmatched: 0, ..flow }.balance().unexplained, -2);
        // Nor where all that came back are of calls that found no room.
        assert_eq!(Flow { entered: 15, unstored: 5, ..flow }.balance().unexplained, -2);
    }

    #[test]
    fn a_missed_return_of_a_call_begun_before_counting_is_no_call_in_flight() {
        // 3 calls were inside when counting began, and 2 of them were seen to come back.
        let before = Flow { entered: 100, exited: 100, unarmed: 3, unmatched: 2, ..Flow::default() };
        for missed in [
            Flow { session_missed: 1, ..before },
            Flow { return_recursion: 1, ..before },
            Flow { return_missed: 1, ..before },
            Flow { call_missed: 1, ..before },
        ] {
            let balance = missed.balance();
            assert_eq!((balance.calls, balance.measured, balance.in_flight), (100, 100, 0), "{missed:?}");
            assert!(balance.is_complete(), "{missed:?}");
        }
        // None of them came back: a missed return is theirs, and one more is not.
        let one = Flow { unarmed: 1, unmatched: 0, ..before };
        assert!(Flow { return_recursion: 1, ..one }.balance().is_complete());
        assert_eq!(Flow { return_recursion: 2, ..one }.balance().unexplained, -1);
        assert_eq!(Flow { call_missed: 2, ..one }.balance().lost, [(Cause::CallMissed, 1)]);
        assert_eq!(Flow { session_missed: 2, ..one }.balance().in_flight, 1);
    }

    #[test]
    fn return_misses_of_missed_entries_are_not_lost_twice() {
        // 640 calls: 40 missed at the entry, 3 of these at the return too; 1 at the return alone.
        let flow = Flow {
            entered: 600,
            exited: 599,
            entry_missed: 40,
            return_recursion: 4,
            unmatched: 37,
            ..Flow::default()
        };
        let balance = flow.balance();
        assert_eq!(balance.calls, 640);
        assert_eq!(balance.lost, [(Cause::EntryMissed, 40), (Cause::ReturnRecursion, 1)]);
        assert_eq!((balance.in_flight, balance.unexplained), (0, 0));
    }

    #[test]
    fn unstored_calls_are_lost_and_their_returns_unmatched() {
        let flow = Flow { entered: 10, exited: 6, unstored: 4, unmatched: 4, ..Flow::default() };
        let balance = flow.balance();
        assert_eq!(balance.lost, [(Cause::OpenTableFull, 4)]);
        assert_eq!((balance.in_flight, balance.unmatched), (0, 4));
    }
}
