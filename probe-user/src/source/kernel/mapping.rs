//! The counters' memory, shared read-only with the kernel.

use std::ffi::c_void;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{ptr, slice};

use probe_common::wire::Block;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::SourceError;
use super::load::{Programs, possible_cpus};

const BLOCK_WORDS: usize = size_of::<Block>() / size_of::<u64>();

/// The blocks of all possible CPUs.
pub(super) struct Mapping {
    start: *mut c_void,
    cpus: usize,
}

// SAFETY: the mapping is only read, through atomics.
#[allow(unsafe_code, reason = "a raw pointer to memory that may be read from any thread")]
unsafe impl Send for Mapping {}

impl Mapping {
    pub(super) fn new(programs: &Programs) -> Result<Self, SourceError> {
        let cpus = possible_cpus()? as usize;
        let fd = programs.blocks()?.fd().as_fd();
        let (protection, flags) = (ProtFlags::READ, MapFlags::SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice.
        #[allow(unsafe_code, reason = "mmap")]
        let start = unsafe { mmap(ptr::null_mut(), cpus * size_of::<Block>(), protection, flags, fd, 0) }
            .map_err(|error| SourceError::Mmap(error.into()))?;
        Ok(Self { start, cpus })
    }

    pub(super) fn cpus(&self) -> usize {
        self.cpus
    }

    /// Every CPU's block, word by word: each 64-bit word is whole, the words are not of one instant.
    pub(super) fn copy(&self) -> Vec<Vec<u64>> {
        (0..self.cpus)
            .map(|cpu| self.block(cpu).iter().map(|word| word.load(Ordering::Relaxed)).collect())
            .collect()
    }

    fn block(&self, cpu: usize) -> &[AtomicU64] {
        // SAFETY: within the mapping, which holds `cpus` blocks; aligned, since a block is a whole
        // number of words; a word may be read atomically while the kernel writes it.
        #[allow(unsafe_code, reason = "memory shared with the kernel")]
        unsafe {
            slice::from_raw_parts(self.start.cast::<AtomicU64>().add(cpu * BLOCK_WORDS), BLOCK_WORDS)
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; `block`'s references end before `self`.
        #[allow(unsafe_code, reason = "munmap")]
        // Nothing can be done about a failure, and the mapping ends with the process.
        let _ = unsafe { munmap(self.start, self.cpus * size_of::<Block>()) };
    }
}
