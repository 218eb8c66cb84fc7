//! The bytes in the maps, proven free of padding.
//!
//! One [`Block`] per possible CPU, written only by that CPU with plain increments. kprobe programs run
//! with preemption off. Trampoline programs may be preempted, but not migrated; while one is, the
//! kernel refuses to run the same program on that CPU and counts a recursion miss
//! (`__bpf_prog_enter_recur`, kernel/bpf/trampoline.c, Linux 7.3), and no word of a block is written
//! by two programs. User space maps the blocks, adds them up, and writes [`Block::armed`] and, to let the
//! programs look a caller up again, [`LastCaller::tgid`].
//!
//! Buckets and errnos are counted in 32 bits to halve the size of a block. Readers take wrapping
//! differences: exact as long as one counts fewer than 2^32 calls between two samples. Sums are 64 bits
//! wide.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::bucket::log2;
use crate::command;
use crate::dist::{FailedLatencies, Latencies, RunLengths};
use crate::site::SITES;

/// Name of the array with one element of all [`Block`]s, one per possible CPU, mappable.
pub const BLOCKS_MAP: &str = "BLOCKS";
/// Name of the map with caps of open calls that [`crate::cookie::CapCode`] cannot hold.
pub const CAPS_MAP: &str = "CAPS";
/// Name of the array with the one [`Shared`].
pub const SHARED_MAP: &str = "SHARED";
/// Name of the hash map from [`CallerKey`] to slot; user space cannot read it.
pub const SLOTS_MAP: &str = "SLOTS";
/// Name of the array of [`Caller`]s by [`caller_row`], mappable.
pub const CALLERS_MAP: &str = "CALLERS";
/// Name of the ring buffer of [`CallRecord`]s.
pub const CALLS_MAP: &str = "CALLS";
/// Name of the array of [`Wait`]s, by thread.
pub const WAITS_MAP: &str = "WAITS";
/// Name of the array of [`LockBlock`]s, one per possible CPU, mappable.
pub const LOCK_BLOCKS_MAP: &str = "LOCK_BLOCKS";

/// Rows of a site's table of callers, by slot. The first one is for who finds it full.
pub const CALLERS: usize = 1024;
/// Rows of all sites' tables.
pub const CALLER_ROWS: usize = CALLERS * SITES.len();

/// Open calls a site can hold at once; a call beyond is counted in [`Flow::unstored`].
pub const OPEN_CALLS: u32 = 16_384;
/// Slots in which a thread's open call may be, from the one that its number chooses.
pub const PROBES: u32 = 4;
/// Slots of a table of open calls.
pub const OPEN_SLOTS: u32 = OPEN_CALLS + PROBES - 1;
/// The owner of a slot without a call: the idle task issues no ioctls.
pub const FREE: u64 = 0;

/// Scan-length classes: class `c` holds scans of `2^c` to `2^(c+1) - 1` pages, the last one all longer.
pub const SCAN_CLASSES: usize = 16;

/// Slots of an errno table: the kernel's own errnos end at 530 (include/linux/errno.h, Linux 7.3).
pub const ERRNO_SLOTS: usize = 576;

/// What became of the calls of one site. Fates of armed calls:
/// `entered = exited + unstored + unreadable + superseded + (slots left in the table of open calls)`, where
/// `exited` = values in the site's latency distributions + `backwards` + `unread` + `canary`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Flow {
    /// Calls whose entry program ran.
    pub entered: u64,
    /// Returns without an entry: the call began before arming, or its entry was missed or not stored.
    pub unmatched: u64,
    /// Entries that found no slot in the table of open calls.
    pub unstored: u64,
    /// Entries whose arguments could not be read.
    pub unreadable: u64,
    /// Entries that found an older open call of the same thread: its return was lost.
    pub superseded: u64,
    /// Returns stamped earlier than their entry (`bpf_ktime_get_ns` may step back across an update);
    /// in no distribution.
    pub backwards: u64,
    /// Successful returns whose outputs could not be read; in no distribution.
    pub unread: u64,
    /// Of `unmatched`: returns of calls whose entry the kernel did not show to the fsession program.
    pub unseen: u64,
    /// Calls of the recorder's own, in no distribution and no row of callers.
    pub canary: u64,
    /// Calls since the last one that was sampled for a single record.
    pub unsampled: u64,
    /// Single records that found the ring full or busy.
    pub dropped: u64,
    /// Entries while nothing was counted: before arming, after disarming.
    pub unarmed: u64,
}

