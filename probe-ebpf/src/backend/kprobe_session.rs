//! A kprobe session: one program at entry and return, over the function graph tracer. Arguments (at the
//! entry only) and result come from registers; the session's cookie holds the clock and says where the rest
//! of the open call is.
//!
//! It runs with preemption disabled and the kernel has no pool of its calls, so no thread can be in its way.
//! Each of the two comes twice, as fsession's do.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::kprobe;
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use probe_common::command::row_of;
use probe_common::cookie::{duration, is_counted, pack_place, place_of};
use probe_common::wire::{Block, GetPhysOpen, OPEN_SLOTS};

use crate::get_phys::Scan;
use crate::kernel::{Kernel as _, Typed};
use crate::maps::GET_PHYS_OPEN;
use crate::open::{self, Claim};
use crate::{dispatch, get_phys, kfunc, span, waits};

// A slot's number fits into a cookie.
const _: () = assert!(OPEN_SLOTS < 1 << 19);

#[kprobe(function = "session")]
pub fn dispatch_multi(ctx: ProbeContext) -> u32 {
    dispatch_session::<false>(&ctx);
    0
}

#[kprobe(function = "session")]
pub fn dispatch_multix(ctx: ProbeContext) -> u32 {
    dispatch_session::<true>(&ctx);
    0
}

#[kprobe(function = "session")]
pub fn get_phys_multi(ctx: ProbeContext) -> u32 {
    get_phys_session::<false>(&ctx);
    0
}

#[kprobe(function = "session")]
pub fn get_phys_multix(ctx: ProbeContext) -> u32 {
    get_phys_session::<true>(&ctx);
    0
}

/// The place in the cookie is the command's row.
#[inline(always)]
fn dispatch_session<const EXTRA: bool>(ctx: &ProbeContext) -> Option<()> {
    const FLOW: usize = dispatch::FLOW;
    // SAFETY: blocks are the current CPU's, the cookie is the call's own.
    unsafe {
        if !kfunc::session_is_return(ctx) {
            let ioctl = ctx.arg(1)?;
            dispatch::enter::<EXTRA>(ioctl);
            let row = row_of(ioctl) as u64;
            let is_counted = entered(FLOW).is_some();
            let cookie = kfunc::session_cookie(ctx);
            *cookie = pack_place(span::now(), row, is_counted);
            return Some(());
        }
        let now = span::now();
        let kept = *kfunc::session_cookie(ctx);
        let row = place_of(kept) as usize;
        if let Some(block) = returned(FLOW, kept)
            && let Some(nanos) = took(block, FLOW, kept, now)
        {
            let call = dispatch::Returned { row, result: result(ctx), now, nanos };
            dispatch::count::<Typed, EXTRA>(ctx, block, call);
        }
        dispatch::leave::<EXTRA>(row, now, true);
    }
    Some(())
}

/// The place in the cookie is the call's slot in the table of open calls.
#[inline(always)]
fn get_phys_session<const EXTRA: bool>(ctx: &ProbeContext) -> Option<()> {
    const FLOW: usize = get_phys::FLOW;
    // SAFETY: blocks are the current CPU's, the cookie is the call's own, its slot the thread's.
    unsafe {
        if !kfunc::session_is_return(ctx) {
            if EXTRA {
                waits::enter_get_phys(ctx.arg(0)?, ctx.arg(1)?);
            }
            let cookie = kfunc::session_cookie(ctx);
            *cookie = pack_place(0, 0, false);
            let block = entered(FLOW)?;
            let place = store(ctx, block)?;
            *cookie = pack_place(span::now(), place, true);
            return Some(());
        }
        let now = span::now();
        let kept = *kfunc::session_cookie(ctx);
        let block = returned(FLOW, kept)?;
        let slot = GET_PHYS_OPEN.get_ptr_mut(place_of(kept) as u32)?;
        let GetPhysOpen { paddr, length, cap, iova, iopt, .. } = *slot;
        open::release(slot);
        let nanos = took(block, FLOW, kept, now)?;
        // Widened at once: the verifier follows bounds through 64-bit registers.
        let result = i64::from(result(ctx) as i32);
        let call = get_phys::Returned { iopt, iova, result, now, nanos };
        let scan = || {
            let (run, paddr) = (kfunc::read(length), kfunc::read(paddr));
            Some(Scan { run, paddr, is_filled: run == cap })
        };
        get_phys::count::<Typed, EXTRA>(ctx, block, call, scan, || cap);
    }
    Some(())
}

/// A call that begins and is to be counted: the block.
#[inline(always)]
fn entered(flow: usize) -> Option<*mut Block> {
    let block = Typed::armed_block(flow)?;
    // SAFETY: the block is the current CPU's.
    unsafe { (*block).flow[flow].entered += 1 };
    Some(block)
}

/// Keep what the return of `iopt_get_phys` needs; the number of the slot.
///
/// # Safety
/// At the entry of `iopt_get_phys`; `block` is the current CPU's.
#[inline(always)]
unsafe fn store(ctx: &ProbeContext, block: *mut Block) -> Option<u64> {
    let owner = bpf_get_current_pid_tgid();
    let (iopt, iova, paddr, length) = (ctx.arg(0)?, ctx.arg(1)?, ctx.arg(2)?, ctx.arg(3)?);
    // SAFETY: the slot is this thread's own until it is released, the block is the current CPU's.
    unsafe {
        let flow = &mut (*block).flow[get_phys::FLOW];
        let (place, slot) = match open::claim(&GET_PHYS_OPEN, owner) {
            Claim::Fresh(place, slot) => (place, slot),
            Claim::Stale(place, slot) => {
                flow.superseded += 1;
                (place, slot)
            }
            Claim::Full => {
                flow.unstored += 1;
                return None;
            }
        };
        *slot = GetPhysOpen { owner, entered_at: 0, paddr, length, cap: kfunc::read(length), iova, iopt };
        Some(u64::from(place))
    }
}

/// A call that returns with what its entry left in the cookie: the block; `None` for one that was not
/// counted there.
#[inline(always)]
fn returned(flow: usize, kept: u64) -> Option<*mut Block> {
    let block = Typed::block()?;
    if is_counted(kept) {
        return Some(block);
    }
    // SAFETY: the block is the current CPU's.
    unsafe { (*block).flow[flow].unmatched += 1 };
    None
}

/// The duration of a call, ns; one of a clock that stepped back is counted as that.
///
/// # Safety
/// `block` is the current CPU's.
#[inline(always)]
unsafe fn took(block: *mut Block, flow: usize, kept: u64, now: u64) -> Option<u64> {
    let nanos = duration(kept, now);
    if nanos.is_none() {
        // SAFETY: as said.
        unsafe { (*block).flow[flow].backwards += 1 };
    }
    nanos
}

/// The function's result, at its return.
#[inline(always)]
fn result(ctx: &ProbeContext) -> i64 {
    RetProbeContext::new(ctx.as_ptr()).ret()
}
