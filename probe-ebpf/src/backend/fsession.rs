//! fsession: one program at entry and return. Arguments (at the return too) and result come from the
//! trampoline, the open call from the session's cookie.
//!
//! Each of the two comes twice: as it is nearly always wanted, and with what is recorded only where
//! asked for, which would cost a few instructions even when it is off.
//!
//! Sections only have to be those of trampolines: the loader chooses the attach type.

use core::cell::Cell;

use aya_ebpf::{
    bindings::BPF_ANY, helpers::bpf_get_current_pid_tgid, macros::fentry, programs::FEntryContext,
};
use probe_common::command::row_of;
use probe_common::cookie::{self, CapCode, UNARMED, UNSEEN};
use probe_common::wire::Block;

use crate::constant::{length_is_cap, page_shift};
use crate::get_phys::Scan;
use crate::kernel::{Kernel as _, Typed};
use crate::maps::CAPS;
use crate::{dispatch, get_phys, kfunc, span, waits};

#[fentry]
pub fn dispatch_both(ctx: FEntryContext) -> u32 {
    dispatch_session::<false>(&ctx)
}

#[fentry]
pub fn dispatch_extra(ctx: FEntryContext) -> u32 {
    dispatch_session::<true>(&ctx)
}

#[fentry]
pub fn get_phys_both(ctx: FEntryContext) -> u32 {
    get_phys_session::<false>(&ctx)
}

#[fentry]
pub fn get_phys_extra(ctx: FEntryContext) -> u32 {
    get_phys_session::<true>(&ctx)
}

#[inline(always)]
fn dispatch_session<const EXTRA: bool>(ctx: &FEntryContext) -> u32 {
    // SAFETY: blocks are the current CPU's, the cookie is the call's own.
    unsafe {
        if kfunc::session_is_return(ctx) {
            let now = span::now();
            let row = row_of(ctx.arg(1));
            let kept = *kfunc::session_cookie(ctx);
            if let Some(block) = returned(dispatch::FLOW, kept) {
                match now.checked_sub(kept) {
                    // The result follows the 3 arguments.
                    Some(nanos) => {
                        let call = dispatch::Returned { row, result: ctx.arg(3), now, nanos };
                        dispatch::count::<Typed, EXTRA>(ctx, block, call);
                    }
                    None => (*block).flow[dispatch::FLOW].backwards += 1,
                }
            }
            dispatch::leave::<EXTRA>(row, now, kept != UNSEEN);
        } else {
            dispatch::enter::<EXTRA>(ctx.arg(1));
            if let Some((_, cookie)) = entered(ctx, dispatch::FLOW) {
                *cookie = span::now();
            }
        }
    }
    0
}

#[inline(always)]
fn get_phys_session<const EXTRA: bool>(ctx: &FEntryContext) -> u32 {
    // SAFETY: blocks are the current CPU's, the cookie is the call's own.
    unsafe {
        if kfunc::session_is_return(ctx) {
            let now = span::now();
            let kept = *kfunc::session_cookie(ctx);
            let Some(block) = returned(get_phys::FLOW, kept) else { return 0 };
            match cookie::duration(kept, now) {
                Some(nanos) => count::<EXTRA>(ctx, block, kept, now, nanos),
                None => (*block).flow[get_phys::FLOW].backwards += 1,
            }
        } else {
            if EXTRA {
                waits::enter_get_phys(ctx.arg(0), ctx.arg(1));
            }
            let Some((block, cookie)) = entered(ctx, get_phys::FLOW) else { return 0 };
            let cap = kfunc::read(ctx.arg(3));
            let code = CapCode::of(cap, page_shift());
            if code.is_elsewhere()
                && length_is_cap()
                && CAPS.insert(bpf_get_current_pid_tgid(), cap, u64::from(BPF_ANY)).is_err()
            {
                (*block).flow[get_phys::FLOW].unstored += 1;
                *cookie = UNARMED;
                return 0;
            }
            *cookie = cookie::pack(span::now(), code);
        }
    }
    0
}

/// Count a scan that returned.
///
/// # Safety
/// At the return of `iopt_get_phys`; `block` is the current CPU's.
#[inline(always)]
unsafe fn count<const EXTRA: bool>(ctx: &FEntryContext, block: *mut Block, kept: u64, now: u64, nanos: u64) {
    let code = cookie::cap_of(kept);
    // The cap of a successful call, where the cookie cannot hold it.
    let elsewhere = Cell::new(u64::MAX);
    let scan = || {
        let (run, paddr) = (kfunc::read(ctx.arg(3)), kfunc::read(ctx.arg(2)));
        let is_filled = if code.is_elsewhere() && length_is_cap() {
            elsewhere.set(get_phys::takes_cap_from_elsewhere().unwrap_or(u64::MAX));
            elsewhere.get() == run
        } else {
            code.is_filled_by(run, page_shift())
        };
        Some(Scan { run, paddr, is_filled })
    };
    let cap = || if code.is_elsewhere() { elsewhere.get() } else { code.bytes(page_shift()) };
    // The result follows the 4 arguments. Widened at once: the verifier follows bounds through
    // 64-bit registers.
    let result = i64::from(ctx.arg::<i32>(4));
    let call = get_phys::Returned { iopt: ctx.arg(0), iova: ctx.arg(1), result, now, nanos };
    // SAFETY: the block is the current CPU's.
    unsafe { get_phys::count::<Typed, EXTRA>(ctx, block, call, scan, cap) };
}

/// A call that begins: the block and the cookie to be filled in; `None` for one not to be counted.
///
/// # Safety
/// At the entry of the function.
#[inline(always)]
unsafe fn entered(ctx: &FEntryContext, flow: usize) -> Option<(*mut Block, *mut u64)> {
    let cookie = kfunc::session_cookie(ctx);
    // SAFETY: the block is the current CPU's, the cookie is the call's own.
    unsafe {
        if let Some(block) = Typed::armed_block(flow) {
            (*block).flow[flow].entered += 1;
            return Some((block, cookie));
        }
        *cookie = UNARMED;
    }
    None
}

/// A call that returns with what its entry left in the cookie: the block; `None` for one that was not
/// counted there.
#[inline(always)]
fn returned(flow: usize, kept: u64) -> Option<*mut Block> {
    let block = Typed::block()?;
    if kept > UNARMED {
        return Some(block);
    }
    // SAFETY: the block is the current CPU's.
    let flow = unsafe { &mut (*block).flow[flow] };
    flow.unmatched += 1;
    if kept == UNSEEN {
        flow.unseen += 1;
    }
    None
}
