//! GET_PA out of this process's own threads: for what `iovascope load` cannot be told to do.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use iovascope::workload::iommufd::{Answer, IoasId, Iommufd, Query};
use iovascope::workload::memory::{self, MemInfo, Memory};
use iovascope::workload::pagemap::{self, Frames};
use iovascope::workload::quantity::{Bytes, Iova, PageSize};
use iovascope::workload::session::{HugePages, Session, Target};
use rustix::io::Errno;

const DEVICE: &str = "/dev/vfio/devices/noiommu-vfio0";
const START: Iova = Iova(1 << 32);

/// A mapped buffer of this process.
pub(crate) struct Buffer {
    session: Session,
    target: Target,
    memory: Arc<memory::Buffer>,
}

/// What threads need of a buffer to ask about it.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    iommufd: &'a Iommufd,
    target: Target,
    /// Of the buffer's memory in this process.
    address: u64,
}

impl Buffer {
    pub(crate) fn of(memory: Memory, bytes: u64) -> Self {
        let info = MemInfo::read(Path::new("/")).unwrap();
        let buffer = memory.build(Bytes(bytes), &info, PageSize::of_system(), 0);
        let memory = Arc::new(buffer.unwrap_or_else(|error| panic!("{}: {error}", memory.name())));
        let iommufd = Iommufd::open(Path::new("/dev/iommu")).unwrap();
        let mut session = Session::open(iommufd, Path::new(DEVICE)).unwrap();
        let ioas = session.shared(1, HugePages::On).unwrap()[0];
        let target = session.map(ioas, START, &memory, Bytes(bytes)).unwrap();
        Self { session, target, memory }
    }

    pub(crate) fn caller(&self) -> Caller<'_> {
        let address = self.memory.region.address() as u64;
        Caller { iommufd: &self.session.iommufd, target: self.target, address }
    }

    /// Where its pages are, by the kernel's page tables.
    pub(crate) fn frames(&self) -> Frames {
        pagemap::read(&self.memory.region, PageSize::of_system()).unwrap()
    }

    pub(crate) fn close(self) {
        self.session.close().unwrap();
    }
}

impl Caller<'_> {
    pub(crate) fn bytes(&self) -> u64 {
        self.target.size.0
    }

    pub(crate) fn ioas(&self) -> IoasId {
        self.target.ioas
    }

    /// One GET_PA, `offset` bytes into the buffer.
    pub(crate) fn ask(&self, offset: u64, length: u64) -> Result<Answer, Errno> {
        let iova = Iova(START.0 + offset);
        self.iommufd.get_pa_uncounted(Query { ioas: self.target.ioas, flags: 0, iova, length })
    }

    /// Map the buffer's first bytes once more, behind it, and unmap that again.
    pub(crate) fn map_and_unmap(&self, bytes: u64) -> Result<(), Errno> {
        let (ioas, iova) = (self.target.ioas, Iova(START.0 + self.bytes()));
        self.iommufd.ioas_map_uncounted(ioas, iova, self.address, Bytes(bytes))?;
        self.iommufd.ioas_unmap_uncounted(ioas, iova, Bytes(bytes))
    }
}

/// Ends threads that look at it, also when a test fails: its scope waits for them.
pub(crate) struct SetAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
