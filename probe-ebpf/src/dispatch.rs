//! `iommufd_fops_ioctl(struct file *, unsigned int cmd, unsigned long arg)`: latency and errno per
//! command (drivers/iommu/iommufd/main.c, Linux 7.3).

use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use aya_log_ebpf::trace;
use probe_common::command::{ROWS, row_of};
use probe_common::dist::Distribution as _;
use probe_common::site::SiteId;
use probe_common::wire::{DispatchOpen, errno_slot};

use crate::maps::{self, DISPATCH_OPEN};
use crate::span;

const FLOW: usize = SiteId::Dispatch as usize;

#[kprobe]
pub fn dispatch_entry(ctx: ProbeContext) -> u32 {
    if maps::armed()
        && let (Some(block), Some(ioctl)) = (maps::block(), ctx.arg::<u32>(1))
    {
        let open = DispatchOpen { entered_at: 0, row: row_of(ioctl) as u64 };
        // SAFETY: the flow is in the current CPU's block.
        unsafe { span::begin(&raw mut (*block).flow[FLOW], &DISPATCH_OPEN, open) };
    }
    0
}

#[kretprobe]
pub fn dispatch_return(ctx: RetProbeContext) -> u32 {
    let now = span::now();
    let Some(block) = maps::block() else { return 0 };
    // SAFETY: the flow is in the current CPU's block.
    let Some((open, duration)) = (unsafe { span::end(&raw mut (*block).flow[FLOW], &DISPATCH_OPEN, now) })
    else {
        return 0;
    };
    let row = open.row as usize;
    if row >= ROWS {
        return 0;
    }
    let result = ctx.ret::<i64>();
    trace!(&ctx, "dispatch row {} result {} in {} ns", row, result, duration);
    // SAFETY: `row` and the errno's slot are in bounds; the cell is in the current CPU's block.
    unsafe {
        let cell = &mut (*block).dispatch[row];
        if result >= 0 {
            cell.ok.record(duration);
        } else {
            cell.failed.record(duration);
            cell.errno[errno_slot(result.unsigned_abs())] += 1;
        }
    }
    0
}
