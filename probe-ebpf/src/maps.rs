//! Every map and load-time constant. Names and sizes come from `probe_common::wire`.

use core::arch::asm;

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, HashMap},
};
use probe_common::wire::{Block, DispatchOpen, GetPhysOpen, OPEN_CALLS, OPEN_SLOTS};

/// log2 of the kernel's page size; set by user space before load.
#[unsafe(no_mangle)]
static PAGE_SHIFT: Global<u8> = Global::new(12);

/// Whether `*length` at the entry of `iopt_get_phys` is a cap; set by user space before load from
/// the ABI it found.
#[unsafe(no_mangle)]
static LENGTH_IS_CAP: Global<u8> = Global::new(1);

/// One element per possible CPU; user space sets the number before load.
#[map]
static BLOCKS: Array<Block> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Open calls of the dispatch site (see [`crate::open`]).
#[map]
pub static DISPATCH_OPEN: Array<DispatchOpen> = Array::with_max_entries(OPEN_SLOTS, BPF_F_MMAPABLE);

/// Open calls of the `get_phys` site.
#[map]
pub static GET_PHYS_OPEN: Array<GetPhysOpen> = Array::with_max_entries(OPEN_SLOTS, BPF_F_MMAPABLE);

/// Caps that a session's cookie cannot hold, by thread.
#[map]
pub static CAPS: HashMap<u64, u64> = HashMap::with_max_entries(OPEN_CALLS, 0);

/// log2 of the page size.
#[inline(always)]
pub fn page_shift() -> u64 {
    // Masked so that the verifier and LLVM know the shift is in range.
    u64::from(PAGE_SHIFT.load() & 31)
}

/// Whether `*length` at entry is a cap.
#[inline(always)]
pub fn length_is_cap() -> bool {
    LENGTH_IS_CAP.load() != 0
}

/// The current CPU's block. Written by this CPU alone, each word by one program alone (see
/// `probe_common::wire`).
#[inline(always)]
pub fn block() -> Option<*mut Block> {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    BLOCKS.get_ptr_mut(cpu)
}

/// The current CPU's block, if calls that begin now are counted.
#[inline(always)]
pub fn armed_block() -> Option<*mut Block> {
    let block = block()?;
    // SAFETY: a valid word; user space writes it whole.
    (unsafe { core::ptr::read_volatile(&raw const (*block).armed) } != 0).then_some(block)
}

/// The same pointer, as one that the compiler knows nothing of. It then reaches the fields by short
/// offsets instead of adding a long one to the block's address for each.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block, reason = "the pointer is moved, not followed")]
pub fn near<T>(mut pointer: *mut T) -> *mut T {
    // SAFETY: a move onto itself. No instruction at all would give two lines of source one place, which
    // the kernel refuses (check_btf_line, kernel/bpf/verifier.c, Linux 7.3).
    unsafe { asm!("{0} = {0}", inout(reg) pointer, options(pure, nomem, nostack, preserves_flags)) };
    pointer
}
