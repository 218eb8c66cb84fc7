//! The guards of fsession: two more programs on the same trampoline, for the calls that the first one did
//! not see.
//!
//! The kernel does not run a program that is already running on the CPU, and trampoline programs may
//! be preempted: a call that meets the first one so is invisible to it, and where many threads compete
//! for the CPU that may be many calls in a row. The guards run right after the first program, at entry and
//! return, and see in the cookies of those before them whether one of them has run. A call that a guard
//! has to take over is handed to user space whole, through a ring: it must not write where the first
//! program may be in the middle of writing.
//!
//! A call is missed only where all three were preempted on its CPU.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::fentry;
use aya_ebpf::programs::FEntryContext;
use probe_common::command::{self, ROW_GET_PA, row_of};
use probe_common::cookie::{self, CapCode, UNARMED, UNSEEN};
use probe_common::site::SiteId;
use probe_common::wire::{Block, COMM, CallRecord, GUARDS, GuardFlow};

use crate::constant::page_shift;
use crate::get_phys::{self, Scan};
use crate::kernel::{Kernel as _, Typed};
use crate::maps::GUARDED;
use crate::{callers, dispatch, kfunc, maps, span};

/// The number of the last guard.
const LAST: usize = GUARDS - 1;
/// A guard's cookie: it took the return over. The first program's is [`UNARMED`] then.
const TAKEN: u64 = 2;

#[fentry]
pub fn dispatch_guard1(ctx: FEntryContext) -> u32 {
    dispatch_guard::<0>(&ctx)
}

#[fentry]
pub fn dispatch_guard2(ctx: FEntryContext) -> u32 {
    dispatch_guard::<1>(&ctx)
}

#[fentry]
pub fn get_phys_guard1(ctx: FEntryContext) -> u32 {
    get_phys_guard::<0>(&ctx)
}

#[fentry]
pub fn get_phys_guard2(ctx: FEntryContext) -> u32 {
    get_phys_guard::<1>(&ctx)
}

/// The guard of the dispatch with this number.
#[inline(always)]
fn dispatch_guard<const NUMBER: usize>(ctx: &FEntryContext) -> u32 {
    let site = SiteId::Dispatch;
    // SAFETY: cookies are the call's own.
    unsafe {
        if !kfunc::session_is_return(ctx) {
            if let Some(cookie) = missed_entry::<NUMBER>(ctx, site) {
                dispatch::enter::<false>(ctx.arg(1));
                *cookie = span::now();
            }
            return 0;
        }
        let Some((flow, kept)) = missed_return::<NUMBER>(ctx, site) else { return 0 };
        let (now, row) = (span::now(), row_of(ctx.arg(1)));
        dispatch::leave::<false>(row, now, true);
        // The result follows the 3 arguments.
        let result: i64 = ctx.arg(3);
        let Some(nanos) = now.checked_sub(kept) else {
            (*flow).backwards += 1;
            return 0;
        };
        let errno = if result < 0 { result.unsigned_abs() as u32 } else { 0 };
        if result >= 0 && command::makes_ioas(row) {
            callers::forget::<Typed>();
        }
        hand_over(flow, site, 0, CallRecord { at: now, nanos, errno, kind: row as u32, ..record() });
    }
    0
}

/// The guard of `get_phys` with this number.
#[inline(always)]
fn get_phys_guard<const NUMBER: usize>(ctx: &FEntryContext) -> u32 {
    let site = SiteId::GetPhys;
    // SAFETY: cookies are the call's own.
    unsafe {
        if !kfunc::session_is_return(ctx) {
            if let Some(cookie) = missed_entry::<NUMBER>(ctx, site) {
                let code = CapCode::of(kfunc::read(ctx.arg(3)), page_shift());
                *cookie = cookie::pack(span::now(), code);
            }
            return 0;
        }
        let Some((flow, kept)) = missed_return::<NUMBER>(ctx, site) else { return 0 };
        let now = span::now();
        let Some(nanos) = cookie::duration(kept, now) else {
            (*flow).backwards += 1;
            return 0;
        };
        // The result follows the 4 arguments.
        let result = i64::from(ctx.arg::<i32>(4));
        let iopt = ctx.arg(0);
        let mut call = CallRecord { at: now, nanos, errno: result.unsigned_abs() as u32, ..record() };
        if result == 0 {
            let (run, paddr) = (kfunc::read(ctx.arg(3)), kfunc::read(ctx.arg(2)));
            let code = cookie::cap_of(kept);
            let is_filled = if code.is_elsewhere() {
                get_phys::takes_cap_from_elsewhere().unwrap_or(u64::MAX) == run
            } else {
                code.is_filled_by(run, page_shift())
            };
            let scan = Scan { run, paddr, is_filled };
            let (pages, stop) = get_phys::judge::<Typed>(iopt, ctx.arg(1), &scan, now - nanos);
            (call.run, call.pages, call.kind) = (run, pages, stop as u32);
        }
        hand_over(flow, site, iopt, call);
    }
    0
}

