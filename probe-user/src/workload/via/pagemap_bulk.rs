//! The cheap way through pagemap: the file stays open, and one read fetches the entries of all pages that
//! a query may cover.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;

use super::super::iommufd::{Answer, Query};
use super::super::pagemap::{ENTRY, PAGEMAP, frame_of};
use super::super::quantity::PhysAddr;
use super::pagemap::errno;
use super::{Means, Via, pages};

pub struct PagemapBulk<'a> {
    means: Means<'a>,
    file: File,
    /// Entries as read; as large as the longest query so far.
    bytes: Vec<u8>,
}

impl<'a> PagemapBulk<'a> {
    pub fn open(means: Means<'a>) -> io::Result<Self> {
        Ok(Self { means, file: File::open(PAGEMAP)?, bytes: Vec::new() })
    }
}

impl Via for PagemapBulk<'_> {
    fn ask(&mut self, query: Query, offset: u64) -> Result<Answer, Errno> {
        let page = self.means.page.0;
        let most = usize::try_from(pages(&self.means, offset, query.length)).map_err(|_| Errno::OVERFLOW)?;
        let first = (self.means.address + offset) / page;
        if self.bytes.len() < most * ENTRY {
            self.bytes.resize(most * ENTRY, 0);
        }
        let bytes = &mut self.bytes[..most * ENTRY];
        self.file.read_exact_at(bytes, first * ENTRY as u64).map_err(|error| errno(&error))?;
        let mut frames =
            bytes.as_chunks::<ENTRY>().0.iter().map(|entry| frame_of(u64::from_ne_bytes(*entry)));
        let start = frames.next().ok_or(Errno::INVAL)??;
        let mut found = 1;
        for frame in frames {
            if frame? != start + found {
                break;
            }
            found += 1;
        }
        let inside = offset % page;
        let length = (found * page - inside).min(query.length);
        Ok(Answer { phys: PhysAddr(start * page + inside), length })
    }
}
