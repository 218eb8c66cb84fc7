//! fsession: one program at entry and return. Arguments (at the return too) and result come from the
//! trampoline, the open call from the session's cookie.
//!
//! Sections only have to be those of trampolines: the loader chooses the attach type.

use aya_ebpf::{
    bindings::BPF_ANY, helpers::bpf_get_current_pid_tgid, macros::fentry, programs::FEntryContext,
};
use probe_common::command::row_of;
use probe_common::cookie::{self, CapCode, UNARMED, UNSEEN};
use probe_common::wire::Block;

use crate::get_phys::Scan;
use crate::maps::{self, CAPS};
use crate::{dispatch, get_phys, kfunc, span};

#[fentry]
pub fn dispatch_both(ctx: FEntryContext) -> u32 {
    // SAFETY: blocks are the current CPU's, the cookie is the call's own.
    unsafe {
        if kfunc::session_is_return(&ctx) {
            let now = span::now();
            let Some((block, entered_at)) = returned(&ctx, dispatch::FLOW) else { return 0 };
            match now.checked_sub(entered_at) {
                // The result follows the 3 arguments.
                Some(duration) => dispatch::count(&ctx, block, row_of(ctx.arg(1)), ctx.arg(3), duration),
                None => (*block).flow[dispatch::FLOW].backwards += 1,
            }
        } else if let Some((_, cookie)) = entered(&ctx, dispatch::FLOW) {
            *cookie = span::now();
        }
    }
    0
}

#[fentry]
pub fn get_phys_both(ctx: FEntryContext) -> u32 {
    // SAFETY: blocks are the current CPU's, the cookie is the call's own.
    unsafe {
        if kfunc::session_is_return(&ctx) {
            let now = span::now();
            let Some((block, kept)) = returned(&ctx, get_phys::FLOW) else { return 0 };
            match cookie::duration(kept, now) {
                // The result follows the 4 arguments. Widened at once: the verifier follows bounds
                // through 64-bit registers.
                Some(duration) => {
                    let result = i64::from(ctx.arg::<i32>(4));
                    get_phys::count(&ctx, block, result, duration, || Some(scan(&ctx, kept)));
                }
                None => (*block).flow[get_phys::FLOW].backwards += 1,
            }
        } else if let Some((block, cookie)) = entered(&ctx, get_phys::FLOW) {
            let cap = kfunc::read(ctx.arg(3));
            let code = CapCode::of(cap, maps::page_shift());
            if code.is_elsewhere()
                && maps::length_is_cap()
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

/// The outputs of the scan that returns.
#[inline(always)]
fn scan(ctx: &FEntryContext, kept: u64) -> Scan {
    let (run, paddr) = (kfunc::read(ctx.arg(3)), kfunc::read(ctx.arg(2)));
    let (code, shift) = (cookie::cap_of(kept), maps::page_shift());
    let is_filled = if code.is_elsewhere() && maps::length_is_cap() {
        let thread = bpf_get_current_pid_tgid();
        // SAFETY: the element is this thread's own; no other program touches it.
        let is_filled = unsafe { CAPS.get(thread) }.is_some_and(|cap| *cap == run);
        // A failed call leaves its cap behind for the thread's next one to overwrite.
        let _ = CAPS.remove(thread);
        is_filled
    } else {
        code.is_filled_by(run, shift)
    };
    Scan { shift, offset: get_phys::offset_of(ctx.arg(1), shift), run, paddr, is_filled }
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
        if let Some(block) = maps::armed_block() {
            (*block).flow[flow].entered += 1;
            return Some((block, cookie));
        }
        *cookie = UNARMED;
    }
    None
}

/// A call that returns: the block and what its entry left in the cookie; `None` for one that was not
/// counted there.
///
/// # Safety
/// At the return of the function.
#[inline(always)]
unsafe fn returned(ctx: &FEntryContext, flow: usize) -> Option<(*mut Block, u64)> {
    let block = maps::block()?;
    // SAFETY: the block is the current CPU's, the cookie is the call's own.
    unsafe {
        let kept = *kfunc::session_cookie(ctx);
        let flow = &mut (*block).flow[flow];
        if kept > UNARMED {
            flow.exited += 1;
            return Some((block, kept));
        }
        flow.unmatched += 1;
        if kept == UNSEEN {
            flow.unseen += 1;
        }
    }
    None
}
