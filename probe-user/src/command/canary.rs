//! The canary: a GET_PA for an IOVA that nothing is mapped at, in an IOAS of the recorder's own. It
//! passes both sites, fails in `iopt_get_phys` with ENOENT, and changes nothing.

use std::path::Path;
use std::time::Instant;

use rustix::io::Errno;

use crate::source::kernel::{Canary, Sent};
use crate::workload::iommufd::{IoasId, Iommufd, Query};
use crate::workload::quantity::Iova;

/// The device node.
pub(super) const NODE: &str = "/dev/iommu";

/// Through a descriptor that stays open: it also keeps the module from being unloaded under the probes.
pub(super) struct Pinned {
    iommufd: Iommufd,
    ioas: IoasId,
}

impl Pinned {
    pub(super) fn new(iommufd: Iommufd) -> anyhow::Result<Self> {
        let ioas = iommufd.ioas_alloc()?;
        Ok(Self { iommufd, ioas })
    }
}

impl Canary for Pinned {
    fn send(&mut self) -> Sent {
        send(&self.iommufd, self.ioas)
    }

    fn time(&mut self, calls: u32) -> Option<u64> {
        let begin = Instant::now();
        for _ in 0..calls {
            if send(&self.iommufd, self.ioas).failed {
                return None;
            }
        }
        u64::try_from(begin.elapsed().as_nanos()).ok()?.checked_div(u64::from(calls))
    }
}

/// Through a descriptor that is opened for each: the module stays free to go, and its absence is
/// noticed.
pub(super) struct Unpinned;

impl Canary for Unpinned {
    fn send(&mut self) -> Sent {
        let failed = Sent { failed: true, ..Sent::default() };
        let Ok(iommufd) = Iommufd::open(Path::new(NODE)) else { return failed };
        let Ok(ioas) = iommufd.ioas_alloc() else { return Sent { dispatch: 1, ..failed } };
        // The allocation was a call of the dispatch too. Closing is none, and takes the IOAS along.
        let sent = send(&iommufd, ioas);
        Sent { dispatch: sent.dispatch + 1, ..sent }
    }

    fn time(&mut self, calls: u32) -> Option<u64> {
        Pinned::new(Iommufd::open(Path::new(NODE)).ok()?).ok()?.time(calls)
    }
}

fn send(iommufd: &Iommufd, ioas: IoasId) -> Sent {
    // One page, wherever: an IOAS without mappings has none.
    let length = rustix::param::page_size() as u64;
    let query = Query { ioas, flags: 0, iova: Iova(0), length };
    let (get_phys, failed) = match iommufd.get_pa_uncounted(query) {
        Err(Errno::NOENT) => (1, false),
        // Decided in front of `iopt_get_phys`.
        Err(Errno::PERM | Errno::NOTTY | Errno::OPNOTSUPP) => (0, false),
        _ => (0, true),
    };
    Sent { dispatch: 1, get_phys, failed }
}
