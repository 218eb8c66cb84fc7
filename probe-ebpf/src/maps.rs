//! Every map. Names and sizes come from `probe_common::wire`.

use core::arch::asm;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_WRONLY},
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, HashMap, RingBuf},
};
use probe_common::wire::{
    Block, CALLER_ROWS, Caller, CallerKey, DispatchOpen, GetPhysOpen, LockBlock, OPEN_CALLS, OPEN_SLOTS,
    Shared, Wait,
};

/// One element that holds a block for each possible CPU: user space makes it that long before load. A map
/// of one element has an address that the loader can give to programs, where a look-up costs ten
/// instructions.
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

/// What all CPUs share.
#[map]
static SHARED: Array<Shared> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Slots of callers. Its keys hold kernel pointers: the kernel lets user space write it, not read it.
#[map]
pub static SLOTS: HashMap<CallerKey, u32> = HashMap::with_max_entries(CALLER_ROWS as u32, BPF_F_WRONLY);

/// Callers by [`caller_row`](probe_common::wire::caller_row).
#[map]
pub static CALLERS: Array<Caller> = Array::with_max_entries(CALLER_ROWS as u32, BPF_F_MMAPABLE);

/// Single calls; user space chooses its size before load.
#[map]
pub static CALLS: RingBuf = RingBuf::with_byte_size(1 << 12, 0);

/// What threads inside the dispatch waited for; user space makes it larger before load, and one per
/// possible CPU of the next, where lock waits are recorded.
#[map]
pub static WAITS: Array<Wait> = Array::with_max_entries(1, 0);

/// Lock waits, one element per CPU.
#[map]
static LOCK_BLOCKS: Array<LockBlock> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The current CPU's number.
#[inline(always)]
pub fn cpu() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_smp_processor_id() }
}

/// The address of the first block, by a look-up.
#[inline(always)]
pub fn blocks() -> Option<u64> {
    BLOCKS.get_ptr_mut(0).map(|block| block as u64)
}

/// A CPU's block, from the address of the first one. Written by that CPU alone but for
/// [`crate::callers::forget`], each word by one program alone (see `probe_common::wire`).
#[inline(always)]
pub fn block_of(blocks: u64, cpu: u32) -> *mut Block {
    (blocks + u64::from(cpu) * size_of::<Block>() as u64) as *mut Block
}

/// What all CPUs share.
#[inline(always)]
pub fn shared() -> Option<*mut Shared> {
    SHARED.get_ptr_mut(0)
}

/// The current CPU's lock waits.
#[inline(always)]
pub fn lock_block() -> Option<*mut LockBlock> {
    LOCK_BLOCKS.get_ptr_mut(cpu())
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
