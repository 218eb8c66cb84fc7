//! Arrays of the BPF side, shared with the kernel.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::{ptr, slice};

use aya::maps::MapData;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use zerocopy::{FromBytes, IntoBytes};

use super::SourceError;

/// The elements of an array map, each a whole number of 64-bit words.
pub(super) struct Mapping<T> {
    start: *mut c_void,
    elements: usize,
    kind: PhantomData<T>,
}

// SAFETY: the mapping is only accessed through atomics.
#[allow(unsafe_code, reason = "a raw pointer to memory that may be read from any thread")]
unsafe impl<T> Send for Mapping<T> {}

impl<T: FromBytes> Mapping<T> {
    const WORDS: usize = {
        assert!(size_of::<T>().is_multiple_of(size_of::<u64>()));
        size_of::<T>() / size_of::<u64>()
    };

    /// Map an array of `elements` elements of type `T`, made with `BPF_F_MMAPABLE`.
    pub(super) fn new(map: &MapData, elements: u32) -> Result<Self, SourceError> {
        Self::of(map.fd().as_fd(), elements)
    }

    /// Map what a descriptor stands for.
    pub(super) fn of(descriptor: BorrowedFd<'_>, elements: u32) -> Result<Self, SourceError> {
        let elements = elements as usize;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice.
        #[allow(unsafe_code, reason = "mmap")]
        let start =
            unsafe { mmap(ptr::null_mut(), elements * size_of::<T>(), protection, flags, descriptor, 0) }
                .map_err(|error| SourceError::Mmap(error.into()))?;
        Ok(Self { start, elements, kind: PhantomData })
    }

    pub(super) fn elements(&self) -> usize {
        self.elements
    }

    /// Words of an element from a byte offset on, at most `count` and none beyond the element. Each is read
    /// whole; together they are not of one instant.
    pub(super) fn words_of(&self, element: usize, offset: usize, count: usize) -> &[AtomicU64] {
        let start = element * Self::WORDS + offset / size_of::<u64>();
        let end = ((element + 1) * Self::WORDS).min(start + count);
        self.words().get(start..end).unwrap_or_default()
    }

    /// Read words of an element from a byte offset on. Those beyond the element stay as they are.
    pub(super) fn read(&self, element: usize, offset: usize, into: &mut [u64]) {
        let words = self.words_of(element, offset, into.len());
        for (into, word) in into.iter_mut().zip(words) {
            *into = word.load(Ordering::Relaxed);
        }
    }

    /// A part of an element at a byte offset: a whole number of words.
    pub(super) fn part<P: FromBytes + IntoBytes>(&self, element: usize, offset: usize) -> P {
        let mut part = P::new_zeroed();
        let words = self.words_of(element, offset, size_of::<P>() / size_of::<u64>());
        for (into, word) in part.as_mut_bytes().chunks_exact_mut(size_of::<u64>()).zip(words) {
            into.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        part
    }

    /// Elements whose first word is not 0.
    pub(super) fn count_first_words(&self) -> u64 {
        let used = |element: &&[AtomicU64]| element[0].load(Ordering::Relaxed) != 0;
        self.words().chunks_exact(Self::WORDS).filter(used).count() as u64
    }

    /// Write the first word of every element; it is the user's own to write.
    pub(super) fn store_first_words(&self, value: u64) {
        for element in self.words().chunks_exact(Self::WORDS) {
            element[0].store(value, Ordering::Release);
        }
    }

    /// Write half a word of an element at a byte offset; it is the user's own to write.
    pub(super) fn store_half(&self, element: usize, offset: usize, value: u32) {
        if offset + size_of::<u32>() > size_of::<T>() || element >= self.elements {
            return;
        }
        let place = (element * size_of::<T>() + offset) / size_of::<u32>();
        // SAFETY: in the mapping, which is page-aligned; a word may be written atomically while the kernel
        // reads it.
        #[allow(unsafe_code, reason = "memory shared with the kernel")]
        let half = unsafe { &*self.start.cast::<AtomicU32>().add(place) };
        half.store(value, Ordering::Relaxed);
    }

    /// The same of one element.
    pub(super) fn store_first_word(&self, element: usize, value: u64) {
        for word in self.words_of(element, 0, 1) {
            word.store(value, Ordering::Release);
        }
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the whole mapping, which is page-aligned; a word may be read atomically while the
        // kernel writes it.
        #[allow(unsafe_code, reason = "memory shared with the kernel")]
        unsafe {
            slice::from_raw_parts(self.start.cast::<AtomicU64>(), self.elements * Self::WORDS)
        }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; no reference into it outlives `self`.
        #[allow(unsafe_code, reason = "munmap")]
        // Nothing can be done about a failure, and the mapping ends with the process.
        let _ = unsafe { munmap(self.start, self.elements * size_of::<T>()) };
    }
}
