//! Constants from user space (see `probe_common::constant`).

use core::arch::asm;

use probe_common::constant::{BLOCKS_PLACEHOLDER, Constant};

macro_rules! constants {
    ($($(#[$doc:meta])* $function:ident: $constant:ident;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub fn $function() -> u64 {
            let value: u64;
            // SAFETY: a load of an immediate.
            unsafe {
                asm!(
                    "{0} = {1} ll",
                    out(reg) value,
                    const Constant::$constant.placeholder(),
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
            value
        }
    )*};
}

constants! {
    /// log2 of the page size.
    page_shift: PageShift;
    /// The page size less 1.
    page_mask: PageMask;
    cpus: Cpus;
    canary_thread: CanaryThread;
    calls_every: CallsEvery;
    calls_slower: CallsSlower;
    iopt_area_root: IoptAreaRoot;
    iopt_iova_rwsem: IoptIovaRwsem;
    rwsem_inner: RwsemInner;
    iopt_ioas_id: IoptIoasId;
    node_start: NodeStart;
    node_last: NodeLast;
    node_left: NodeLeft;
    node_right: NodeRight;
    area_pages: AreaPages;
    pages_mutex: PagesMutex;
    task_tgid: TaskTgid;
    task_leader: TaskLeader;
    task_comm: TaskComm;
    task_started: TaskStarted;
}

macro_rules! switches {
    ($($(#[$doc:meta])* $function:ident: $number:ident $constant:ident;)*) => {
        constants! { $($number: $constant;)* }
        $(
            $(#[$doc])*
            #[inline(always)]
            pub fn $function() -> bool {
                $number() != 0
            }
        )*
    };
}

switches! {
    /// Whether `*length` at entry is a cap.
    length_is_cap: length_is_cap_number LengthIsCap;
    include_iova: include_iova_number IncludeIova;
    locks: locks_number Locks;
    has_areas: has_areas_number HasAreas;
    has_names: has_names_number HasNames;
}

/// The address of the first block; trampoline programs only.
#[inline(always)]
pub fn blocks() -> u64 {
    let value: u64;
    // SAFETY: a load of an immediate.
    unsafe {
        asm!(
            "{0} = {1} ll",
            out(reg) value,
            const BLOCKS_PLACEHOLDER,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    value
}
