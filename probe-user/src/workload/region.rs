//! Memory of this process that can be handed to the kernel: mapped, touched, split, unmapped.
//! Owns the `unsafe` of mmap and its relatives; which memory a pattern wants is decided elsewhere.
#![allow(unsafe_code, reason = "mmap has no safe form; every block says why it is sound")]

use std::ffi::c_void;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};

/// `MADV_COLLAPSE` (Linux 6.1), which rustix does not name.
const MADV_COLLAPSE: i32 = 25;

/// What a [`Region`] is made of.
#[derive(Debug, Clone, Copy)]
pub enum Pages<'a> {
    /// Base pages only: transparent huge pages are advised away.
    Base,
    /// Transparent huge pages where the kernel gives them.
    Transparent,
    /// The system's default huge pages, from the reserved pool.
    Huge,
    /// Huge pages of 1 GiB, from their pool.
    Giant,
    /// The pages of a file, from its start.
    File(BorrowedFd<'a>),
}

/// Memory of this process between two guards, so that nothing merges with it; unmapped when dropped.
pub struct Region {
    start: NonNull<u8>,
    len: usize,
    /// The whole reservation, guards included.
    whole: (NonNull<u8>, usize),
}

// SAFETY: the memory belongs to this value alone, and mutation needs `&mut`.
unsafe impl Send for Region {}
// SAFETY: through `&Region` only address and length can be read.
unsafe impl Sync for Region {}

impl Region {
    /// `len` bytes at a multiple of `align`, both multiples of the pages' size.
    pub fn map(len: usize, align: usize, pages: Pages<'_>) -> io::Result<Self> {
        let reserved = len.checked_add(2 * align).ok_or(Errno::NOMEM)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let whole =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), reserved, ProtFlags::empty(), flags)? };
        let whole: NonNull<u8> = NonNull::new(whole.cast()).ok_or(Errno::NOMEM)?;
        // At least one byte of guard before, and one behind.
        let before = (whole.as_ptr().addr() + 1).next_multiple_of(align) - whole.as_ptr().addr();
        // SAFETY: `before` is at most `align`, inside the reservation.
        let start = unsafe { whole.add(before) };
        let region = Self { start, len, whole: (whole, reserved) };
        region.fill(pages)?;
        Ok(region)
    }

    fn fill(&self, pages: Pages<'_>) -> io::Result<()> {
        let at: *mut c_void = self.start.as_ptr().cast();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let fixed = MapFlags::FIXED;
        // SAFETY: the range lies inside our own reservation, which nothing uses yet.
        unsafe {
            match pages {
                Pages::File(file) => {
                    rustix::mm::mmap(at, self.len, access, MapFlags::SHARED | fixed, file, 0)?;
                }
                Pages::Base | Pages::Transparent => {
                    rustix::mm::mmap_anonymous(at, self.len, access, MapFlags::PRIVATE | fixed)?;
                }
                Pages::Huge => {
                    let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | fixed;
                    rustix::mm::mmap_anonymous(at, self.len, access, flags)?;
                }
                Pages::Giant => {
                    let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_1GB | fixed;
                    rustix::mm::mmap_anonymous(at, self.len, access, flags)?;
                }
            }
        }
        match pages {
            Pages::Base => self.advise(Advice::LinuxNoHugepage),
            Pages::Transparent => self.advise(Advice::LinuxHugepage),
            _ => Ok(()),
        }
    }

    fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: the range is this region; the advice changes how it is backed, not its content.
        match unsafe { rustix::mm::madvise(self.start.as_ptr().cast(), self.len, advice) } {
            // A kernel without transparent huge pages knows no such advice, and needs none.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Ask the kernel to make huge pages of what is there, now. Whether it did, the page tables say.
    pub fn collapse(&mut self) {
        // SAFETY: the range is this region; only the pages behind it change, not the content.
        let _ = unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, MADV_COLLAPSE) };
    }

    /// Have the huge page around `offset` mapped by base pages: the memory stays where it is. A change
    /// of access inside a huge page splits its mapping (`__split_huge_pmd`, Linux 7.3).
    pub fn split(&mut self, offset: usize, page: usize) -> io::Result<()> {
        if offset.checked_add(page).is_none_or(|end| end > self.len) {
            return Err(Errno::INVAL.into());
        }
        // SAFETY: the page lies inside this region, which is not borrowed; access is restored at once.
        unsafe {
            let at = self.start.add(offset).as_ptr().cast();
            rustix::mm::mprotect(at, page, MprotectFlags::READ)?;
            rustix::mm::mprotect(at, page, MprotectFlags::READ | MprotectFlags::WRITE)?;
        }
        Ok(())
    }

    pub fn address(&self) -> usize {
        self.start.as_ptr().addr()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing in it; `mmap` refuses that, so never.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Write one byte so that the page at `offset` exists. Beyond the end it does nothing.
    pub fn touch(&mut self, offset: usize) {
        if offset < self.len {
            // SAFETY: inside the mapping, which this value alone owns; volatile keeps the store.
            unsafe { self.start.add(offset).write_volatile(1) };
        }
    }

    /// Touch every page, in ascending order.
    pub fn touch_all(&mut self, page: usize) {
        (0..self.len).step_by(page).for_each(|offset| self.touch(offset));
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let (whole, reserved) = self.whole;
        // SAFETY: address and length come from the mmap in `map`, and nothing borrows the memory.
        // A failure leaves address space behind that the process's end frees.
        let _ = unsafe { rustix::mm::munmap(whole.as_ptr().cast(), reserved) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_aligned_and_can_be_touched_and_not_overrun() {
        let page = rustix::param::page_size();
        for align in [page, 1 << 21] {
            let mut region = Region::map(3 * align, align, Pages::Base).expect("map");
            assert_eq!(region.address() % align, 0);
            region.touch(0);
            region.touch(region.len() - 1);
            region.touch(region.len());
            region.split(page, page).expect("inside");
            region.touch_all(page);
            assert!(region.split(region.len(), page).is_err());
            assert!(!region.is_empty());
        }
    }
}