/// The cookie to fill in, of a call that no program before has seen and that is to be counted.
///
/// # Safety
/// At the entry of the function.
#[inline(always)]
unsafe fn missed_entry<const NUMBER: usize>(ctx: &FEntryContext, site: SiteId) -> Option<*mut u64> {
    let cookie = kfunc::session_cookie(ctx);
    // SAFETY: the cookie is the call's own, the block the current CPU's.
    unsafe {
        if kept_by_the_first::<NUMBER>(cookie) == UNSEEN
            && (NUMBER == 0 || kept_before(cookie, 1) == UNSEEN)
            && let Some(block) = Typed::armed_block()
        {
            (*flow::<NUMBER>(block, site)).entered += 1;
            return Some(cookie);
        }
        *cookie = UNARMED;
    }
    None
}

/// What was kept of a call whose return no program before has seen, and that is to be counted.
///
/// # Safety
/// At the return of the function.
#[inline(always)]
unsafe fn missed_return<const NUMBER: usize>(
    ctx: &FEntryContext,
    site: SiteId,
) -> Option<(*mut GuardFlow, u64)> {
    let cookie = kfunc::session_cookie(ctx);
    let first = kept_by_the_first::<NUMBER>(cookie);
    let guard = if NUMBER == 0 { UNSEEN } else { kept_before(cookie, 1) };
    // SAFETY: the cookie is the call's own, the block the current CPU's.
    unsafe {
        if first == UNARMED || guard == TAKEN {
            return None;
        }
        // The entry as the earliest one that saw it kept it.
        let kept = match (first, guard) {
            (UNSEEN, UNSEEN) => *cookie,
            (UNSEEN, kept) | (kept, _) => kept,
        };
        if kept == UNARMED {
            return None;
        }
        let block = Typed::block()?;
        let flow = flow::<NUMBER>(block, site);
        if kept == UNSEEN {
            // Another guard may have seen it.
            (*flow).unseen += u64::from(NUMBER == LAST);
            return None;
        }
        *cookie = TAKEN;
        Some((flow, kept))
    }
}

/// The cookie of the first program, which runs right before the guards: its place is right below theirs,
/// in the order in which they run. User space makes sure of it when it attaches.
#[inline(always)]
fn kept_by_the_first<const NUMBER: usize>(cookie: *mut u64) -> u64 {
    kept_before(cookie, NUMBER as u64 + 1)
}

/// The cookie of the program that runs so many places before.
#[inline(always)]
fn kept_before(cookie: *mut u64, places: u64) -> u64 {
    kfunc::read((cookie as u64).wrapping_sub(places * size_of::<u64>() as u64))
}

#[inline(always)]
fn flow<const NUMBER: usize>(block: *mut Block, site: SiteId) -> *mut GuardFlow {
    // SAFETY: a place in the block.
    unsafe { &raw mut (*block).guard[site as usize][NUMBER] }
}

/// A record with nothing in it.
#[inline(always)]
fn record() -> CallRecord {
    CallRecord {
        at: 0,
        nanos: 0,
        thread: 0,
        iova: 0,
        cap: 0,
        run: 0,
        pages: 0,
        cpu: 0,
        errno: 0,
        site: 0,
        kind: 0,
        slow: 0,
        slot: 0,
        comm: [0; COMM],
    }
}

/// Hand a call over to user space, which counts it.
///
/// # Safety
/// `flow` is in the current CPU's block.
#[inline(always)]
unsafe fn hand_over(flow: *mut GuardFlow, site: SiteId, iopt: u64, call: CallRecord) {
    // SAFETY: in the current CPU's block, written by this program alone.
    unsafe {
        let may_be_canary = call.errno != 0 || (iopt == 0 && call.kind != ROW_GET_PA as u32);
        if may_be_canary && dispatch::is_canary() {
            (*flow).canary += 1;
            return;
        }
        let Some(mut place) = GUARDED.reserve::<CallRecord>(0) else {
            (*flow).dropped += 1;
            return;
        };
        place.write(CallRecord {
            thread: bpf_get_current_pid_tgid(),
            cpu: maps::cpu(),
            site: site as u32,
            slot: callers::slot::<Typed>(site, iopt),
            ..call
        });
        place.submit(u64::from(BPF_RB_NO_WAKEUP));
    }
}
