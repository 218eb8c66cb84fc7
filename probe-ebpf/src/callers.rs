//! Attribution: a row of the table of callers for each process at the dispatch site, for each process
//! and IOAS at `get_phys`.
//!
//! A CPU remembers the last caller of each site, so that a look-up is needed only where another one
//! comes. Who finds the table full is counted in the site's own row.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_get_current_comm;
use probe_common::site::{SITES, SiteId};
use probe_common::wire::{Block, CALLERS as ROWS, Caller, CallerCell, CallerKey, LastCaller};

use crate::constant;
use crate::kernel::Kernel;
use crate::maps::{self, CALLERS, SLOTS};

/// The row of the current process at a site; `iopt` is 0 at the dispatch site.
///
/// # Safety
/// `block` is the current CPU's, and this program is the one that counts the site's returns.
#[inline(always)]
pub unsafe fn row<K: Kernel>(block: *mut Block, site: SiteId, iopt: u64) -> *mut CallerCell {
    let tgid = K::tgid();
    // SAFETY: in the current CPU's block; a slot is in bounds.
    unsafe {
        let last = &raw mut (*block).last[site as usize];
        let slot = if (*last).iopt == iopt && (*last).tgid == tgid {
            (*last).slot
        } else {
            let slot = slot_of::<K>(site as u32, iopt, tgid);
            *last = LastCaller { iopt, tgid, slot };
            slot
        };
        &raw mut (*block).callers[slot as usize & (ROWS - 1)]
    }
}

/// Let every CPU look its last `get_phys` caller up again: an IOAS was made, perhaps where another one
/// was. No call on the other one is under way, so no program is about to remember it.
#[inline(never)]
pub fn forget<K: Kernel>() {
    let Some(first) = K::blocks() else { return };
    for cpu in 0..constant::cpus() {
        let block = maps::block_of(first, cpu as u32);
        // SAFETY: the block of a possible CPU. The word may be written by that CPU at the same time, for
        // a caller that is not the one to be forgotten.
        unsafe { core::ptr::write_volatile(&raw mut (*block).last[SiteId::GetPhys as usize].tgid, 0) };
    }
}

/// The slot of a caller, a new one if need be; the site's own where there is none left.
#[inline(never)]
fn slot_of<K: Kernel>(site: u32, iopt: u64, tgid: u32) -> u32 {
    let key = CallerKey { iopt, tgid, ioas: ioas_of::<K>(iopt) };
    find(&key).or_else(|| take(site, &key)).unwrap_or(site)
}

#[inline(always)]
fn find(key: &CallerKey) -> Option<u32> {
    // SAFETY: an element is written once.
    unsafe { SLOTS.get(key) }.copied()
}

/// A new slot for a caller, which another CPU may be giving one at the same time.
#[inline(always)]
fn take(site: u32, key: &CallerKey) -> Option<u32> {
    let shared = maps::shared()?;
    // SAFETY: a valid word. Numbers beyond the table are given away, and lead nowhere.
    let slot = unsafe {
        if core::ptr::read_volatile(&raw const (*shared).slots) >= (ROWS - SITES.len()) as u64 {
            return None;
        }
        let given = atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(&raw mut (*shared).slots, 1);
        (given + SITES.len() as u64) as u32
    };
    let caller = CALLERS.get_ptr_mut(slot)?;
    let comm = bpf_get_current_comm().unwrap_or_default();
    // SAFETY: nobody else was given this slot.
    unsafe { *caller = Caller { tgid: key.tgid, ioas: key.ioas, site, reserved: 0, comm } };
    match SLOTS.insert(key, slot, u64::from(BPF_NOEXIST)) {
        Ok(()) => Some(slot),
        Err(_) => {
            // Another CPU was faster, or there is no room: the slot stays empty.
            // SAFETY: as above.
            unsafe { (*caller).tgid = 0 };
            find(key)
        }
    }
}

/// The IOAS's number; 0 at the dispatch site and where the kernel's types did not tell.
#[inline(always)]
fn ioas_of<K: Kernel>(iopt: u64) -> u32 {
    if iopt == 0 || !constant::has_areas() {
        return 0;
    }
    K::read(iopt.wrapping_add(constant::iopt_ioas_id())).unwrap_or(0) as u32
}
