//! Lock waits of threads inside the dispatch, from the tracepoints `contention_begin` and `contention_end`
//! (include/trace/events/lock.h, Linux 7.3), which fire for contended locks alone. Only where they were
//! asked for: else every call of these functions is dead code to the verifier.
//!
//! A wait begins more than once where a mutex's waiter spins first, and where a lock has another one inside: a
//! `PREEMPT_RT` semaphore's reader begins to wait for the semaphore, then for the real-time mutex in it, and ends both
//! (kernel/locking/rwbase_rt.c). The first beginning counts, and the end of the same lock.
//!
//! Which lock it is, its address tells: flags of a `PREEMPT_RT` kernel are the same for mutexes, for spinlocks (which
//! sleep there) and for what is inside of semaphores (kernel/locking/rtmutex.c).

use core::ptr::write_volatile;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use probe_common::command::ROWS;
use probe_common::dist::Distribution as _;
use probe_common::wire::{FREE, Lock, Wait};

use crate::kernel::Typed;
use crate::maps::{self, WAITS};
use crate::open::{self, Claim};
use crate::{area, constant, span};

/// `LCB_F_SPIN` and `LCB_F_MUTEX` (include/trace/events/lock.h, Linux 7.3).
const SPIN: u64 = 1;
const MUTEX: u64 = 1 << 5;

/// The thread goes into the dispatch.
#[inline(always)]
pub fn enter() {
    if !constant::locks() {
        return;
    }
    let thread = bpf_get_current_pid_tgid();
    match open::claim(&WAITS, thread) {
        // SAFETY: the slot is this thread's own until it is released.
        Claim::Fresh(_, slot) | Claim::Stale(_, slot) => unsafe {
            *slot = Wait {
                owner: thread,
                lock: 0,
                since: 0,
                which: Lock::Other as u64,
                all: 0,
                iopt: 0,
                iova: 0,
                for_rwsem: 0,
                for_mutex: 0,
            };
        },
        Claim::Full => {
            if let Some(block) = maps::lock_block() {
                // SAFETY: the current CPU's.
                unsafe { (*block).unstored += 1 };
            }
        }
    }
}

/// The thread goes into `get_phys`, for a scan from `iova`.
#[inline(always)]
pub fn enter_get_phys(iopt: u64, iova: u64) {
    if !constant::locks() {
        return;
    }
    if let Some(slot) = open::find(&WAITS, bpf_get_current_pid_tgid()) {
        // SAFETY: the thread's own slot.
        unsafe {
            (*slot).iopt = iopt;
            (*slot).iova = iova;
        }
    }
}

/// The thread comes back from a successful `get_phys` call that took `nanos`.
#[inline(always)]
pub fn leave_get_phys(nanos: u64) {
    if !constant::locks() {
        return;
    }
    let (Some(slot), Some(block)) = (open::find(&WAITS, bpf_get_current_pid_tgid()), maps::lock_block())
    else {
        return;
    };
    // SAFETY: the thread's own slot, the current CPU's block.
    unsafe {
        let (rwsem, mutex) = ((*slot).for_rwsem, (*slot).for_mutex);
        (*slot).iopt = 0;
        (*block).rwsem.record(rwsem);
        (*block).mutex.record(mutex);
        (*block).scanning.record(nanos.saturating_sub(rwsem + mutex));
    }
}

/// The thread comes back from a command.
#[inline(always)]
pub fn leave(row: usize) {
    if !constant::locks() || row >= ROWS {
        return;
    }
    let (Some(slot), Some(block)) = (open::find(&WAITS, bpf_get_current_pid_tgid()), maps::lock_block())
    else {
        return;
    };
    // SAFETY: the thread's own slot, the current CPU's block; the row is in bounds.
    unsafe {
        let Wait { all, since, .. } = *slot;
        write_volatile(&raw mut (*slot).owner, FREE);
        if all > 0 {
            (*block).commands[row].record(all);
        }
        if since != 0 {
            (*block).unended += 1;
        }
    }
}

#[raw_tracepoint]
pub fn lock_begin(ctx: RawTracePointContext) -> i32 {
    // SAFETY: the tracepoint has two arguments.
    let (lock, flags) = unsafe { (argument(&ctx, 0), argument(&ctx, 1)) };
    if flags & SPIN != 0 && flags & MUTEX == 0 {
        return 0;
    }
    let Some(slot) = open::find(&WAITS, bpf_get_current_pid_tgid()) else { return 0 };
    // SAFETY: the thread's own slot.
    unsafe {
        if (*slot).since == 0 {
            (*slot).since = span::now();
            (*slot).lock = lock;
            (*slot).which = which(&*slot, lock) as u64;
        }
    }
    0
}

#[raw_tracepoint]
pub fn lock_end(ctx: RawTracePointContext) -> i32 {
    let now = span::now();
    // SAFETY: the tracepoint has two arguments.
    let lock = unsafe { argument(&ctx, 0) };
    let Some(slot) = open::find(&WAITS, bpf_get_current_pid_tgid()) else { return 0 };
    // SAFETY: the thread's own slot.
    unsafe {
        if (*slot).since == 0 || (*slot).lock != lock {
            return 0;
        }
        let waited = now.saturating_sub((*slot).since);
        (*slot).since = 0;
        (*slot).all += waited;
        if (*slot).which == Lock::IovaRwsem as u64 {
            (*slot).for_rwsem += waited;
        } else if (*slot).which == Lock::PagesMutex as u64 {
            (*slot).for_mutex += waited;
        }
    }
    0
}

/// Which lock a thread begins to wait for.
#[inline(always)]
fn which(wait: &Wait, lock: u64) -> Lock {
    if wait.iopt == 0 {
        return Lock::Other;
    }
    let rwsem = wait.iopt.wrapping_add(constant::iopt_iova_rwsem());
    if lock == rwsem || lock == rwsem.wrapping_add(constant::rwsem_inner()) {
        return Lock::IovaRwsem;
    }
    // Whatever else a scan waits for, it holds the semaphore (`iopt_get_phys`, Linux 7.3).
    match area::mutex_of_pages::<Typed>(wait.iopt, wait.iova) {
        Some(mutex) if mutex == lock => Lock::PagesMutex,
        _ => Lock::Other,
    }
}

/// An argument of the tracepoint.
///
/// # Safety
/// The tracepoint has this many arguments.
#[inline(always)]
unsafe fn argument(ctx: &RawTracePointContext, place: usize) -> u64 {
    // SAFETY: arguments stand as 64-bit words from the beginning of the context.
    unsafe { *ctx.as_ptr().cast::<u64>().add(place) }
}
