//! The table of probed kernel functions: one row per site.
//!
//! A row names the kernel symbol and the programs that `probe-ebpf` compiles for it; a test reads
//! the built BPF object and compares it with this table.

/// A probed kernel function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum SiteId {
    /// `iommufd_fops_ioctl`: every ioctl on `/dev/iommu` (drivers/iommu/iommufd/main.c, Linux 7.3).
    Dispatch = 0,
    /// `iopt_get_phys`: the contiguity scan behind `IOMMU_IOAS_NOIOMMU_GET_PA`
    /// (`drivers/iommu/iommufd/io_pagetable.c`, Linux 7.3).
    GetPhys = 1,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    /// Which site this is; also its index in [`crate::wire::Block::flow`].
    pub id: SiteId,
    /// The word users see, in every output.
    pub name: &'static str,
    /// The kernel function.
    pub symbol: &'static str,
    /// Program attached to the function's entry by the `kprobe` backend.
    pub entry_program: &'static str,
    /// Program attached to the function's return by the `kprobe` backend.
    pub return_program: &'static str,
    /// Map that holds the site's open calls.
    pub open_map: &'static str,
}

/// Every site, in the order of [`SiteId`].
pub const SITES: [Site; 2] = [
    Site {
        id: SiteId::Dispatch,
        name: "dispatch",
        symbol: "iommufd_fops_ioctl",
        entry_program: "dispatch_entry",
        return_program: "dispatch_return",
        open_map: "DISPATCH_OPEN",
    },
    Site {
        id: SiteId::GetPhys,
        name: "get_phys",
        symbol: "iopt_get_phys",
        entry_program: "get_phys_entry",
        return_program: "get_phys_return",
        open_map: "GET_PHYS_OPEN",
    },
];

impl SiteId {
    /// The site's row.
    #[must_use]
    pub const fn row(self) -> &'static Site {
        &SITES[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_at_their_own_index() {
        for (index, site) in SITES.iter().enumerate() {
            assert_eq!(site.id as usize, index);
        }
    }
}
