//! The buffer that gets mapped: what it is made of, and how much may be pinned.
//!
//! Changes no system setting: missing huge pages are reported, not reserved.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::iommufd::{Pages, Region};
use super::quantity::{Bytes, PageSize};

/// Seed of the shuffled fault order: fixed, so that runs repeat.
const SHUFFLE_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// What the mapped buffer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Memory {
    /// Base pages faulted in ascending order; as contiguous as the kernel's allocator makes them
    Anon,
    /// Huge pages of the default size, from the reserved pool
    Hugetlb,
    /// Base pages faulted in shuffled order, so that neighbours are rarely physically adjacent
    Fragmented,
}

/// Memory facts of the machine, from `/proc/meminfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemInfo {
    pub available: Bytes,
    pub huge_page: Bytes,
    pub huge_total: u64,
    /// Free and not promised to another mapping.
    pub huge_free: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: no `{field}` line", path.display())]
    Field { path: PathBuf, field: &'static str },
    #[error("mapping {size} of {} memory", memory.name())]
    Map { memory: Memory, size: Bytes, source: io::Error },
    #[error("{0} does not fit this process's address space")]
    TooLarge(Bytes),
    /// The pool of huge pages is too small.
    #[error("{needed} huge pages of {huge_page} are needed, {free} are free")]
    HugePages { needed: u64, free: u64, huge_page: Bytes, pool_wanted: u64 },
    #[error("{size} would be pinned, the limit is {limit}")]
    PinLimit { size: Bytes, limit: Bytes },
}

impl MemInfo {
    /// Read `proc/meminfo` under `root`.
    pub fn read(root: &Path) -> Result<Self, MemoryError> {
        let path = root.join("proc/meminfo");
        let text =
            fs::read_to_string(&path).map_err(|source| MemoryError::Read { path: path.clone(), source })?;
        Self::parse(&text).map_err(|field| MemoryError::Field { path, field })
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let field = |name: &'static str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok()).ok_or(name)
        };
        // A kernel without hugetlb prints none of its lines: then there is no pool.
        let huge = |name| field(name).unwrap_or(0);
        Ok(Self {
            available: Bytes(field("MemAvailable")? << 10),
            huge_page: Bytes(huge("Hugepagesize") << 10),
            huge_total: huge("HugePages_Total"),
            huge_free: huge("HugePages_Free").saturating_sub(huge("HugePages_Rsvd")),
        })
    }

    /// How much the driver pins without being told: a quarter of what is available. Root has no
    /// `RLIMIT_MEMLOCK` to stop it (`IOPT_PAGES_ACCOUNT_NONE` with `CAP_IPC_LOCK`, Linux 7.3).
    pub fn default_pin_limit(&self) -> Bytes {
        Bytes(self.available.0 / 4)
    }
}

impl Memory {
    pub fn name(self) -> &'static str {
        match self {
            Self::Anon => "anon",
            Self::Hugetlb => "hugetlb",
            Self::Fragmented => "fragmented",
        }
    }

    /// The unit the buffer's size is rounded up to.
    fn unit(self, info: &MemInfo, page: PageSize) -> u64 {
        match self {
            Self::Hugetlb => info.huge_page.0.max(page.0),
            Self::Anon | Self::Fragmented => page.0,
        }
    }
}

/// Check the limits and build the buffer, every page of it present.
pub fn prepare(
    memory: Memory,
    size: Bytes,
    pin_limit: Option<Bytes>,
    info: &MemInfo,
    page: PageSize,
) -> Result<Region, MemoryError> {
    let unit = memory.unit(info, page);
    let size = size.round_up(unit).ok_or(MemoryError::TooLarge(size))?;
    // Memory of the huge page pool is set aside already: it does not come out of MemAvailable.
    // Other memory beyond that would call for the OOM killer, whatever limit was given.
    let limit = match memory {
        Memory::Hugetlb => pin_limit.unwrap_or(Bytes(u64::MAX)),
        _ => pin_limit.unwrap_or_else(|| info.default_pin_limit()).min(info.available),
    };
    if size > limit {
        return Err(MemoryError::PinLimit { size, limit });
    }
    if memory == Memory::Hugetlb {
        check_pool(size, info)?;
    }
    let len = size.to_usize().ok_or(MemoryError::TooLarge(size))?;
    let step = usize::try_from(unit).map_err(|_| MemoryError::TooLarge(size))?;
    let pages = if memory == Memory::Hugetlb { Pages::Huge } else { Pages::Base };
    let mut region = Region::map(len, pages).map_err(|source| MemoryError::Map { memory, size, source })?;
    if memory == Memory::Fragmented {
        for index in shuffled(len / step, SHUFFLE_SEED) {
            region.touch(index * step);
        }
    } else {
        (0..len).step_by(step).for_each(|offset| region.touch(offset));
    }
    Ok(region)
}

