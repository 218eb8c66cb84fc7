//! An entry and its return made one measured call.
//!
//! The clock is read last on entry and first on return, so our own work is outside the interval.
//! Whatever cannot be measured is counted under its own name in [`Flow`].

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    maps::HashMap,
};
use probe_common::wire::{DispatchOpen, Flow, GetPhysOpen};

/// What is kept of an open call.
pub trait Open: Copy {
    fn entered_at(&self) -> u64;
    fn stamp(&mut self, now: u64);
}

macro_rules! open {
    ($($kind:ty),*) => {$(
        impl Open for $kind {
            #[inline(always)]
            fn entered_at(&self) -> u64 {
                self.entered_at
            }
            #[inline(always)]
            fn stamp(&mut self, now: u64) {
                self.entered_at = now;
            }
        }
    )*};
}
open!(DispatchOpen, GetPhysOpen);

/// The time, in ns since boot without suspend (CLOCK_MONOTONIC).
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Note that a call has begun; reads the clock last.
///
/// # Safety
/// `flow` points into the current CPU's block.
#[inline(always)]
pub unsafe fn begin<T: Open>(flow: *mut Flow, calls: &HashMap<u64, T>, open: T) {
    // SAFETY: valid and unshared by the contract above.
    let flow = unsafe { &mut *flow };
    flow.entered += 1;
    let thread = bpf_get_current_pid_tgid();
    if calls.insert(thread, open, u64::from(BPF_NOEXIST)).is_err() {
        if calls.get_ptr(thread).is_some() {
            flow.superseded += 1;
        }
        if calls.insert(thread, open, u64::from(BPF_ANY)).is_err() {
            flow.unstored += 1;
            return;
        }
    }
    if let Some(stored) = calls.get_ptr_mut(thread) {
        // SAFETY: the element is this thread's own; no other program touches it meanwhile.
        unsafe { (*stored).stamp(now()) };
    }
}

/// The open call that returns now, with its duration in ns; `None` when there is nothing to measure.
///
/// # Safety
/// `flow` points into the current CPU's block.
#[inline(always)]
pub unsafe fn end<T: Open>(flow: *mut Flow, calls: &HashMap<u64, T>, now: u64) -> Option<(T, u64)> {
    // SAFETY: valid and unshared by the contract above.
    let flow = unsafe { &mut *flow };
    let thread = bpf_get_current_pid_tgid();
    let Some(stored) = calls.get_ptr(thread) else {
        flow.unmatched += 1;
        return None;
    };
    // SAFETY: the element is this thread's own; no other program touches it meanwhile.
    let open = unsafe { *stored };
    // Cannot fail: the element was there, and only its own thread removes it.
    let _ = calls.remove(thread);
    flow.exited += 1;
    match now.checked_sub(open.entered_at()) {
        Some(duration) => Some((open, duration)),
        None => {
            flow.backwards += 1;
            None
        }
    }
}
