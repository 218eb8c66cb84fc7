//! The bytes in the maps, proven free of padding.
//!
//! One [`Block`] per possible CPU, written only by that CPU with plain increments. kprobe programs run
//! with preemption off. Trampoline programs may be preempted, but not migrated; while one is, the
//! kernel refuses to run the same program on that CPU and counts a recursion miss
//! (`__bpf_prog_enter_recur`, kernel/bpf/trampoline.c, Linux 7.3), and no word of a block is written
//! by two programs. User space maps the blocks, adds them up, and writes [`Block::armed`] alone.
//!
//! Buckets are 32 bits wide to halve the size of a block. Readers take wrapping differences: exact
//! as long as one bucket counts fewer than 2^32 calls between two samples. Sums are 64 bits
//! wide.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::bucket::log2;
use crate::command;
use crate::dist::{FailedLatencies, Latencies, RunLengths};
use crate::site::SITES;

/// Name of the array of [`Block`]s, one element per possible CPU, mappable.
pub const BLOCKS_MAP: &str = "BLOCKS";
/// Name of the read-only global with log2 of the kernel's page size.
pub const PAGE_SHIFT_GLOBAL: &str = "PAGE_SHIFT";
/// Name of the read-only global that says whether `*length` at entry is a cap (see [`Stop`]).
pub const LENGTH_IS_CAP_GLOBAL: &str = "LENGTH_IS_CAP";
/// Name of the map with caps of open calls that [`crate::cookie::CapCode`] cannot hold.
pub const CAPS_MAP: &str = "CAPS";

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
/// `entered = exited + unstored + superseded + (slots left in the table of open calls)`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Flow {
    /// Calls whose entry program ran.
    pub entered: u64,
    /// Calls whose return program ran and found the entry.
    pub exited: u64,
    /// Returns without an entry: the call began before arming, or its entry was missed or not stored.
    pub unmatched: u64,
    /// Entries that found no slot in the table of open calls, or whose arguments could not be read.
    pub unstored: u64,
    /// Entries that found an older open call of the same thread: its return was lost.
    pub superseded: u64,
    /// Returns stamped earlier than their entry (`bpf_ktime_get_ns` may step back across an update);
    /// in no distribution.
    pub backwards: u64,
    /// Successful returns whose outputs could not be read; in no distribution.
    pub unread: u64,
    /// Of `unmatched`: returns of calls whose entry the kernel did not show to the fsession program.
    pub unseen: u64,
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
    pub errno: [u64; ERRNO_SLOTS],
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
    pub errno: [u64; ERRNO_SLOTS],
    /// Sum of the pages that the returned runs touch.
    pub pages: u64,
    /// Returned run in bytes, by [`Stop`].
    pub runs: [RunLengths; Stop::COUNT],
}

/// One CPU's counters.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Block {
    /// Calls that begin on this CPU while this is 0 are not counted. The only word that user space
    /// writes.
    pub armed: u64,
    /// Fates of calls, by [`crate::site::SiteId`].
    pub flow: [Flow; SITES.len()],
    /// The dispatch site, by [`command::row_of`].
    pub dispatch: [CommandCell; command::ROWS],
    /// The `get_phys` site.
    pub get_phys: ScanCell,
}

/// Why a scan ended, as far as arguments and results tell (`iopt_get_phys`, Linux 7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Stop {
    /// The run fills the cap exactly. Known only where `*length` at entry is a cap.
    Cap = 0,
    /// The run is shorter than the cap: the area's end or a discontiguity.
    Short = 1,
    /// Success with a physical address of 0: the first page has no mapping.
    Unmapped = 2,
}

impl Stop {
    /// Number of stops.
    pub const COUNT: usize = 3;
    /// Every stop, in the order of [`ScanCell::runs`].
    pub const ALL: [Self; Self::COUNT] = [Self::Cap, Self::Short, Self::Unmapped];

    /// The word users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cap => "cap",
            Self::Short => "short",
            Self::Unmapped => "unmapped",
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
    /// Offset of the IOVA in its page.
    pub offset: u64,
}

/// The scan-length class of a scan of `pages` pages.
#[must_use]
#[inline(always)]
#[allow(clippy::inline_always, reason = "BPF: a call would cost more than the body")]
pub const fn scan_class(pages: u64) -> usize {
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
        assert_eq!(size_of::<Flow>(), 64);
        assert_eq!(size_of::<CommandCell>(), 32 + 4096 * 4 + 32 + 560 * 4 + 576 * 8);
        assert_eq!(offset_of!(Block, dispatch), 136);
        assert_eq!(size_of::<Block>() % 8, 0);
        assert!(size_of::<Block>() < 1 << 20);
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
