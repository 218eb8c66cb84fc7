//! What the machine has, and how much of it the driver may pin.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::quantity::Bytes;
use super::{MemoryError, hugetlb_1g};

/// Memory facts of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemInfo {
    pub available: Bytes,
    /// The default huge page.
    pub huge_page: Bytes,
    pub pool: Pool,
    pub giant_pool: Pool,
}

/// A pool of huge pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    pub page: Bytes,
    pub total: u64,
    /// Free and not promised to another mapping.
    pub free: u64,
    /// The file that sets its size.
    pub knob: PathBuf,
}

impl MemInfo {
    /// Read `/proc` and `/sys` under `root`.
    pub fn read(root: &Path) -> Result<Self, MemoryError> {
        let path = root.join("proc/meminfo");
        let text =
            fs::read_to_string(&path).map_err(|source| MemoryError::Read { path: path.clone(), source })?;
        let giant_pool = Pool::read(root, hugetlb_1g::SIZE);
        Self::parse(&text, giant_pool).map_err(|field| MemoryError::Field { path, field })
    }

    fn parse(text: &str, giant_pool: Pool) -> Result<Self, &'static str> {
        let field = |name: &'static str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok()).ok_or(name)
        };
        // A kernel without hugetlb prints none of its lines: then there is no pool.
        let huge = |name| field(name).unwrap_or(0);
        let huge_page = Bytes(huge("Hugepagesize") << 10);
        Ok(Self {
            available: Bytes(field("MemAvailable")? << 10),
            huge_page,
            pool: Pool {
                page: huge_page,
                total: huge("HugePages_Total"),
                free: huge("HugePages_Free").saturating_sub(huge("HugePages_Rsvd")),
                knob: PathBuf::from("/proc/sys/vm/nr_hugepages"),
            },
            giant_pool,
        })
    }

    /// How much the driver pins without being told: a quarter of what is available. Root has no
    /// `RLIMIT_MEMLOCK` to stop it (`IOPT_PAGES_ACCOUNT_NONE` with `CAP_IPC_LOCK`, Linux 7.3).
    pub fn default_limit(&self) -> Bytes {
        Bytes(self.available.0 / 4)
    }
}

impl Pool {
    /// The pool of pages of `size` bytes; an empty one where the machine has none.
    fn read(root: &Path, size: u64) -> Self {
        let folder = format!("sys/kernel/mm/hugepages/hugepages-{}kB", size >> 10);
        let number = |name: &str| {
            let text = fs::read_to_string(root.join(&folder).join(name)).ok()?;
            text.trim().parse::<u64>().ok()
        };
        let free = number("free_hugepages").unwrap_or(0);
        Self {
            page: Bytes(size),
            total: number("nr_hugepages").unwrap_or(0),
            free: free.saturating_sub(number("resv_hugepages").unwrap_or(0)),
            knob: Path::new("/").join(&folder).join("nr_hugepages"),
        }
    }

    pub(super) fn check(&self, size: Bytes) -> Result<(), MemoryError> {
        let needed = size.0.checked_div(self.page.0).unwrap_or(u64::MAX);
        if needed <= self.free {
            return Ok(());
        }
        let in_use = self.total - self.free.min(self.total);
        Err(MemoryError::HugePages {
            needed,
            free: self.free,
            page: self.page,
            pool_wanted: in_use.saturating_add(needed),
            knob: self.knob.clone(),
        })
    }
}

/// Memory of a pool is set aside already: it does not come out of `MemAvailable`, and only a limit that
/// was given holds for it. Other memory beyond `MemAvailable` would call for the OOM killer, whatever
/// limit was given.
pub(super) fn check(
    sizes: &[(Bytes, bool)],
    limit: Option<Bytes>,
    info: &MemInfo,
) -> Result<(), MemoryError> {
    let sum = |wanted: fn(bool) -> bool| {
        Bytes(
            sizes
                .iter()
                .filter(|(_, pooled)| wanted(*pooled))
                .fold(0, |sum: u64, (size, _)| sum.saturating_add(size.0)),
        )
    };
    let (all, taken) = (sum(|_| true), sum(|pooled| !pooled));
    if let Some(limit) = limit
        && all > limit
    {
        return Err(MemoryError::PinLimit { size: all, limit });
    }
    let most = limit.unwrap_or_else(|| info.default_limit()).min(info.available);
    if taken > most {
        return Err(MemoryError::PinLimit { size: taken, limit: most });
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn info() -> MemInfo {
        MemInfo::parse(
            "MemTotal:  2000000 kB\nMemAvailable:  1048576 kB\nHugePages_Total:  40\n\
             HugePages_Free:  36\nHugePages_Rsvd:  4\nHugepagesize:  2048 kB\n",
            Pool::read(Path::new("/nonexistent"), hugetlb_1g::SIZE),
        )
        .expect("complete")
    }

    #[test]
    fn meminfo_is_read() {
        let info = info();
        assert_eq!((info.available, info.huge_page), (Bytes(1 << 30), Bytes(2 << 20)));
        assert_eq!((info.pool.total, info.pool.free), (40, 32));
        assert_eq!(info.default_limit(), Bytes(256 << 20));
        assert_eq!(MemInfo::parse("MemTotal: 5 kB\n", info.giant_pool), Err("MemAvailable"));
    }

    #[test]
    fn nothing_is_pinned_above_the_limit() {
        let over = |sizes: &[(Bytes, bool)], limit| {
            matches!(check(sizes, limit, &info()), Err(MemoryError::PinLimit { .. }))
        };
        let quarter = Bytes(256 << 20);
        assert!(!over(&[(quarter, false)], None));
        assert!(over(&[(quarter, false), (Bytes(4096), false)], None), "jobs that run together add up");
        assert!(!over(&[(Bytes(900 << 20), true)], None), "a pool is set aside already");
        assert!(over(&[(Bytes(4 << 20), true)], Some(Bytes(1 << 20))));
        assert!(over(&[(Bytes(2 << 30), false)], Some(Bytes(u64::MAX))), "more than there is");
    }

    #[test]
    fn a_small_pool_says_how_large_it_must_be() {
        let info = info();
        // 8 pages are taken already; 64 more are needed.
        let error = info.pool.check(Bytes(128 << 20)).expect_err("32 are free");
        assert!(
            matches!(error, MemoryError::HugePages { needed: 64, free: 32, pool_wanted: 72, .. }),
            "{error:?}"
        );
        assert!(info.pool.check(Bytes(64 << 20)).is_ok());
        let error = info.giant_pool.check(Bytes(1 << 30)).expect_err("no such pool");
        assert!(matches!(error, MemoryError::HugePages { needed: 1, pool_wanted: 1, .. }), "{error:?}");
        assert!(Pool { page: Bytes(0), ..info.pool }.check(Bytes(2 << 20)).is_err());
    }
}
