//! The buffer that gets mapped: the kinds of memory there are, and how much may be pinned.
//!
//! Changes no system setting: missing huge pages are reported, not reserved. What a kind really came out
//! as is looked up in the page tables ([`super::shape`]), not believed.

mod alternating;
mod anon;
mod contiguous;
mod hugetlb;
mod hugetlb_1g;
mod limits;
mod memfd;
mod shuffled;
mod thp;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub use limits::{MemInfo, Pool};

use super::quantity::{Bytes, PageSize};
use super::region::Region;

/// A kind of memory. A new one is a file and a line in [`KINDS`].
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    /// For the help.
    pub about: &'static str,
    /// Another name of the same.
    pub alias: Option<&'static str>,
    unit: Unit,
    build: fn(&Order) -> io::Result<Buffer>,
}

/// Every kind.
pub const KINDS: &[&Kind] = &[
    &anon::KIND,
    &contiguous::KIND,
    &shuffled::KIND,
    &alternating::KIND,
    &thp::KIND,
    &hugetlb::KIND,
    &hugetlb_1g::KIND,
    &memfd::KIND,
];

/// What a buffer's size is a multiple of, and where its pages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Base pages.
    Base,
    /// What the kernel can map as one transparent huge page.
    Transparent,
    /// The pool of default huge pages.
    Pool,
    /// The pool of 1 GiB pages.
    GiantPool,
}

/// A kind, chosen.
#[derive(Debug, Clone, Copy)]
pub struct Memory(&'static Kind);

impl PartialEq for Memory {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

/// What to build.
struct Order {
    len: usize,
    page: usize,
    /// Bytes of one unit of the kind.
    unit: usize,
    seed: u64,
}

/// A built buffer, every page of it present.
pub struct Buffer {
    pub region: Region,
    /// The file behind it, where it is mapped as one (`IOAS_MAP_FILE`).
    pub file: Option<OwnedFd>,
}

#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: no `{field}` line", path.display())]
    Field { path: PathBuf, field: &'static str },
    #[error("making {size} of {memory} memory")]
    Map { memory: &'static str, size: Bytes, source: io::Error },
    #[error("{0} does not fit this process's address space")]
    TooLarge(Bytes),
    /// The pool of huge pages is too small.
    #[error("{needed} huge pages of {page} are needed, {free} are free")]
    HugePages { needed: u64, free: u64, page: Bytes, pool_wanted: u64, knob: PathBuf },
    #[error("{size} would be pinned, the limit is {limit}")]
    PinLimit { size: Bytes, limit: Bytes },
}

impl Memory {
    /// What is taken where nothing is asked for.
    pub const ANON: Self = Self(&anon::KIND);

    /// Huge pages of the default size.
    pub const HUGETLB: Self = Self(&hugetlb::KIND);

    pub fn named(name: &str) -> Option<Self> {
        KINDS.iter().find(|kind| kind.name == name || kind.alias == Some(name)).map(|kind| Self(kind))
    }

    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Bytes that the size is rounded up to.
    pub fn unit(self, info: &MemInfo, page: PageSize) -> u64 {
        match self.0.unit {
            Unit::Base => page.0,
            Unit::Transparent | Unit::Pool => info.huge_page.0.max(page.0),
            Unit::GiantPool => hugetlb_1g::SIZE,
        }
    }

    /// Whether its pages come from a pool that was set aside before, and are not taken out of `MemAvailable`.
    pub fn is_pooled(self) -> bool {
        matches!(self.0.unit, Unit::Pool | Unit::GiantPool)
    }

    /// Whether its pool has `size` bytes free.
    pub fn check_pool(self, size: Bytes, info: &MemInfo) -> Result<(), MemoryError> {
        match self.0.unit {
            Unit::Pool => info.pool.check(size),
            Unit::GiantPool => info.giant_pool.check(size),
            Unit::Base | Unit::Transparent => Ok(()),
        }
    }

    /// Build `size` bytes, a multiple of the unit. Limits are checked before ([`limits::check`]).
    pub fn build(
        self,
        size: Bytes,
        info: &MemInfo,
        page: PageSize,
        seed: u64,
    ) -> Result<Buffer, MemoryError> {
        self.check_pool(size, info)?;
        let narrow = |bytes: u64| Bytes(bytes).to_usize().ok_or(MemoryError::TooLarge(size));
        let order =
            Order { len: narrow(size.0)?, page: narrow(page.0)?, unit: narrow(self.unit(info, page))?, seed };
        let built = (self.0.build)(&order);
        built.map_err(|source| MemoryError::Map { memory: self.name(), size, source })
    }
}

impl Buffer {
    fn of(region: Region) -> Self {
        Self { region, file: None }
    }

    pub fn size(&self) -> Bytes {
        Bytes(self.region.len() as u64)
    }
}

/// May this much be pinned at once? `sizes`: each with whether it comes from a pool.
pub fn check_limit(sizes: &[(Bytes, bool)], limit: Option<Bytes>, info: &MemInfo) -> Result<(), MemoryError> {
    limits::check(sizes, limit, info)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: PageSize = PageSize(4096);

    #[test]
    fn names_are_unique_and_find_their_kind() {
        let mut names: Vec<&str> =
            KINDS.iter().flat_map(|kind| [Some(kind.name), kind.alias]).flatten().collect();
        for &name in &names {
            assert!(
                Memory::named(name)
                    .is_some_and(|memory| memory.0.name == name || memory.0.alias == Some(name))
            );
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KINDS.len() + 1);
        assert!(Memory::named("gold").is_none());
    }

    #[test]
    fn kinds_of_base_pages_can_be_built_anywhere() {
        let info = limits::tests::info();
        for name in ["anon", "shuffled", "alternating", "memfd"] {
            let memory = Memory::named(name).expect("known");
            let buffer = memory.build(Bytes(5 * PAGE.0), &info, PAGE, 1).expect(name);
            assert_eq!(buffer.size(), Bytes(5 * PAGE.0), "{name}");
            assert_eq!(buffer.file.is_some(), name == "memfd");
        }
    }
}
