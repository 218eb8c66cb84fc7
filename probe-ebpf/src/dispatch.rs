//! `iommufd_fops_ioctl(struct file *, unsigned int cmd, unsigned long arg)`: latency and errno per
//! command, calls by process (drivers/iommu/iommufd/main.c, Linux 7.3).

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_log_ebpf::trace;
use probe_common::command::{self, ROW_GET_PA, ROWS};
use probe_common::dist::Distribution as _;
use probe_common::site::SiteId;
use probe_common::wire::{Block, errno_slot};

use crate::calls::{self, Facts};
use crate::kernel::Kernel;
use crate::maps::near;
use crate::{area, callers, constant, rehearsal, waits};

/// The site's place in [`Block::flow`].
pub const FLOW: usize = SiteId::Dispatch as usize;

/// The ioctl number of GET_PA.
const GET_PA: u32 = (command::IOCTL_TYPE << 8) | (command::FIRST_NR + ROW_GET_PA as u32);

/// An ioctl goes in, counted or not. With `EXTRA`, also what is recorded only where asked for.
#[inline(always)]
pub fn enter<const EXTRA: bool>(ioctl: u32) {
    // Nearly every call is one, and it changes nothing.
    if ioctl != GET_PA && command::changes_areas(command::row_of(ioctl)) {
        area::begin_change();
    }
    if EXTRA {
        waits::enter();
    }
}

/// A call of a command comes back at `now`, counted or not; `entered` if its entry was seen.
#[inline(always)]
pub fn leave<const EXTRA: bool>(row: usize, now: u64, entered: bool) {
    if row != ROW_GET_PA && command::changes_areas(row) {
        area::end_change(now, entered);
    }
    if EXTRA {
        waits::leave(row);
    }
}

/// A call that is to be counted.
pub struct Returned {
    pub row: usize,
    pub result: i64,
    pub now: u64,
    /// Latency, ns.
    pub nanos: u64,
}

/// Count a call that returned. With `EXTRA`, also what is recorded only where asked for.
///
/// # Safety
/// `block` is the current CPU's.
#[inline(always)]
pub unsafe fn count<K: Kernel, const EXTRA: bool>(ctx: &impl EbpfContext, block: *mut Block, call: Returned) {
    let Returned { row, result, now, nanos } = call;
    if row >= ROWS {
        return;
    }
    if EXTRA {
        trace!(ctx, "dispatch row {} result {} in {} ns", row, result, nanos);
    }
    // SAFETY: `row` and the errno's slot are in bounds; the cell is in the current CPU's block.
    unsafe {
        let result = rehearsal::result(block, result);
        if result < 0 || row != ROW_GET_PA {
            if !rehearsal::IS_ON && is_canary() {
                (*block).flow[FLOW].canary += 1;
                return;
            }
            // Before the caller's row is looked up: the call that made the IOAS is its own process's.
            if result >= 0 && command::makes_ioas(row) {
                callers::forget::<K>();
            }
        }
        let cell = &mut (*block).dispatch[row];
        let caller = callers::caller::<K>(block);
        (*caller).calls += 1;
        (*caller).nanos += nanos;
        let errno = if result >= 0 {
            (*near(&raw mut cell.ok)).record(nanos);
            0
        } else {
            let errno = result.unsigned_abs();
            cell.failed.record(nanos);
            cell.errno[errno_slot(errno)] += 1;
            (*caller).failed += 1;
            errno as u32
        };
        if EXTRA {
            calls::consider(block, now, nanos, || Facts {
                site: SiteId::Dispatch,
                errno,
                kind: row as u32,
                iova: 0,
                cap: u64::MAX,
                run: 0,
                pages: 0,
            });
        }
    }
}

/// Whether the current thread is the one that sends canaries. Asked of calls that fail, and of commands
/// other than GET_PA: canaries are among them.
#[inline(always)]
pub fn is_canary() -> bool {
    let canary = constant::canary_thread();
    canary != 0 && bpf_get_current_pid_tgid() & 0xffff_ffff == canary
}
