//! fentry and fexit: arguments and result from the trampoline, the open call from a map.

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use probe_common::command::row_of;
use probe_common::wire::{DispatchOpen, GetPhysOpen};

use crate::get_phys::Scan;
use crate::maps::{self, DISPATCH_OPEN, GET_PHYS_OPEN};
use crate::{dispatch, get_phys, kfunc, span};

#[fentry]
pub fn dispatch_fentry(ctx: FEntryContext) -> u32 {
    span::begin(dispatch::FLOW, &DISPATCH_OPEN, |owner| {
        Some(DispatchOpen { owner, entered_at: 0, row: row_of(ctx.arg(1)) as u64 })
    });
    0
}

#[fexit]
pub fn dispatch_fexit(ctx: FExitContext) -> u32 {
    let now = span::now();
    if let Some((block, open, duration)) = span::end(dispatch::FLOW, &DISPATCH_OPEN, now) {
        // SAFETY: the block is the current CPU's. The result follows the 3 arguments.
        unsafe { dispatch::count(&ctx, block, open.row as usize, ctx.arg(3), duration) };
    }
    0
}

#[fentry]
pub fn get_phys_fentry(ctx: FEntryContext) -> u32 {
    span::begin(get_phys::FLOW, &GET_PHYS_OPEN, |owner| {
        Some(GetPhysOpen {
            owner,
            entered_at: 0,
            paddr: ctx.arg(2),
            length: ctx.arg(3),
            cap: kfunc::read(ctx.arg(3)),
            offset: get_phys::offset_of(ctx.arg(1), maps::page_shift()),
        })
    });
    0
}

#[fexit]
pub fn get_phys_fexit(ctx: FExitContext) -> u32 {
    let now = span::now();
    if let Some((block, open, duration)) = span::end(get_phys::FLOW, &GET_PHYS_OPEN, now) {
        let scan = || {
            let (run, paddr) = (kfunc::read(open.length), kfunc::read(open.paddr));
            Some(Scan::of_open(&open, run, paddr))
        };
        // The result follows the 4 arguments. Widened at once: the verifier follows bounds through
        // 64-bit registers.
        let result = i64::from(ctx.arg::<i32>(4));
        // SAFETY: the block is the current CPU's.
        unsafe { get_phys::count(&ctx, block, result, duration, scan) };
    }
    0
}
