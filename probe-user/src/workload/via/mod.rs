//! Ways to the same answer: GET_PA, and the page tables as `/proc/self/pagemap` shows them.

mod get_pa;
mod pagemap;
mod pagemap_bulk;

use rustix::io::Errno;

use super::iommufd::{Answer, Iommufd, Query};
use super::quantity::PageSize;

pub use get_pa::GetPa;
pub use pagemap::Pagemap;
pub use pagemap_bulk::PagemapBulk;

/// A way, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    GetPa,
    Pagemap,
    PagemapBulk,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::GetPa, Self::Pagemap, Self::PagemapBulk];

    pub fn name(self) -> &'static str {
        match self {
            Self::GetPa => "get-pa",
            Self::Pagemap => "pagemap",
            Self::PagemapBulk => "pagemap-bulk",
        }
    }

    /// For the help and the tables.
    pub fn about(self) -> &'static str {
        match self {
            Self::GetPa => "the ioctl",
            Self::Pagemap => "open, a pread for each page, close: as DPDK, SPDK and xNVMe look up",
            Self::PagemapBulk => "the file held open, one pread for all pages of a query",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }
}

/// Something that answers queries; one per thread.
pub trait Via {
    /// `offset`: of the query's IOVA in the buffer.
    fn ask(&mut self, query: Query, offset: u64) -> Result<Answer, Errno>;
}

/// What all ways need.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    pub iommufd: &'a Iommufd,
    /// Address and bytes of the buffer in this process.
    pub address: u64,
    pub size: u64,
    pub page: PageSize,
}

/// Whole pages that a query of `length` bytes at `offset` touches, without leaving the buffer.
fn pages(means: &Means<'_>, offset: u64, length: u64) -> u64 {
    let last = offset.saturating_add(length).min(means.size);
    last.div_ceil(means.page.0) - offset / means.page.0
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::iommufd::IoasId;
    use super::super::quantity::Iova;
    use super::super::region::{Pages, Region};
    use super::*;

    #[test]
    fn both_ways_through_pagemap_agree() {
        let page = PageSize::of_system();
        let len = usize::try_from(page.0).expect("fits");
        let mut region = Region::map(16 * len, len, Pages::Base).expect("map");
        region.touch_all(len);
        let iommufd = Iommufd::open(Path::new("/dev/null")).expect("open");
        let means = Means { iommufd: &iommufd, address: region.address() as u64, size: 16 * page.0, page };
        let (mut single, mut bulk) = (Pagemap::new(means), PagemapBulk::open(means).expect("readable"));
        for (offset, length) in
            [(0, 4096), (5 * page.0 + 77, u64::MAX), (3, 2 * page.0), (15 * page.0, 1 << 20)]
        {
            let query = Query { ioas: IoasId(0), flags: 0, iova: Iova(offset), length };
            let (one, all) = (single.ask(query, offset), bulk.ask(query, offset));
            assert_eq!(one, all);
            // Frame numbers may be hidden from this user: then both refuse.
            if let Ok(answer) = one {
                assert!(answer.length > 0 && answer.length <= length);
            }
        }
        assert_eq!(
            GetPa(&iommufd).ask(Query { ioas: IoasId(0), flags: 0, iova: Iova(0), length: 1 }, 0),
            Err(Errno::NOTTY)
        );
    }
}
