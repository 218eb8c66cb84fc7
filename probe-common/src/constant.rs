//! Constants that programs are given before they are loaded.
//!
//! A program asks for one with a 64-bit immediate load of its [`placeholder`](Constant::placeholder); user
//! space writes the value over it in the object. To the verifier it is a constant, so branches that it
//! decides vanish; at run time it is one instruction. aya-ebpf's globals would be a load more each, and
//! offsets in kernel structures, which aya 0.14 cannot relocate, come the same way.

/// One constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Constant {
    /// log2 of the kernel's page size.
    PageShift,
    /// The kernel's page size less 1.
    PageMask,
    /// Whether `*length` at entry is a cap (see [`crate::wire::Stop`]).
    LengthIsCap,
    /// Possible CPUs: elements of [`crate::wire::BLOCKS_MAP`].
    Cpus,
    /// Thread whose calls are canaries.
    CanaryThread,
    /// One in so many calls of a site on a CPU is taken for a single record; 0: none.
    CallsEvery,
    /// Calls of at least so many ns are taken for single records; 0: none.
    CallsSlower,
    /// Whether single records hold the IOVA.
    IncludeIova,
    /// Whether lock waits are recorded.
    Locks,
    /// Whether the offsets below of iommufd's structures are known.
    HasAreas,
    /// From a `struct io_pagetable` to its `area_itree.rb_root.rb_node`.
    IoptAreaRoot,
    /// From a `struct io_pagetable` to its `iova_rwsem`.
    IoptIovaRwsem,
    /// From a `struct rw_semaphore` to the lock inside it that its waiters may wait for in turn: on `PREEMPT_RT` its
    /// `rwbase.rtmutex`, elsewhere 0.
    RwsemInner,
    /// From a `struct io_pagetable` to the `obj.id` of the `struct iommufd_ioas` around it; negative.
    IoptIoasId,
    /// From the `rb` of a `struct interval_tree_node` to its `start`.
    NodeStart,
    /// From the `rb` of a `struct interval_tree_node` to its `last`.
    NodeLast,
    /// From a `struct rb_node` to its `rb_left`.
    NodeLeft,
    /// From a `struct rb_node` to its `rb_right`.
    NodeRight,
    /// From the `node.rb` of a `struct iopt_area` to its `pages`.
    AreaPages,
    /// From a `struct iopt_pages` to its `mutex`.
    PagesMutex,
    /// From a `struct task_struct` to its `tgid`.
    TaskTgid,
    /// Whether the next two are known.
    HasNames,
    /// From a `struct task_struct` to its `group_leader`.
    TaskLeader,
    /// From a `struct task_struct` to its `comm`.
    TaskComm,
    /// From a `struct task_struct` to its `start_boottime`; 0: not known.
    TaskStarted,
}

/// The upper half of every placeholder: no value that a program would load otherwise.
const MARK: u64 = 0x10fa_5c0e << 32;

impl Constant {
    /// Every constant.
    pub const ALL: [Self; 25] = [
        Self::PageShift,
        Self::PageMask,
        Self::LengthIsCap,
        Self::Cpus,
        Self::CanaryThread,
        Self::CallsEvery,
        Self::CallsSlower,
        Self::IncludeIova,
        Self::Locks,
        Self::HasAreas,
        Self::IoptAreaRoot,
        Self::IoptIovaRwsem,
        Self::RwsemInner,
        Self::IoptIoasId,
        Self::NodeStart,
        Self::NodeLast,
        Self::NodeLeft,
        Self::NodeRight,
        Self::AreaPages,
        Self::PagesMutex,
        Self::TaskTgid,
        Self::HasNames,
        Self::TaskLeader,
        Self::TaskComm,
        Self::TaskStarted,
    ];

    /// The immediate that stands for it in the object.
    #[must_use]
    pub const fn placeholder(self) -> u64 {
        MARK | self as u64
    }

    /// The constant that an immediate stands for.
    #[must_use]
    pub fn of_placeholder(immediate: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|constant| constant.placeholder() == immediate)
    }
}

/// The immediate that stands for the address of the first block, which trampoline programs are given
/// by the loader.
pub const BLOCKS_PLACEHOLDER: u64 = MARK | 0xb10c_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_find_their_constants() {
        for (place, constant) in Constant::ALL.into_iter().enumerate() {
            assert_eq!(constant as usize, place);
            assert_eq!(Constant::of_placeholder(constant.placeholder()), Some(constant));
        }
        assert_eq!(Constant::of_placeholder(BLOCKS_PLACEHOLDER), None);
        assert_eq!(Constant::of_placeholder(0), None);
    }
}
