//! `int iopt_get_phys(struct io_pagetable *, unsigned long iova, u64 *paddr, u64 *length)`: latency
//! by scan length, run length by stop, errno (drivers/iommu/iommufd/io_pagetable.c, Linux 7.3).
//!
//! Both pointers are kernel memory (the ioctl's command buffer), so no user memory is read. The
//! outputs of a failed call are not meaningful and not read.

use aya_ebpf::{
    helpers::bpf_probe_read_kernel,
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use aya_log_ebpf::trace;
use probe_common::dist::Distribution as _;
use probe_common::site::SiteId;
use probe_common::wire::{GetPhysOpen, Stop, errno_slot, scan_class};

use crate::maps::{self, GET_PHYS_OPEN};
use crate::span;

const FLOW: usize = SiteId::GetPhys as usize;

#[kprobe]
pub fn get_phys_entry(ctx: ProbeContext) -> u32 {
    if maps::armed()
        && let (Some(block), Some(iova), Some(paddr), Some(length)) =
            (maps::block(), ctx.arg::<u64>(1), ctx.arg::<u64>(2), ctx.arg::<u64>(3))
    {
        let open = GetPhysOpen {
            entered_at: 0,
            paddr,
            length,
            cap: read(length).unwrap_or(0),
            offset: iova & ((1 << maps::page_shift()) - 1),
        };
        // SAFETY: the flow is in the current CPU's block.
        unsafe { span::begin(&raw mut (*block).flow[FLOW], &GET_PHYS_OPEN, open) };
    }
    0
}

#[kretprobe]
pub fn get_phys_return(ctx: RetProbeContext) -> u32 {
    let now = span::now();
    let Some(block) = maps::block() else { return 0 };
    // SAFETY: the flow is in the current CPU's block.
    let flow = unsafe { &raw mut (*block).flow[FLOW] };
    // SAFETY: as above.
    let Some((open, duration)) = (unsafe { span::end(flow, &GET_PHYS_OPEN, now) }) else {
        return 0;
    };
    // SAFETY: the cell is in the current CPU's block; slot, class and stop are in bounds.
    unsafe {
        let cell = &mut (*block).get_phys;
        // Widened at once: the verifier follows bounds through 64-bit registers.
        let result = i64::from(ctx.ret::<i32>());
        if result != 0 {
            cell.failed.record(duration);
            cell.errno[errno_slot(result.unsigned_abs())] += 1;
            trace!(&ctx, "get_phys errno {} in {} ns", -result, duration);
            return 0;
        }
        let (Some(run), Some(paddr)) = (read(open.length), read(open.paddr)) else {
            (*flow).unread += 1;
            return 0;
        };
        let pages = pages_of(open.offset, run);
        cell.ok[scan_class(pages)].record(duration);
        cell.pages.record(pages);
        let stop = stop_of(&open, run, paddr);
        cell.runs[stop as usize].record(run);
        trace!(&ctx, "get_phys run {} stop {} in {} ns", run, stop as u32, duration);
    }
    0
}

/// Pages that a run of `run` bytes from `offset` into a page touches.
#[inline(always)]
fn pages_of(offset: u64, run: u64) -> u64 {
    let shift = maps::page_shift();
    offset.wrapping_add(run).wrapping_add((1 << shift) - 1) >> shift
}

/// Why the scan ended, as far as arguments and results tell. The kernel checks the cap first.
#[inline(always)]
fn stop_of(open: &GetPhysOpen, run: u64, paddr: u64) -> Stop {
    if paddr == 0 {
        Stop::Unmapped
    } else if maps::length_is_cap() && run == open.cap {
        Stop::Cap
    } else {
        Stop::Short
    }
}

/// A word of kernel memory.
#[inline(always)]
fn read(address: u64) -> Option<u64> {
    // SAFETY: the helper checks the address and fails instead of faulting.
    unsafe { bpf_probe_read_kernel(address as *const u64) }.ok()
}
