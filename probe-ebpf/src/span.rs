//! An entry and its return made one measured call.
//!
//! The clock is read last on entry and first on return, so our own work is outside the interval.
//! Whatever cannot be measured is counted under its own name in [`Flow`].

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    maps::Array,
};
use probe_common::wire::Block;

use crate::kernel::Kernel;
use crate::open::{self, Claim, Open};

/// The time, in ns since boot without suspend (CLOCK_MONOTONIC).
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Note that a call of the site at `flow` has begun, if calls are counted; reads the clock last.
#[inline(always)]
pub fn begin<K: Kernel, T: Open>(flow: usize, calls: &Array<T>, open: impl FnOnce(u64) -> Option<T>) {
    let Some(block) = K::armed_block(flow) else { return };
    // SAFETY: in the current CPU's block; the words written here are written by this program alone.
    let flow = unsafe { &mut (*block).flow[flow] };
    flow.entered += 1;
    let thread = bpf_get_current_pid_tgid();
    let Some(open) = open(thread) else {
        flow.unreadable += 1;
        return;
    };
    let slot = match open::claim(calls, thread) {
        Claim::Fresh(_, slot) => slot,
        Claim::Stale(_, slot) => {
            flow.superseded += 1;
            slot
        }
        Claim::Full => {
            flow.unstored += 1;
            return;
        }
    };
    // SAFETY: the slot is this thread's own until it is released.
    unsafe {
        *slot = open;
        (*slot).stamp(now());
    }
}

/// The open call of the site at `flow` that returns now, with the current CPU's block and its duration
/// in ns; `None` when there is nothing to measure.
#[inline(always)]
pub fn end<K: Kernel, T: Open>(flow: usize, calls: &Array<T>, now: u64) -> Option<(*mut Block, T, u64)> {
    let block = K::block()?;
    // SAFETY: in the current CPU's block; the words written here are written by this program alone.
    let flow = unsafe { &mut (*block).flow[flow] };
    let Some(slot) = open::find(calls, bpf_get_current_pid_tgid()) else {
        flow.unmatched += 1;
        return None;
    };
    // SAFETY: the slot is this thread's own until it is released here.
    let open = unsafe {
        let open = *slot;
        open::release(slot);
        open
    };
    match now.checked_sub(open.entered_at()) {
        Some(duration) => Some((block, open, duration)),
        None => {
            flow.backwards += 1;
            None
        }
    }
}
