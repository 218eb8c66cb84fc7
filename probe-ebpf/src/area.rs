//! Where the area of a scan ends: the finer reason of a short run, where it can be known.
//!
//! `iopt_get_phys` looks the area up under `iova_rwsem`, which is released when we come to look. So
//! what we find is what it found only if no area came or went meanwhile. Areas change by commands of
//! the dispatch alone (drivers/iommu/iommufd/io_pagetable.c, Linux 7.3): the dispatch's programs note when
//! such a command is inside ([`begin_change`], [`end_change`]), and a scan that one could have met stays
//! `short`.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};
use core::ptr::read_volatile;

use probe_common::wire::{Shared, Stop};

use crate::kernel::Kernel;
use crate::{constant, maps};

/// Levels of the tree of areas that are followed: a red-black tree of more than 2^24 areas is deeper.
const LEVELS: u32 = 48;
/// Attempts to note the time of a change while others do the same.
const ATTEMPTS: u32 = 8;

/// A command that may change areas begins.
#[inline(always)]
pub fn begin_change() {
    if let Some(shared) = maps::shared() {
        // SAFETY: a valid word.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(&raw mut (*shared).changing, 1) };
    }
}

/// A command that may have changed areas returns, at `now`; `began` if its entry was seen.
#[inline(always)]
pub fn end_change(now: u64, began: bool) {
    let Some(shared) = maps::shared() else { return };
    // SAFETY: valid words. The time is in place before the command is gone.
    unsafe {
        for _ in 0..ATTEMPTS {
            let known = read_volatile(&raw const (*shared).changed_at);
            if known >= now
                || atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                    &raw mut (*shared).changed_at,
                    known,
                    now,
                )
                .1
            {
                break;
            }
        }
        if began {
            atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(&raw mut (*shared).changing, u64::MAX);
        }
    }
}

/// Why a scan of `pages` pages from `iova` that began at `since` was short.
#[inline(always)]
pub fn stop<K: Kernel>(iopt: u64, iova: u64, pages: u64, since: u64) -> Stop {
    if !constant::has_areas() {
        return Stop::Short;
    }
    find::<K>(iopt, iova, pages, since).unwrap_or(Stop::Short)
}

#[inline(never)]
fn find<K: Kernel>(iopt: u64, iova: u64, pages: u64, since: u64) -> Option<Stop> {
    let shared = maps::shared()?;
    if !is_quiet(shared, since) {
        return None;
    }
    let (_, last) = find_area::<K>(iopt, iova)?;
    if !is_quiet(shared, since) {
        return None;
    }
    // As the kernel's loop has it: the next step begins at `next`, and an area without it is at its end.
    let next = iova.wrapping_add(pages << (constant::page_shift() & 63));
    Some(if next > last || next < iova { Stop::AreaEnd } else { Stop::Break })
}

/// No command that changes areas was inside since `since`.
#[inline(always)]
fn is_quiet(shared: *const Shared, since: u64) -> bool {
    // SAFETY: valid words.
    unsafe {
        read_volatile(&raw const (*shared).changing) == 0
            && read_volatile(&raw const (*shared).changed_at) < since
    }
}

/// The address of the mutex of what is mapped at `iova`. The caller holds `iova_rwsem`, so that no area comes or goes.
#[inline(never)]
pub fn mutex_of_pages<K: Kernel>(iopt: u64, iova: u64) -> Option<u64> {
    let (node, _) = find_area::<K>(iopt, iova)?;
    let pages = K::read(node.wrapping_add(constant::area_pages()))?;
    Some(pages.wrapping_add(constant::pages_mutex()))
}

/// The area that holds `iova`, as the `node.rb` in it, and its last IOVA: areas do not overlap, so the interval tree is
/// a search tree of them.
#[inline(always)]
fn find_area<K: Kernel>(iopt: u64, iova: u64) -> Option<(u64, u64)> {
    let mut node = K::read(iopt.wrapping_add(constant::iopt_area_root()))?;
    for _ in 0..LEVELS {
        if node == 0 {
            return None;
        }
        let last = K::read(node.wrapping_add(constant::node_last()))?;
        node = if iova < K::read(node.wrapping_add(constant::node_start()))? {
            K::read(node.wrapping_add(constant::node_left()))?
        } else if iova > last {
            K::read(node.wrapping_add(constant::node_right()))?
        } else {
            return Some((node, last));
        };
    }
    None
}
