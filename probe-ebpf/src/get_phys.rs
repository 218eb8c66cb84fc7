//! `int iopt_get_phys(struct io_pagetable *, unsigned long iova, u64 *paddr, u64 *length)`: latency
//! by scan length, run length by stop, errno (drivers/iommu/iommufd/io_pagetable.c, Linux 7.3).
//!
//! Both pointers are kernel memory (the ioctl's command buffer), so no user memory is read. The
//! outputs of a failed call are not meaningful and not read.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::trace;
use probe_common::dist::Distribution as _;
use probe_common::site::SiteId;
use probe_common::wire::{Block, GetPhysOpen, Stop, errno_slot, scan_class};

use crate::maps::{self, near};

/// The site's place in [`Block::flow`].
pub const FLOW: usize = SiteId::GetPhys as usize;

/// What a successful call found.
pub struct Scan {
    /// log2 of the page size: a constant that costs a load each time it is asked for.
    pub shift: u64,
    /// Where in its page the IOVA is.
    pub offset: u64,
    /// `*length` after the call.
    pub run: u64,
    /// `*paddr` after the call.
    pub paddr: u64,
    /// The run fills what `*length` was before the call.
    pub is_filled: bool,
}

impl Scan {
    /// What a call from the table of open calls found.
    #[inline(always)]
    pub fn of_open(open: &GetPhysOpen, run: u64, paddr: u64) -> Self {
        Self { shift: maps::page_shift(), offset: open.offset, run, paddr, is_filled: run == open.cap }
    }
}

/// Count a call that returned; `scan` looks at the outputs, and is asked only where they mean
/// something.
///
/// # Safety
/// `block` is the current CPU's.
#[inline(always)]
pub unsafe fn count(
    ctx: &impl EbpfContext,
    block: *mut Block,
    result: i64,
    duration: u64,
    scan: impl FnOnce() -> Option<Scan>,
) {
    // SAFETY: the cell is in the current CPU's block; slot, class and stop are in bounds.
    unsafe {
        let cell = &mut (*block).get_phys;
        if result != 0 {
            cell.failed.record(duration);
            cell.errno[errno_slot(result.unsigned_abs())] += 1;
            trace!(ctx, "get_phys errno {} in {} ns", -result, duration);
            return;
        }
        let Some(scan) = scan() else {
            (*block).flow[FLOW].unread += 1;
            return;
        };
        let pages = pages_of(&scan);
        cell.pages = cell.pages.wrapping_add(pages);
        (*near(&raw mut cell.ok[scan_class(pages)])).record(duration);
        let stop = stop_of(&scan);
        (*near(&raw mut cell.runs[stop as usize])).record(scan.run);
        trace!(ctx, "get_phys run {} stop {} in {} ns", scan.run, stop as u32, duration);
    }
}

/// Where in its page of `2^shift` bytes an IOVA is.
#[inline(always)]
pub fn offset_of(iova: u64, shift: u64) -> u64 {
    iova & ((1 << shift) - 1)
}

/// Pages that the run touches.
#[inline(always)]
fn pages_of(scan: &Scan) -> u64 {
    scan.offset.wrapping_add(scan.run).wrapping_add((1 << scan.shift) - 1) >> scan.shift
}

/// Why the scan ended, as far as arguments and results tell. The kernel checks the cap first.
#[inline(always)]
fn stop_of(scan: &Scan) -> Stop {
    if scan.paddr == 0 {
        Stop::Unmapped
    } else if scan.is_filled && maps::length_is_cap() {
        Stop::Cap
    } else {
        Stop::Short
    }
}
