//! An entry and its return made one measured call.
//!
//! The clock is read last on entry and first on return, so our own work is outside the interval.
//! Whatever cannot be measured is counted under its own name in [`Flow`].

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    maps::HashMap,
};
use probe_common::wire::{Block, DispatchOpen, GetPhysOpen};

use crate::maps;

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

/// Note that a call of the site at `flow` has begun, if calls are counted; reads the clock last.
#[inline(always)]
pub fn begin<T: Open>(flow: usize, calls: &HashMap<u64, T>, open: impl FnOnce() -> Option<T>) {
    if !maps::armed() {
        return;
    }
    let (Some(block), Some(open)) = (maps::block(), open()) else { return };
    // SAFETY: in the current CPU's block; the words written here are written by this program alone.
    let flow = unsafe { &mut (*block).flow[flow] };
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

/// The open call of the site at `flow` that returns now, with the current CPU's block and its duration
/// in ns; `None` when there is nothing to measure.
#[inline(always)]
pub fn end<T: Open>(flow: usize, calls: &HashMap<u64, T>, now: u64) -> Option<(*mut Block, T, u64)> {
    let block = maps::block()?;
    // SAFETY: in the current CPU's block; the words written here are written by this program alone.
    let flow = unsafe { &mut (*block).flow[flow] };
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
        Some(duration) => Some((block, open, duration)),
        None => {
            flow.backwards += 1;
            None
        }
    }
}
