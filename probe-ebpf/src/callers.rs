//! Attribution: a row of the dispatch site's table of callers for each process, of `get_phys`'s for each
//! process and IOAS.
//!
//! A CPU remembers the last caller of each site, so that a look-up is needed only where another one
//! comes, or user space made it forget. Who finds the table full is counted in the site's first row.
//! Each look-up notes the process's name anew: names change (exec, prctl), and all of a process's rows
//! are to have one.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_task};
use probe_common::site::{SITES, SiteId};
use probe_common::wire::{
    Block, CALLERS as ROWS, COMM, Caller, CallerCell, CallerKey, LastCaller, NamedBy, ScannerCell, caller_row,
};

use crate::kernel::Kernel;
use crate::maps::{self, CALLERS, SLOTS};
use crate::{constant, span};

/// The current process's row at the dispatch site.
///
/// # Safety
/// `block` is the current CPU's, and this program is the one that counts the site's returns.
#[inline(always)]
pub unsafe fn caller<K: Kernel>(block: *mut Block) -> *mut CallerCell {
    // SAFETY: in the current CPU's block; the slot is in bounds.
    unsafe {
        let slot = slot::<K>(block, SiteId::Dispatch, 0);
        &raw mut (*block).callers[slot & (ROWS - 1)]
    }
}

/// The row of the current process and an IOAS at `get_phys`.
///
/// # Safety
/// As of [`caller`].
#[inline(always)]
pub unsafe fn scanner<K: Kernel>(block: *mut Block, iopt: u64) -> *mut ScannerCell {
    // SAFETY: in the current CPU's block; the slot is in bounds.
    unsafe {
        let slot = slot::<K>(block, SiteId::GetPhys, iopt);
        &raw mut (*block).scanners[slot & (ROWS - 1)]
    }
}

/// The current process's slot at a site; `iopt` is 0 at the dispatch site.
#[inline(always)]
unsafe fn slot<K: Kernel>(block: *mut Block, site: SiteId, iopt: u64) -> usize {
    let tgid = K::tgid();
    // SAFETY: in the current CPU's block.
    unsafe {
        let last = &raw mut (*block).last[site as usize];
        let slot = if (*last).iopt == iopt && (*last).tgid == tgid {
            (*last).slot
        } else {
            let slot = slot_of::<K>(site as u32, iopt, tgid);
            *last = LastCaller { iopt, tgid, slot };
            slot
        };
        slot as usize
    }
}

/// Let every CPU look its last callers up again: an IOAS was made, perhaps where another one was, perhaps by a
/// process that has the number of one that ended. No call on the other one, or by it, is under way, so no program is
/// about to remember it.
#[inline(never)]
pub fn forget<K: Kernel>() {
    let Some(first) = K::blocks() else { return };
    for cpu in 0..constant::cpus() {
        let block = maps::block_of(first, cpu as u32);
        // SAFETY: the block of a possible CPU. The word may be written by that CPU at the same time, for
        // a caller that is not the one to be forgotten.
        unsafe {
            for last in 0..SITES.len() {
                core::ptr::write_volatile(&raw mut (*block).last[last].tgid, 0);
            }
        }
    }
}

/// The slot of a caller, a new one if need be; the first one where there is none left.
#[inline(never)]
fn slot_of<K: Kernel>(site: u32, iopt: u64, tgid: u32) -> u32 {
    let key = CallerKey { iopt, started: started::<K>(), tgid, ioas: ioas_of::<K>(iopt) };
    let Some(slot) = find(&key).or_else(|| take(site, &key)) else { return 0 };
    if let Some(caller) = row(site, slot) {
        // SAFETY: a valid row. Other CPUs may be writing the same process's name.
        unsafe { name::<K>(caller) };
    }
    slot
}

#[inline(always)]
fn row(site: u32, slot: u32) -> Option<*mut Caller> {
    CALLERS.get_ptr_mut(caller_row(site as usize, slot as usize) as u32)
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
        let given = &raw mut (*shared).slots[site as usize % SITES.len()];
        if core::ptr::read_volatile(given) >= ROWS as u64 - 1 {
            return None;
        }
        (atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(given, 1) + 1) as u32
    };
    if slot >= ROWS as u32 {
        return None;
    }
    let caller = row(site, slot)?;
    // SAFETY: nobody else was given this slot.
    unsafe {
        (*caller).ioas = key.ioas;
        (*caller).started = key.started;
    }
    // SAFETY: as above.
    unsafe { (*caller).tgid = key.tgid };
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

/// When the current process began; 0 where the kernel's types did not tell where it is kept.
#[inline(always)]
fn started<K: Kernel>() -> u64 {
    if !constant::has_names() || constant::task_started() == 0 {
        return 0;
    }
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let leader = K::read(task.wrapping_add(constant::task_leader())).unwrap_or(0);
    K::read(leader.wrapping_add(constant::task_started())).unwrap_or(0)
}

/// Note the name that the current process has now.
///
/// # Safety
/// `caller` is a valid row.
#[inline(always)]
unsafe fn name<K: Kernel>(caller: *mut Caller) {
    let (comm, by) = match leaders_name::<K>() {
        Some(comm) => (comm, NamedBy::Process),
        None => (bpf_get_current_comm().unwrap_or_default(), NamedBy::Thread),
    };
    // SAFETY: by the caller's promise. The time is in place last.
    unsafe {
        (*caller).comm = comm;
        (*caller).named_by = by as u32;
        core::ptr::write_volatile(&raw mut (*caller).named_at, span::now());
    }
}

/// `comm` of the process's first thread, which is the process's name; `None` where the kernel's types did
/// not tell where it is kept.
#[inline(always)]
fn leaders_name<K: Kernel>() -> Option<[u8; COMM]> {
    if !constant::has_names() {
        return None;
    }
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let comm = K::read(task.wrapping_add(constant::task_leader()))?.wrapping_add(constant::task_comm());
    let words = [K::read(comm)?, K::read(comm.wrapping_add(8))?];
    // SAFETY: the same bytes.
    Some(unsafe { core::mem::transmute::<[u64; 2], [u8; COMM]>(words) })
}
