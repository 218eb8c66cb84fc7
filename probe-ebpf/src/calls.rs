//! Single calls: sampled, or slower than a threshold, through a ring buffer that user space polls.
//! Nothing counted elsewhere depends on them; what finds the ring full is counted.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use probe_common::site::SiteId;
use probe_common::wire::{Block, CallRecord};

use crate::constant;
use crate::maps::{self, CALLS};

/// What a site knows of a call that returned.
pub struct Facts {
    pub site: SiteId,
    pub errno: u32,
    pub kind: u32,
    pub iova: u64,
    pub cap: u64,
    pub run: u64,
    pub pages: u64,
}

/// Hand a call over if it is one to be recorded by itself.
///
/// # Safety
/// `block` is the current CPU's, and this program is the one that counts the site's returns.
#[inline(always)]
pub unsafe fn consider(block: *mut Block, now: u64, nanos: u64, facts: impl FnOnce() -> Facts) {
    let (every, slower) = (constant::calls_every(), constant::calls_slower());
    if every == 0 && slower == 0 {
        return;
    }
    let facts = facts();
    // SAFETY: in the current CPU's block.
    let flow = unsafe { &mut (*block).flow[facts.site as usize] };
    let is_slow = slower != 0 && nanos >= slower;
    let mut is_sampled = false;
    if every != 0 {
        flow.unsampled += 1;
        if flow.unsampled >= every {
            flow.unsampled = 0;
            is_sampled = true;
        }
    }
    if !is_slow && !is_sampled {
        return;
    }
    let Some(mut place) = CALLS.reserve::<CallRecord>(0) else {
        flow.dropped += 1;
        return;
    };
    place.write(CallRecord {
        at: now,
        nanos,
        thread: bpf_get_current_pid_tgid(),
        iova: if constant::include_iova() { facts.iova } else { 0 },
        cap: facts.cap,
        run: facts.run,
        pages: facts.pages,
        cpu: maps::cpu(),
        errno: facts.errno,
        site: facts.site as u32,
        kind: facts.kind,
        slow: u32::from(is_slow),
        reserved: 0,
        comm: bpf_get_current_comm().unwrap_or_default(),
    });
    place.submit(u64::from(BPF_RB_NO_WAKEUP));
}
