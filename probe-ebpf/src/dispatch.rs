//! `iommufd_fops_ioctl(struct file *, unsigned int cmd, unsigned long arg)`: latency and errno per
//! command (drivers/iommu/iommufd/main.c, Linux 7.3).

use aya_ebpf::EbpfContext;
use aya_log_ebpf::trace;
use probe_common::command::ROWS;
use probe_common::dist::Distribution as _;
use probe_common::site::SiteId;
use probe_common::wire::{Block, errno_slot};

use crate::maps::near;

/// The site's place in [`Block::flow`].
pub const FLOW: usize = SiteId::Dispatch as usize;

/// Count a call that returned.
///
/// # Safety
/// `block` is the current CPU's.
#[inline(always)]
pub unsafe fn count(ctx: &impl EbpfContext, block: *mut Block, row: usize, result: i64, duration: u64) {
    if row >= ROWS {
        return;
    }
    trace!(ctx, "dispatch row {} result {} in {} ns", row, result, duration);
    // SAFETY: `row` and the errno's slot are in bounds; the cell is in the current CPU's block.
    unsafe {
        let cell = &mut (*block).dispatch[row];
        if result >= 0 {
            (*near(&raw mut cell.ok)).record(duration);
        } else {
            cell.failed.record(duration);
            cell.errno[errno_slot(result.unsigned_abs())] += 1;
        }
    }
}
