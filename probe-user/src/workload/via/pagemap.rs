//! A lookup as DPDK's `rte_mem_virt2phy` does it: open, read the page's entry, close. To know a run, the
//! entry of each further page is read, until one is not next to the one before.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;

use super::super::iommufd::{Answer, Query};
use super::super::pagemap::{ENTRY, PAGEMAP, frame_of};
use super::super::quantity::PhysAddr;
use super::{Means, Via, pages};

pub struct Pagemap<'a> {
    means: Means<'a>,
}

impl<'a> Pagemap<'a> {
    pub fn new(means: Means<'a>) -> Self {
        Self { means }
    }
}

impl Via for Pagemap<'_> {
    fn ask(&mut self, query: Query, offset: u64) -> Result<Answer, Errno> {
        let page = self.means.page.0;
        let file = File::open(PAGEMAP).map_err(|error| errno(&error))?;
        let first = (self.means.address + offset) / page;
        let frame = |index: u64| {
            let mut entry = [0; ENTRY];
            file.read_exact_at(&mut entry, index * ENTRY as u64).map_err(|error| errno(&error))?;
            frame_of(u64::from_ne_bytes(entry))
        };
        let start = frame(first)?;
        let most = pages(&self.means, offset, query.length);
        let mut found = 1;
        while found < most && frame(first + found)? == start + found {
            found += 1;
        }
        let inside = offset % page;
        let length = (found * page - inside).min(query.length);
        Ok(Answer { phys: PhysAddr(start * page + inside), length })
    }
}

pub(super) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