/// The caller whose call a site counted last on this CPU. Holds a kernel pointer: never leaves the
/// BPF side.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LastCaller {
    /// The `struct io_pagetable`; 0 at the dispatch site.
    pub iopt: u64,
    /// The process; 0, which makes no calls: to be looked up again.
    pub tgid: u32,
    /// Its row in the site's table.
    pub slot: u32,
}

/// Calls of one caller that returned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CallerCell {
    /// Calls.
    pub calls: u64,
    /// Of these, failed ones.
    pub failed: u64,
    /// Sum of their latencies, ns.
    pub nanos: u64,
}

/// Scans of one caller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ScannerCell {
    /// Its calls.
    pub calls: CallerCell,
    /// Sum of the pages that the returned runs touch.
    pub pages: u64,
    /// Sum of the returned runs, bytes.
    pub bytes: u64,
}

/// Latency of one command.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CommandCell {
    /// Latency of successful calls, ns.
    pub ok: Latencies,
    /// Latency of failed calls, ns.
    pub failed: FailedLatencies,
    /// Failed calls per errno, by [`errno_slot`].
    pub errno: [u32; ERRNO_SLOTS],
}

/// Everything about `iopt_get_phys`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ScanCell {
    /// Latency of successful calls by scan-length class, ns.
    pub ok: [Latencies; SCAN_CLASSES],
    /// Latency of failed calls, ns.
    pub failed: FailedLatencies,
    /// Failed calls per errno, by [`errno_slot`].
    pub errno: [u32; ERRNO_SLOTS],
    /// Returned run in bytes, by [`Stop`].
    pub runs: [RunLengths; Stop::COUNT],
}

/// One CPU's counters.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Block {
    /// Calls that begin on this CPU while this is 0 are not counted. Written by user space: 1, or for a rehearsal
    /// [`armed_for`] a result.
    pub armed: u64,
    /// Fates of calls, by [`crate::site::SiteId`].
    pub flow: [Flow; SITES.len()],
    /// The site's last caller here, by [`crate::site::SiteId`].
    pub last: [LastCaller; SITES.len()],
    /// Callers of the dispatch site by slot.
    pub callers: [CallerCell; CALLERS],
    /// Callers of the `get_phys` site by slot.
    pub scanners: [ScannerCell; CALLERS],
    /// The dispatch site, by [`command::row_of`].
    pub dispatch: [CommandCell; command::ROWS],
    /// The `get_phys` site.
    pub get_phys: ScanCell,
}

/// [`Block::armed`] of a rehearsal: every call is counted as one with this result.
#[must_use]
pub const fn armed_for(result: i32) -> u64 {
    1 << 32 | result.cast_unsigned() as u64
}

/// What all CPUs share.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Shared {
    /// Commands inside the dispatch that may change areas ([`command::changes_areas`]).
    pub changing: u64,
    /// `bpf_ktime_get_ns` at the return of the last such command.
    pub changed_at: u64,
    /// Slots that were given away beyond the first one, by [`crate::site::SiteId`].
    pub slots: [u64; SITES.len()],
}

/// Key of the tables of callers. Holds a kernel pointer: never leaves the BPF side.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CallerKey {
    /// The `struct io_pagetable`; 0 at the dispatch site.
    pub iopt: u64,
    /// When the process began, ns of `CLOCK_BOOTTIME`: numbers of processes are used again. 0 where it is not known.
    pub started: u64,
    /// The process.
    pub tgid: u32,
    /// The IOAS's number; 0 where it is not known.
    pub ioas: u32,
}

/// Who has a row of the tables of callers.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Caller {
    /// The process; 0 of a slot that nobody has.
    pub tgid: u32,
    /// The IOAS's number; 0 where it is not known (numbers begin with 1).
    pub ioas: u32,
    /// The site, as [`crate::site::SiteId`].
    pub site: u32,
    /// Whose name it is, as [`NamedBy`].
    pub named_by: u32,
    /// When the process began, ns of `CLOCK_BOOTTIME`; 0 where it is not known.
    pub started: u64,
    /// `bpf_ktime_get_ns` when the name was looked up last.
    pub named_at: u64,
    /// The name that it had then.
    pub comm: [u8; COMM],
}

