//! What differs in the way to the kernel's state between the programs that our own loader loads (trampolines,
//! kprobe sessions) and those that aya does (kprobes).

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_probe_read_kernel};
use probe_common::wire::Block;

use crate::{constant, kfunc, maps};

/// The way to the kernel's state.
pub trait Kernel {
    /// The address of the first block.
    fn blocks() -> Option<u64>;

    /// The current CPU's block.
    fn block() -> Option<*mut Block>;

    /// The current CPU's block, if calls that begin now are counted; else the one that begins at the site at
    /// `flow` is noted as not counted.
    #[inline(always)]
    fn armed_block(flow: usize) -> Option<*mut Block> {
        let block = Self::block()?;
        // SAFETY: a valid word, which user space writes whole; and one that the site's entry program alone writes.
        unsafe {
            if core::ptr::read_volatile(&raw const (*block).armed) != 0 {
                return Some(block);
            }
            (*block).flow[flow].unarmed += 1;
        }
        None
    }

    /// The current process.
    fn tgid() -> u32;
    /// A word of kernel memory; where there is none, nothing or 0.
    fn read(address: u64) -> Option<u64>;
}

/// By typed pointers and plain loads: programs that our own loader loads.
pub struct Typed;

impl Kernel for Typed {
    #[inline(always)]
    fn blocks() -> Option<u64> {
        Some(constant::blocks())
    }

    #[inline(always)]
    fn block() -> Option<*mut Block> {
        // The verifier knows that no CPU has a higher number (`do_refine_retval_range`,
        // kernel/bpf/verifier.c, since Linux 6.2).
        Some(maps::block_of(constant::blocks(), maps::cpu()))
    }

    #[inline(always)]
    fn tgid() -> u32 {
        // SAFETY: the helper has no preconditions; the kernel checks the field's offset against its own
        // types at load.
        unsafe {
            let task = bpf_get_current_task_btf() as u64;
            core::ptr::read_volatile(task.wrapping_add(constant::task_tgid()) as *const u32)
        }
    }

    #[inline(always)]
    fn read(address: u64) -> Option<u64> {
        Some(kfunc::read(address))
    }
}

/// By helpers alone: programs of kprobe and kretprobe, which work without the kernel's types.
pub struct Untyped;

impl Kernel for Untyped {
    #[inline(always)]
    fn blocks() -> Option<u64> {
        maps::blocks()
    }

    #[inline(always)]
    fn block() -> Option<*mut Block> {
        let (blocks, cpu) = (maps::blocks()?, maps::cpu());
        (u64::from(cpu) < constant::cpus()).then(|| maps::block_of(blocks, cpu))
    }

    #[inline(always)]
    fn tgid() -> u32 {
        (bpf_get_current_pid_tgid() >> 32) as u32
    }

    #[inline(always)]
    fn read(address: u64) -> Option<u64> {
        // SAFETY: the helper checks the address and fails instead of faulting.
        unsafe { bpf_probe_read_kernel(address as *const u64) }.ok()
    }
}