fn check_pool(size: Bytes, info: &MemInfo) -> Result<(), MemoryError> {
    let needed = size.0.checked_div(info.huge_page.0).unwrap_or(u64::MAX);
    if needed <= info.huge_free {
        return Ok(());
    }
    let in_use = info.huge_total - info.huge_free.min(info.huge_total);
    Err(MemoryError::HugePages {
        needed,
        free: info.huge_free,
        huge_page: info.huge_page,
        pool_wanted: in_use.saturating_add(needed),
    })
}

/// The numbers below `count` in an order that depends on `seed` alone (Fisher-Yates over splitmix64).
fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = seed;
    for last in (1..count).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        // Truncation keeps the low bits, as good as any of splitmix64's output.
        #[allow(clippy::cast_possible_truncation, reason = "any bits of the word do")]
        order.swap(last, word as usize % (last + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: PageSize = PageSize(4096);

    fn info() -> MemInfo {
        MemInfo::parse(
            "MemTotal:  2000000 kB\nMemAvailable:  1048576 kB\nHugePages_Total:  40\n\
             HugePages_Free:  36\nHugePages_Rsvd:  4\nHugepagesize:  2048 kB\n",
        )
        .expect("complete")
    }

    #[test]
    fn meminfo_is_read() {
        let info = info();
        assert_eq!(info.available, Bytes(1 << 30));
        assert_eq!(info.huge_page, Bytes(2 << 20));
        assert_eq!((info.huge_total, info.huge_free), (40, 32));
        assert_eq!(info.default_pin_limit(), Bytes(256 << 20));
        assert_eq!(MemInfo::parse("MemTotal: 5 kB\n"), Err("MemAvailable"));
    }

    #[test]
    fn nothing_is_mapped_above_the_limit() {
        let error = prepare(Memory::Anon, Bytes(257 << 20), None, &info(), PAGE).err();
        assert!(matches!(error, Some(MemoryError::PinLimit { limit: Bytes(0x1000_0000), .. })), "{error:?}");
        let error = prepare(Memory::Hugetlb, Bytes(4 << 20), Some(Bytes(1 << 20)), &info(), PAGE).err();
        assert!(matches!(error, Some(MemoryError::PinLimit { .. })), "{error:?}");
    }

    #[test]
    fn a_small_pool_says_how_large_it_must_be() {
        let error = check_pool(Bytes(128 << 20), &info()).expect_err("32 are free");
        // 8 pages are taken already; 64 more are needed.
        assert!(
            matches!(error, MemoryError::HugePages { needed: 64, free: 32, pool_wanted: 72, .. }),
            "{error:?}"
        );
        assert!(check_pool(Bytes(64 << 20), &info()).is_ok());
        let none = MemInfo { huge_page: Bytes(0), huge_total: 0, huge_free: 0, ..info() };
        assert!(check_pool(Bytes(2 << 20), &none).is_err());
    }

    #[test]
    fn a_size_is_rounded_up_to_whole_pages() {
        let page = PageSize::of_system();
        let region = prepare(Memory::Fragmented, Bytes(page.0 * 3 + 1), None, &info(), page).expect("map");
        assert_eq!(region.len() as u64, page.0 * 4);
    }

    #[test]
    fn shuffled_is_a_permutation_that_repeats_and_moves_most() {
        let order = shuffled(1000, SHUFFLE_SEED);
        assert_eq!(order, shuffled(1000, SHUFFLE_SEED));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..1000));
        let ascending = order.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
        assert!(ascending < 20, "{ascending} neighbours stayed neighbours");
        assert!(shuffled(0, 1).is_empty());
    }
}
