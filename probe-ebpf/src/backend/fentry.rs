//! fentry and fexit: arguments (at the return too) and result from the trampoline, the open call from a
//! map.

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use probe_common::command::row_of;
use probe_common::wire::{DispatchOpen, GetPhysOpen};

use crate::get_phys::Scan;
use crate::kernel::{Kernel as _, Typed};
use crate::maps::{DISPATCH_OPEN, GET_PHYS_OPEN};
use crate::{dispatch, get_phys, kfunc, span, waits};

#[fentry]
pub fn dispatch_fentry(ctx: FEntryContext) -> u32 {
    dispatch::enter::<true>(ctx.arg(1));
    span::begin::<Typed, _>(dispatch::FLOW, &DISPATCH_OPEN, |owner| {
        Some(DispatchOpen { owner, entered_at: 0, row: row_of(ctx.arg(1)) as u64 })
    });
    0
}

#[fexit]
pub fn dispatch_fexit(ctx: FExitContext) -> u32 {
    let now = span::now();
    let row = row_of(ctx.arg(1));
    if let Some((block, _, nanos)) = span::end::<Typed, _>(dispatch::FLOW, &DISPATCH_OPEN, now) {
        // SAFETY: the block is the current CPU's. The result follows the 3 arguments.
        unsafe {
            let call = dispatch::Returned { row, result: ctx.arg(3), now, nanos };
            dispatch::count::<Typed, true>(&ctx, block, call);
        }
    }
    dispatch::leave::<true>(row, now, true);
    0
}

#[fentry]
pub fn get_phys_fentry(ctx: FEntryContext) -> u32 {
    waits::enter_get_phys(ctx.arg(0), ctx.arg(1));
    span::begin::<Typed, _>(get_phys::FLOW, &GET_PHYS_OPEN, |owner| {
        Some(GetPhysOpen {
            owner,
            entered_at: 0,
            paddr: ctx.arg(2),
            length: ctx.arg(3),
            cap: kfunc::read(ctx.arg(3)),
            iova: ctx.arg(1),
            iopt: ctx.arg(0),
        })
    });
    0
}

#[fexit]
pub fn get_phys_fexit(ctx: FExitContext) -> u32 {
    let now = span::now();
    if let Some((block, open, nanos)) = span::end::<Typed, _>(get_phys::FLOW, &GET_PHYS_OPEN, now) {
        // The result follows the 4 arguments. Widened at once: the verifier follows bounds through
        // 64-bit registers.
        let result = i64::from(ctx.arg::<i32>(4));
        let call = get_phys::Returned { iopt: open.iopt, iova: open.iova, result, now, nanos };
        let scan = || Scan::of_open(&open, Typed::read(open.length)?, Typed::read(open.paddr)?);
        // SAFETY: the block is the current CPU's.
        unsafe { get_phys::count::<Typed, true>(&ctx, block, call, scan, || open.cap) };
    }
    0
}
