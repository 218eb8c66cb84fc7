//! Tables by thread: of a site's open calls, for backends that have no place of their own for them, and of
//! lock waits.
//!
//! An array: a thread's call is in one of [`PROBES`] slots from the one its number chooses. Claiming is
//! one compare-and-swap and releasing one store, where a hash map takes and gives back a bucket's lock.
//! A thread has one open call of a site at most, and only it touches its slot.

use core::intrinsics::{AtomicOrdering, atomic_cxchg};
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::maps::Array;
use probe_common::wire::{DispatchOpen, FREE, GetPhysOpen, OPEN_CALLS, PROBES, Wait};

/// A slot of a table by thread. All fields but the owner are plain.
pub trait Slot: Copy {
    /// The slot's owner.
    fn owner(slot: *mut Self) -> *mut u64;
}

/// What is kept of an open call.
pub trait Open: Slot {
    fn entered_at(&self) -> u64;
    fn stamp(&mut self, now: u64);
}

macro_rules! slot {
    ($($kind:ty),*) => {$(
        impl Slot for $kind {
            #[inline(always)]
            fn owner(slot: *mut Self) -> *mut u64 {
                // The first field.
                slot.cast()
            }
        }
        const _: () = assert!(core::mem::offset_of!($kind, owner) == 0);
    )*};
}
slot!(DispatchOpen, GetPhysOpen, Wait);

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

/// What became of a claim.
pub enum Claim<T> {
    /// A free slot, now the thread's, and its number.
    Fresh(u32, *mut T),
    /// The slot of an older call of this thread, whose return was lost, and its number.
    Stale(u32, *mut T),
    /// No slot.
    Full,
}

/// A slot for a call of `thread`.
#[inline(always)]
pub fn claim<T: Slot>(calls: &Array<T>, thread: u64) -> Claim<T> {
    for probe in 0..PROBES {
        let place = home(thread) + probe;
        let Some(slot) = calls.get_ptr_mut(place) else { break };
        // SAFETY: the owner is a valid aligned word of the slot. The instruction set has a
        // compare-and-swap since v3; only the core library's atomic types do not know.
        let (owner, claimed) = unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                T::owner(slot),
                FREE,
                thread,
            )
        };
        if claimed {
            return Claim::Fresh(place, slot);
        }
        if owner == thread {
            return Claim::Stale(place, slot);
        }
    }
    Claim::Full
}

/// The slot of the open call of `thread`.
#[inline(always)]
pub fn find<T: Slot>(calls: &Array<T>, thread: u64) -> Option<*mut T> {
    for probe in 0..PROBES {
        let slot = calls.get_ptr_mut(home(thread) + probe)?;
        // SAFETY: a valid word; another thread's owner may change while it is read, ours may not.
        if unsafe { read_volatile(T::owner(slot)) } == thread {
            return Some(slot);
        }
    }
    None
}

/// Give a slot back.
///
/// # Safety
/// The slot is the current thread's.
#[inline(always)]
pub unsafe fn release<T: Slot>(slot: *mut T) {
    // SAFETY: a valid word of the thread's own slot.
    unsafe { write_volatile(T::owner(slot), FREE) };
}

/// The first slot of a thread. The lower half of `bpf_get_current_pid_tgid` is the thread's number,
/// and threads of a busy process have consecutive ones.
#[inline(always)]
fn home(thread: u64) -> u32 {
    thread as u32 & (OPEN_CALLS - 1)
}
