//! kprobe and kretprobe: arguments and result from registers, the open call from a map.

use aya_ebpf::{
    helpers::bpf_probe_read_kernel,
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use probe_common::command::row_of;
use probe_common::wire::{DispatchOpen, GetPhysOpen};

use crate::get_phys::Scan;
use crate::maps::{self, DISPATCH_OPEN, GET_PHYS_OPEN};
use crate::{dispatch, get_phys, span};

#[kprobe]
pub fn dispatch_entry(ctx: ProbeContext) -> u32 {
    span::begin(dispatch::FLOW, &DISPATCH_OPEN, |owner| {
        Some(DispatchOpen { owner, entered_at: 0, row: row_of(ctx.arg(1)?) as u64 })
    });
    0
}

#[kretprobe]
pub fn dispatch_return(ctx: RetProbeContext) -> u32 {
    let now = span::now();
    if let Some((block, open, duration)) = span::end(dispatch::FLOW, &DISPATCH_OPEN, now) {
        // SAFETY: the block is the current CPU's.
        unsafe { dispatch::count(&ctx, block, open.row as usize, ctx.ret(), duration) };
    }
    0
}

#[kprobe]
pub fn get_phys_entry(ctx: ProbeContext) -> u32 {
    span::begin(get_phys::FLOW, &GET_PHYS_OPEN, |owner| {
        let length = ctx.arg(3)?;
        Some(GetPhysOpen {
            owner,
            entered_at: 0,
            paddr: ctx.arg(2)?,
            length,
            cap: read(length)?,
            offset: get_phys::offset_of(ctx.arg(1)?, maps::page_shift()),
        })
    });
    0
}

#[kretprobe]
pub fn get_phys_return(ctx: RetProbeContext) -> u32 {
    let now = span::now();
    if let Some((block, open, duration)) = span::end(get_phys::FLOW, &GET_PHYS_OPEN, now) {
        let scan = || {
            let (run, paddr) = (read(open.length)?, read(open.paddr)?);
            Some(Scan::of_open(&open, run, paddr))
        };
        // Widened at once: the verifier follows bounds through 64-bit registers.
        let result = i64::from(ctx.ret::<i32>());
        // SAFETY: the block is the current CPU's.
        unsafe { get_phys::count(&ctx, block, result, duration, scan) };
    }
    0
}

/// A word of kernel memory.
#[inline(always)]
fn read(address: u64) -> Option<u64> {
    // SAFETY: the helper checks the address and fails instead of faulting.
    unsafe { bpf_probe_read_kernel(address as *const u64) }.ok()
}
