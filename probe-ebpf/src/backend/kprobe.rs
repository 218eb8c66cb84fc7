//! kprobe and kretprobe: arguments and result from registers, the open call from a map.

use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use probe_common::command::row_of;
use probe_common::wire::{DispatchOpen, GetPhysOpen};

use crate::get_phys::Scan;
use crate::kernel::{Kernel as _, Untyped};
use crate::maps::{DISPATCH_OPEN, GET_PHYS_OPEN};
use crate::{dispatch, get_phys, span, waits};

#[kprobe]
pub fn dispatch_entry(ctx: ProbeContext) -> u32 {
    let ioctl = ctx.arg(1);
    if let Some(ioctl) = ioctl {
        dispatch::enter::<true>(ioctl);
    }
    span::begin::<Untyped, _>(dispatch::FLOW, &DISPATCH_OPEN, |owner| {
        Some(DispatchOpen { owner, entered_at: 0, row: row_of(ioctl?) as u64 })
    });
    0
}

#[kretprobe]
pub fn dispatch_return(ctx: RetProbeContext) -> u32 {
    let now = span::now();
    // A return sees no arguments: without the open call the command is not known, and a change of areas
    // that began before the recording stays unnoticed.
    if let Some((block, open, nanos)) = span::end::<Untyped, _>(dispatch::FLOW, &DISPATCH_OPEN, now) {
        let row = open.row as usize;
        // SAFETY: the block is the current CPU's.
        unsafe {
            let call = dispatch::Returned { row, result: ctx.ret(), now, nanos };
            dispatch::count::<Untyped, true>(&ctx, block, call);
        }
        dispatch::leave::<true>(row, now, true);
    }
    0
}

#[kprobe]
pub fn get_phys_entry(ctx: ProbeContext) -> u32 {
    if let (Some(iopt), Some(iova)) = (ctx.arg(0), ctx.arg(1)) {
        waits::enter_get_phys(iopt, iova);
    }
    span::begin::<Untyped, _>(get_phys::FLOW, &GET_PHYS_OPEN, |owner| {
        let length = ctx.arg(3)?;
        Some(GetPhysOpen {
            owner,
            entered_at: 0,
            paddr: ctx.arg(2)?,
            length,
            cap: Untyped::read(length)?,
            iova: ctx.arg(1)?,
            iopt: ctx.arg(0)?,
        })
    });
    0
}

#[kretprobe]
pub fn get_phys_return(ctx: RetProbeContext) -> u32 {
    let now = span::now();
    if let Some((block, open, nanos)) = span::end::<Untyped, _>(get_phys::FLOW, &GET_PHYS_OPEN, now) {
        // Widened at once: the verifier follows bounds through 64-bit registers.
        let result = i64::from(ctx.ret::<i32>());
        let call = get_phys::Returned { iopt: open.iopt, iova: open.iova, result, now, nanos };
        let scan = || Scan::of_open(&open, Untyped::read(open.length)?, Untyped::read(open.paddr)?);
        // SAFETY: the block is the current CPU's.
        unsafe { get_phys::count::<Untyped, true>(&ctx, block, call, scan, || open.cap) };
    }
    0
}
