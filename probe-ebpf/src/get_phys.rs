//! `int iopt_get_phys(struct io_pagetable *, unsigned long iova, u64 *paddr, u64 *length)`: latency
//! by scan length, run length by stop, errno, scans by process and IOAS
//! (drivers/iommu/iommufd/io_pagetable.c, Linux 7.3).
//!
//! Both pointers are kernel memory (the ioctl's command buffer), so no user memory is read. The
//! outputs of a failed call are not meaningful and not read.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_log_ebpf::trace;
use probe_common::dist::Distribution as _;
use probe_common::site::SiteId;
use probe_common::wire::{Block, GetPhysOpen, Stop, errno_slot, scan_class};

use crate::calls::{self, Facts};
use crate::dispatch::is_canary;
use crate::kernel::Kernel;
use crate::maps::{CAPS, near};
use crate::{area, callers, constant, rehearsal, waits};

/// The site's place in [`Block::flow`].
pub const FLOW: usize = SiteId::GetPhys as usize;

/// A call that is to be counted.
pub struct Returned {
    pub iopt: u64,
    pub iova: u64,
    pub result: i64,
    pub now: u64,
    /// Latency, ns.
    pub nanos: u64,
}

/// What a successful call found.
pub struct Scan {
    /// `*length` after the call.
    pub run: u64,
    /// `*paddr` after the call.
    pub paddr: u64,
    /// The run fills what `*length` was before the call.
    pub is_filled: bool,
}

impl Scan {
    /// What a call from the table of open calls found.
    #[inline(always)]
    pub fn of_open(open: &GetPhysOpen, run: u64, paddr: u64) -> Option<Self> {
        Some(Self { run, paddr, is_filled: run == open.cap })
    }
}

/// Count a call that returned; `scan` looks at the outputs, and is asked only where they mean
/// something, `cap` only where a call is recorded by itself. With `EXTRA`, also what is recorded only
/// where asked for.
///
/// # Safety
/// `block` is the current CPU's.
#[inline(always)]
pub unsafe fn count<K: Kernel, const EXTRA: bool>(
    ctx: &impl EbpfContext,
    block: *mut Block,
    call: Returned,
    scan: impl FnOnce() -> Option<Scan>,
    cap: impl FnOnce() -> u64,
) {
    let Returned { iopt, iova, result, now, nanos } = call;
    // SAFETY: the cell is in the current CPU's block; slot, class and stop are in bounds.
    unsafe {
        let cell = &mut (*block).get_phys;
        let result = rehearsal::result(block, result);
        if result != 0 {
            if !rehearsal::IS_ON && is_canary() {
                (*block).flow[FLOW].canary += 1;
                return;
            }
            let errno = result.unsigned_abs();
            cell.failed.record(nanos);
            cell.errno[errno_slot(errno)] += 1;
            let caller = &raw mut (*callers::scanner::<K>(block, iopt)).calls;
            (*caller).calls += 1;
            (*caller).failed += 1;
            (*caller).nanos += nanos;
            if EXTRA {
                trace!(ctx, "get_phys errno {} in {} ns", errno, nanos);
                calls::consider(block, now, nanos, || Facts {
                    site: SiteId::GetPhys,
                    errno: errno as u32,
                    kind: 0,
                    iova,
                    cap: cap(),
                    run: 0,
                    pages: 0,
                });
            }
            return;
        }
        let Some(scan) = scan() else {
            (*block).flow[FLOW].unread += 1;
            return;
        };
        let pages = pages_of(iova, scan.run);
        (*near(&raw mut cell.ok[scan_class(pages)])).record(nanos);
        let caller = callers::scanner::<K>(block, iopt);
        (*caller).calls.calls += 1;
        (*caller).calls.nanos += nanos;
        (*caller).pages += pages;
        (*caller).bytes += scan.run;
        let stop = stop_of::<K>(iopt, iova, pages, &scan, now - nanos);
        (*near(&raw mut cell.runs[stop as usize])).record(scan.run);
        if EXTRA {
            waits::leave_get_phys(nanos);
            trace!(ctx, "get_phys run {} stop {} in {} ns", scan.run, stop as u32, nanos);
            calls::consider(block, now, nanos, || Facts {
                site: SiteId::GetPhys,
                errno: 0,
                kind: stop as u32,
                iova,
                cap: cap(),
                run: scan.run,
                pages,
            });
        }
    }
}

/// The cap of a session's call that its cookie could not hold, taken out of the map.
#[inline(always)]
pub fn takes_cap_from_elsewhere() -> Option<u64> {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: the element is this thread's own; no other program touches it.
    let cap = unsafe { CAPS.get(thread) }.copied();
    // A failed call leaves its cap behind for the thread's next one to overwrite.
    let _ = CAPS.remove(thread);
    cap
}

/// Pages that the run touches.
#[inline(always)]
fn pages_of(iova: u64, run: u64) -> u64 {
    let mask = constant::page_mask();
    shifted_right((iova & mask).wrapping_add(run).wrapping_add(mask), constant::page_shift())
}

/// `value >> shift` without the mask that keeps Rust's shift defined: the constant is below 64.
#[inline(always)]
fn shifted_right(value: u64, shift: u64) -> u64 {
    // SAFETY: the page shift of any kernel is below 64.
    unsafe { core::intrinsics::unchecked_shr(value, shift) }
}

/// Why the scan ended. The kernel checks the cap first.
#[inline(always)]
fn stop_of<K: Kernel>(iopt: u64, iova: u64, pages: u64, scan: &Scan, since: u64) -> Stop {
    if scan.paddr == 0 {
        Stop::Unmapped
    } else if scan.is_filled && constant::length_is_cap() {
        Stop::Cap
    } else {
        area::stop::<K>(iopt, iova, pages, since)
    }
}
