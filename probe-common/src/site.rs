//! The table of probed kernel functions: one row per site; and the ways to attach to them.
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

/// How programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// One trampoline program at entry and return, with 8 bytes of its own per call (Linux 7.0).
    Fsession,
    /// Trampoline programs at entry and at return.
    Fentry,
    /// One program at entry and return over the function graph tracer, with 8 bytes of its own per call
    /// (Linux 6.12; ours needs 6.17).
    KprobeSession,
    /// kprobe and kretprobe through `perf_event_open`.
    Kprobe,
}

impl Backend {
    /// Every backend, best first.
    pub const ALL: [Self; 4] = [Self::Fsession, Self::Fentry, Self::KprobeSession, Self::Kprobe];

    /// The word users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fsession => "fsession",
            Self::Fentry => "fentry",
            Self::KprobeSession => "kprobe-session",
            Self::Kprobe => "kprobe",
        }
    }
}

/// A program for the entry of a function and one for its return.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// At entry.
    pub entry: &'static str,
    /// At return.
    pub exit: &'static str,
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
    /// Program of the `fsession` backend, for entry and return.
    pub fsession: &'static str,
    /// The same with single calls, lock waits and diagnostics, which the programs of the other backends
    /// always have in them.
    pub fsession_extra: &'static str,
    /// Programs of the `fentry` backend.
    pub fentry: Pair,
    /// Program of the `kprobe-session` backend, for entry and return.
    pub kprobe_session: &'static str,
    /// The same with what [`Self::fsession_extra`] has beyond the other.
    pub kprobe_session_extra: &'static str,
    /// Programs of the `kprobe` backend.
    pub kprobe: Pair,
    /// Map that holds the site's open calls where the backend keeps nothing, or too little, of a call itself.
    pub open_map: &'static str,
}

/// Every site, in the order of [`SiteId`].
pub const SITES: [Site; 2] = [
    Site {
        id: SiteId::Dispatch,
        name: "dispatch",
        symbol: "iommufd_fops_ioctl",
        fsession: "dispatch_both",
        fsession_extra: "dispatch_extra",
        fentry: Pair { entry: "dispatch_fentry", exit: "dispatch_fexit" },
        kprobe_session: "dispatch_multi",
        kprobe_session_extra: "dispatch_multix",
        kprobe: Pair { entry: "dispatch_entry", exit: "dispatch_return" },
        open_map: "DISPATCH_OPEN",
    },
    Site {
        id: SiteId::GetPhys,
        name: "get_phys",
        symbol: "iopt_get_phys",
        fsession: "get_phys_both",
        fsession_extra: "get_phys_extra",
        fentry: Pair { entry: "get_phys_fentry", exit: "get_phys_fexit" },
        kprobe_session: "get_phys_multi",
        kprobe_session_extra: "get_phys_multix",
        kprobe: Pair { entry: "get_phys_entry", exit: "get_phys_return" },
        open_map: "GET_PHYS_OPEN",
    },
];

/// Programs for lock waits, and their tracepoints (include/trace/events/lock.h, since Linux 5.19): the end
/// first, so that no wait begins that cannot end.
pub const LOCK_PROGRAMS: [(&str, &str); 2] =
    [("lock_end", "contention_end"), ("lock_begin", "contention_begin")];

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

    #[test]
    fn the_kernel_keeps_program_names_whole() {
        // BPF_OBJ_NAME_LEN less the terminating NUL (include/uapi/linux/bpf.h, Linux 7.3).
        for site in &SITES {
            for name in [
                site.fsession,
                site.fsession_extra,
                site.fentry.entry,
                site.fentry.exit,
                site.kprobe_session,
                site.kprobe_session_extra,
                site.kprobe.entry,
                site.kprobe.exit,
            ] {
                assert!(name.len() < 16, "{name}");
            }
        }
    }
}
