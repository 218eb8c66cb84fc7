//! Where the pages of a buffer really are, from `/proc/self/pagemap`, and the runs that follow from it:
//! an answer to GET_PA's question that does not come from iommufd.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;

use super::quantity::{PageSize, PhysAddr};
use super::region::Region;

pub(super) const PAGEMAP: &str = "/proc/self/pagemap";
/// `Documentation/admin-guide/mm/pagemap.rst`: bit 63 "page present", bits 0 to 54 the frame number.
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;
/// One `u64` per page.
pub(super) const ENTRY: usize = size_of::<u64>();

#[derive(Debug, thiserror::Error)]
pub enum PagemapError {
    #[error("reading {PAGEMAP}")]
    Read(#[from] io::Error),
    #[error("{PAGEMAP}: page {0} of the buffer is not present although it is pinned")]
    NotPresent(usize),
    /// Frame numbers read as zero.
    #[error("{PAGEMAP} hides the frame numbers")]
    Hidden,
}

/// The frame number in an entry: `ENOENT` where no page is present, `EPERM` where the number is hidden.
pub(super) fn frame_of(entry: u64) -> Result<u64, Errno> {
    match (entry & PRESENT, entry & FRAME) {
        (0, _) => Err(Errno::NOENT),
        (_, 0) => Err(Errno::PERM),
        (_, frame) => Ok(frame),
    }
}

/// The frames behind a buffer, page by page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames {
    page: PageSize,
    numbers: Vec<u64>,
    /// For each page, the index after the last page of its contiguous run.
    run_end: Vec<usize>,
}

/// The frames of `region`. Its pages must be pinned: else they may move afterwards.
pub fn read(region: &Region, page: PageSize) -> Result<Frames, PagemapError> {
    let page_len = usize::try_from(page.0).map_err(io::Error::other)?;
    let mut bytes = vec![0; region.len() / page_len * ENTRY];
    let first = region.address() / page_len * ENTRY;
    File::open(PAGEMAP)?.read_exact_at(&mut bytes, first as u64)?;
    let entries = bytes.as_chunks::<ENTRY>().0;
    decode(entries.iter().map(|entry| u64::from_ne_bytes(*entry)), page)
}

fn decode(entries: impl Iterator<Item = u64>, page: PageSize) -> Result<Frames, PagemapError> {
    let mut numbers = Vec::new();
    for (index, entry) in entries.enumerate() {
        if entry & PRESENT == 0 {
            return Err(PagemapError::NotPresent(index));
        }
        numbers.push(entry & FRAME);
    }
    // Frame 0 is never given to a process; a kernel that hides frames shows 0 for all.
    if numbers.contains(&0) {
        return Err(PagemapError::Hidden);
    }
    Ok(Frames::new(numbers, page))
}

impl Frames {
    pub(super) fn new(numbers: Vec<u64>, page: PageSize) -> Self {
        let mut run_end = vec![numbers.len(); numbers.len()];
        for index in (1..numbers.len()).rev() {
            run_end[index - 1] =
                if numbers[index] == numbers[index - 1] + 1 { run_end[index] } else { index };
        }
        Self { page, numbers, run_end }
    }

    pub fn page(&self) -> PageSize {
        self.page
    }

    /// Lengths of the runs in bytes, in the order of their addresses.
    pub fn runs(&self) -> Vec<u64> {
        let starts = std::iter::successors(Some(0), |&index| self.run_end.get(index).copied());
        starts
            .take_while(|&index| index < self.run_end.len())
            .map(|index| (self.run_end[index] - index) as u64 * self.page.0)
            .collect()
    }

    /// The physical address of `offset` and the contiguous bytes from there on; `None` past the end.
    pub fn run_at(&self, offset: u64) -> Option<(PhysAddr, u64)> {
        let index = usize::try_from(offset / self.page.0).ok()?;
        let frame = *self.numbers.get(index)?;
        let end = *self.run_end.get(index)? as u64 * self.page.0;
        Some((PhysAddr(frame * self.page.0 + offset % self.page.0), end - offset))
    }
}

#[cfg(test)]
mod tests {
    use super::super::region::Pages;
    use super::*;

    const PAGE: PageSize = PageSize(4096);

    #[test]
    fn runs_end_at_gaps_steps_back_and_the_end() {
        let frames = Frames::new(vec![10, 11, 12, 20, 19, 18, 19], PAGE);
        let pages = |offset| frames.run_at(offset).map(|(phys, length)| (phys.0 / 4096, length / 4096));
        assert_eq!(pages(0), Some((10, 3)));
        assert_eq!(pages(4096), Some((11, 2)));
        assert_eq!(pages(2 * 4096), Some((12, 1)));
        assert_eq!(pages(3 * 4096), Some((20, 1)));
        assert_eq!(pages(4 * 4096), Some((19, 1)));
        assert_eq!(pages(5 * 4096), Some((18, 2)));
        assert_eq!(pages(7 * 4096), None);
        assert_eq!(frames.runs(), [3, 1, 1, 2].map(|pages| pages * 4096));
    }

    #[test]
    fn inside_a_page_address_and_run_shift_alike() {
        let frames = Frames::new(vec![7, 8], PAGE);
        assert_eq!(frames.run_at(100), Some((PhysAddr(7 * 4096 + 100), 8192 - 100)));
        assert_eq!(frames.run_at(8191), Some((PhysAddr(9 * 4096 - 1), 1)));
    }

    #[test]
    fn other_page_sizes_work_alike() {
        let frames = Frames::new(vec![7, 8], PageSize(65536));
        assert_eq!(frames.run_at(65536), Some((PhysAddr(8 * 65536), 65536)));
    }

    #[test]
    fn entries_must_be_present_and_visible() {
        assert!(matches!(decode([PRESENT | 5, 0].into_iter(), PAGE), Err(PagemapError::NotPresent(1))));
        assert!(matches!(decode([PRESENT, PRESENT].into_iter(), PAGE), Err(PagemapError::Hidden)));
        // Soft-dirty (55) and exclusive (56) are not part of the frame number.
        let frames = decode([PRESENT | (3 << 55) | 5].into_iter(), PAGE).expect("good");
        assert_eq!(frames, Frames::new(vec![5], PAGE));
        assert!(Frames::new(Vec::new(), PAGE).run_at(0).is_none());
    }

    #[test]
    fn a_touched_buffer_of_this_process_is_present_or_hidden() {
        let page = PageSize::of_system();
        let len = usize::try_from(page.0).expect("fits");
        let mut region = Region::map(2 * len, len, Pages::Base).expect("map");
        region.touch(0);
        region.touch(len);
        match read(&region, page) {
            Ok(frames) => assert!(frames.run_at(page.0).is_some()),
            Err(error) => assert!(matches!(error, PagemapError::Hidden), "{error}"),
        }
    }
}