/// Whose `comm` a caller's name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum NamedBy {
    /// The process's: that of its first thread.
    Process = 0,
    /// That of a thread that called: the kernel's types did not tell where a process has its name.
    Thread = 1,
}

/// The row of a slot of a site ([`crate::site::SiteId`]) among those of all sites.
#[must_use]
#[inline(always)]
#[allow(clippy::inline_always, reason = "BPF: a call would cost more than the body")]
pub const fn caller_row(site: usize, slot: usize) -> usize {
    site * CALLERS + slot
}

/// `TASK_COMM_LEN` (include/linux/sched.h, Linux 7.3): 15 bytes and a NUL.
pub const COMM: usize = 16;

/// A single call that was sampled or slow. Holds neither a physical address nor a kernel pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CallRecord {
    /// `bpf_ktime_get_ns` at return.
    pub at: u64,
    /// Latency, ns.
    pub nanos: u64,
    /// Thread in the lower half, process in the upper.
    pub thread: u64,
    /// The IOVA; 0 unless it was asked to be included.
    pub iova: u64,
    /// The cap in bytes; 2^64 - 1 where there is none. Of `get_phys` only.
    pub cap: u64,
    /// The returned run in bytes. Of successful `get_phys` calls only.
    pub run: u64,
    /// Pages that the run touches. Of successful `get_phys` calls only.
    pub pages: u64,
    /// The CPU at return.
    pub cpu: u32,
    /// Errno of a failed call; 0 of a successful one.
    pub errno: u32,
    /// The site, as [`crate::site::SiteId`].
    pub site: u32,
    /// Row of the command at the dispatch site, [`Stop`] of a successful call at `get_phys`.
    pub kind: u32,
    /// 1 of a call that is recorded because it was slow.
    pub slow: u32,
    /// 0.
    pub reserved: u32,
    /// `comm` of the thread.
    pub comm: [u8; COMM],
}

/// What a thread inside the dispatch has waited for locks. Holds kernel pointers: never leaves the BPF
/// side.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Wait {
    /// The thread, as `bpf_get_current_pid_tgid`; [`FREE`] for a slot without a call.
    pub owner: u64,
    /// The lock that it waits for; 0: none.
    pub lock: u64,
    /// `bpf_ktime_get_ns` when the wait began.
    pub since: u64,
    /// Which lock that is, as [`Lock`].
    pub which: u64,
    /// All waits since the entry of the dispatch, ns.
    pub all: u64,
    /// The `struct io_pagetable` that it scans; 0 outside of `get_phys`.
    pub iopt: u64,
    /// Where that scan begins.
    pub iova: u64,
    /// Waits for it since the entry of `get_phys`, ns.
    pub for_rwsem: u64,
    /// Waits for the `iopt_pages.mutex` of what it scans since the entry of `get_phys`, ns.
    pub for_mutex: u64,
}

/// The locks that a scan takes, told by their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Lock {
    /// None of them.
    Other = 0,
    /// `io_pagetable.iova_rwsem`, or the lock inside it.
    IovaRwsem = 1,
    /// `iopt_pages.mutex` of the area.
    PagesMutex = 2,
}

/// One CPU's lock waits.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LockBlock {
    /// Successful `get_phys` calls: waiting for `iova_rwsem`, ns.
    pub rwsem: Latencies,
    /// Successful `get_phys` calls: waiting for `iopt_pages.mutex`, ns.
    pub mutex: Latencies,
    /// Successful `get_phys` calls: the rest of their latency, ns.
    pub scanning: Latencies,
    /// Waits of calls that waited at all, ns, by row of the command.
    pub commands: [FailedLatencies; command::ROWS],
    /// Waits whose end was not seen.
    pub unended: u64,
    /// Calls without a slot in the table of waits: in no distribution here.
    pub unstored: u64,
}

