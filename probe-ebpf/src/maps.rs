//! Every map and load-time constant. Names and sizes come from `probe_common::wire`.

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, HashMap},
};
use probe_common::wire::{Block, Control, DispatchOpen, GetPhysOpen, OPEN_CALLS, OPEN_SLOTS};

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

#[map]
static CONTROL: Array<Control> = Array::with_max_entries(1, 0);

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

/// Whether calls that begin now are counted.
#[inline(always)]
pub fn armed() -> bool {
    match CONTROL.get(0) {
        // SAFETY: the element is valid; user space writes the word whole, by a map update.
        Some(control) => unsafe { core::ptr::read_volatile(&raw const control.armed) != 0 },
        None => false,
    }
}

/// The current CPU's block. Written by this CPU alone, each word by one program alone (see
/// `probe_common::wire`).
#[inline(always)]
pub fn block() -> Option<*mut Block> {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    BLOCKS.get_ptr_mut(cpu)
}