/// Why a scan ended (`iopt_get_phys`, Linux 7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Stop {
    /// The run fills the cap exactly. Known only where `*length` at entry is a cap.
    Cap = 0,
    /// The run is shorter than the cap: the area's end or a discontiguity, and not known which.
    Short = 1,
    /// Success with a physical address of 0: the first page has no mapping.
    Unmapped = 2,
    /// Short, and the area had ended: read from the IOAS's tree of areas at the return, while no
    /// command that changes areas was under way or had been since the call began.
    AreaEnd = 3,
    /// Short, and the area went on: the next page was not physically next, or had no mapping. Known in
    /// the same way.
    Break = 4,
}

impl Stop {
    /// Number of stops.
    pub const COUNT: usize = 5;
    /// Every stop, in the order of [`ScanCell::runs`].
    pub const ALL: [Self; Self::COUNT] = [Self::Cap, Self::Short, Self::Unmapped, Self::AreaEnd, Self::Break];

    /// The word users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cap => "cap",
            Self::Short => "short",
            Self::Unmapped => "unmapped",
            Self::AreaEnd => "area-end",
            Self::Break => "break",
        }
    }
}

/// A slot of the dispatch site's open calls.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DispatchOpen {
    /// The thread, as `bpf_get_current_pid_tgid`; [`FREE`] for a slot without a call.
    pub owner: u64,
    /// `bpf_ktime_get_ns` at entry.
    pub entered_at: u64,
    /// Row of the command.
    pub row: u64,
}

/// A slot of the `get_phys` site's open calls. Holds kernel pointers: never leaves the BPF side.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetPhysOpen {
    /// The thread, as `bpf_get_current_pid_tgid`; [`FREE`] for a slot without a call.
    pub owner: u64,
    /// `bpf_ktime_get_ns` at entry.
    pub entered_at: u64,
    /// The `paddr` argument.
    pub paddr: u64,
    /// The `length` argument.
    pub length: u64,
    /// `*length` at entry.
    pub cap: u64,
    /// The `iova` argument.
    pub iova: u64,
    /// The `iopt` argument.
    pub iopt: u64,
}

/// The scan-length class of a scan of `pages` pages.
#[must_use]
#[inline(always)]
#[allow(clippy::inline_always, reason = "BPF: a call would cost more than the body")]
pub fn scan_class(pages: u64) -> usize {
    let class = log2(pages) as usize;
    if class < SCAN_CLASSES { class } else { SCAN_CLASSES - 1 }
}

/// The slot of an errno: the errno itself; slot 0 gathers those beyond the table.
#[must_use]
#[inline(always)]
#[allow(clippy::inline_always, reason = "BPF: the bound is known only where this is inlined")]
pub const fn errno_slot(errno: u64) -> usize {
    if errno < ERRNO_SLOTS as u64 { errno as usize } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    #[test]
    fn sizes_are_pinned() {
        assert_eq!(size_of::<Flow>(), 96);
        assert_eq!(size_of::<CommandCell>(), 32 + 4096 * 4 + 32 + 560 * 4 + 576 * 4);
        assert_eq!(offset_of!(Block, dispatch), 8 + 2 * 96 + 2 * 16 + CALLERS * (24 + 40));
        // Programs reach a row's fields by the 16-bit offset of one instruction.
        assert!(i16::try_from(offset_of!(Block, scanners) + size_of::<ScannerCell>()).is_ok());
        assert_eq!(size_of::<CallRecord>(), 96);
        assert_eq!(size_of::<Block>() % 8, 0);
        // 64 of them and everything else stay below 64 MiB.
        assert!(size_of::<Block>() < 61 << 14);
    }

    #[test]
    fn errnos_have_slots_of_their_own() {
        for errno in 1..ERRNO_SLOTS {
            assert_eq!(errno_slot(errno as u64), errno);
        }
        for other in [576, 4095, u64::MAX] {
            assert_eq!(errno_slot(other), 0);
        }
    }

    #[test]
    fn classes_are_powers_of_two() {
        assert_eq!([0, 1, 2, 3, 4, 512].map(scan_class), [0, 0, 1, 1, 2, 9]);
        assert_eq!(scan_class(1 << 15), 15);
        assert_eq!(scan_class(u64::MAX), 15);
    }
}
