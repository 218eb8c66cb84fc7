//! The bound device, the IOASes and the mappings, and their orderly end.
//!
//! Whatever happens between, the end is: unmap, detach, destroy, close.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::exit::CannotRun;

use super::iommufd::{DeviceId, HwptId, IoasId, IoctlError, Iommufd, VfioDevice};
use super::memory::Buffer;
use super::outcome::Ledger;
use super::quantity::{Bytes, Iova};

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    CannotRun(CannotRun),
    #[error("opening {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Ioctl(#[from] IoctlError),
}

/// Everything the kernel holds for this run.
pub struct Session {
    pub iommufd: Iommufd,
    device: Option<(VfioDevice, DeviceId)>,
    spaces: Vec<Space>,
    mapped: Vec<Mapping>,
}

/// An IOAS, with what gives it a page table.
struct Space {
    ioas: IoasId,
    hold: Hold,
    /// What it was made for: shared by jobs with the same setting, or nobody else's.
    shared: Option<HugePages>,
}

/// Whether an IOAS uses huge pages in its page tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HugePages {
    On,
    Off,
}

enum Hold {
    Attached,
    Table(HwptId),
    Nothing,
}

struct Mapping {
    ioas: IoasId,
    iova: Iova,
    size: Bytes,
    /// The pages stay pinned until the end, so the memory stays.
    _buffer: Arc<Buffer>,
}

/// Where a buffer is, for who asks about it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub ioas: IoasId,
    pub start: Iova,
    pub size: Bytes,
}

impl Session {
    /// Bind `device` to `iommufd`.
    pub fn open(iommufd: Iommufd, device: &Path) -> Result<Self, SessionError> {
        let opened = VfioDevice::open(device).map_err(|source| open_error(device, source))?;
        let id = opened.bind(&iommufd).map_err(|error| bind_error(device, error))?;
        Ok(Self { iommufd, device: Some((opened, id)), spaces: Vec::new(), mapped: Vec::new() })
    }

    /// The first `count` IOASes that jobs with this setting share.
    pub fn shared(&mut self, count: usize, huge_pages: HugePages) -> Result<Vec<IoasId>, SessionError> {
        let have = |session: &Self| -> Vec<IoasId> {
            let ours = session.spaces.iter().filter(|space| space.shared == Some(huge_pages));
            ours.map(|space| space.ioas).take(count).collect()
        };
        while have(self).len() < count {
            self.add(huge_pages, Some(huge_pages))?;
        }
        Ok(have(self))
    }

    /// An IOAS that nobody shares.
    pub fn own(&mut self, huge_pages: HugePages) -> Result<IoasId, SessionError> {
        self.add(huge_pages, None)
    }

    /// A device is attached to one IOAS; the others get a page table for it.
    fn add(&mut self, huge_pages: HugePages, shared: Option<HugePages>) -> Result<IoasId, SessionError> {
        let ioas = self.iommufd.ioas_alloc()?;
        self.spaces.push(Space { ioas, hold: Hold::Nothing, shared });
        if huge_pages == HugePages::Off {
            self.iommufd.huge_pages(ioas, false)?;
        }
        let attached = self.spaces.iter().any(|space| matches!(space.hold, Hold::Attached));
        let hold = match &self.device {
            None => Hold::Nothing,
            Some((_, id)) if attached => Hold::Table(self.iommufd.hwpt_alloc(*id, ioas)?),
            Some((device, _)) => {
                device.attach(ioas)?;
                Hold::Attached
            }
        };
        if let Some(space) = self.spaces.last_mut() {
            space.hold = hold;
        }
        Ok(ioas)
    }

    /// Map the buffer at `start` in areas of `slice` bytes each. The session keeps it until the end.
    pub fn map(
        &mut self,
        ioas: IoasId,
        start: Iova,
        buffer: &Arc<Buffer>,
        slice: Bytes,
    ) -> Result<Target, SessionError> {
        let size = buffer.size();
        let mut offset = 0;
        while offset < size.0 {
            let size = Bytes(slice.0.clamp(1, size.0 - offset));
            let iova = Iova(start.0 + offset);
            match &buffer.file {
                Some(file) => self.iommufd.ioas_map_file(ioas, iova, file.as_fd(), offset, size),
                None => self.iommufd.ioas_map(ioas, iova, &buffer.region, offset, size),
            }
            .map_err(map_error)?;
            self.mapped.push(Mapping { ioas, iova, size, _buffer: Arc::clone(buffer) });
            offset += size.0;
        }
        Ok(Target { ioas, start, size })
    }

    /// Undo all mappings and IOASes; the device stays bound, for the next stage.
    pub fn clear(&mut self) -> Result<(), SessionError> {
        Ok(self.release()?)
    }

    /// End it, and give the account of all calls but the measured loops'.
    pub fn close(mut self) -> Result<Ledger, SessionError> {
        self.release()?;
        self.device = None;
        Ok(self.iommufd.ledger())
    }

    /// Every step is tried, and the first failure reported.
    fn release(&mut self) -> Result<(), IoctlError> {
        let mut first = Ok(());
        let mut note = |result: Result<(), IoctlError>| {
            if first.is_ok() {
                first = result;
            }
        };
        for Mapping { ioas, iova, size, .. } in self.mapped.drain(..) {
            note(self.iommufd.ioas_unmap(ioas, iova, size));
        }
        for space in self.spaces.drain(..) {
            match (space.hold, &self.device) {
                (Hold::Attached, Some((device, _))) => note(device.detach()),
                (Hold::Table(hwpt), _) => note(self.iommufd.destroy_hwpt(hwpt)),
                _ => {}
            }
            note(self.iommufd.destroy(space.ioas));
        }
        first
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Only after an early error, which is the one to report; closing the descriptors frees the rest.
        let _ = self.release();
    }
}

/// `/dev/iommu` for this process.
pub fn open_iommufd(path: &Path) -> Result<Iommufd, SessionError> {
    Iommufd::open(path).map_err(|source| open_error(path, source))
}

/// The two refusals of a bind that are the user's to solve (`vfio_df_ioctl_bind_iommufd`, Linux 7.3).
fn bind_error(path: &Path, error: IoctlError) -> SessionError {
    let cannot = |why: &str, remedy: &str| {
        SessionError::CannotRun(CannotRun {
            what: format!("cannot bind {}", path.display()),
            why: format!("{why} ({error})"),
            remedy: remedy.to_owned(),
        })
    };
    match error.errno {
        Errno::INVAL | Errno::BUSY => cannot(
            "another process holds the device",
            "stop that process, or choose another device with --device",
        ),
        Errno::NOTTY => cannot("it is no VFIO device", "name a node under /dev/vfio/devices"),
        _ => SessionError::Ioctl(error),
    }
}

/// Without `CAP_IPC_LOCK` what is pinned counts against `RLIMIT_MEMLOCK` (`pages.c`, Linux 7.3).
fn map_error(error: IoctlError) -> SessionError {
    if error.errno != Errno::NOMEM {
        return SessionError::Ioctl(error);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let limit = limit.map_or_else(|| "unlimited".to_owned(), |bytes| Bytes(bytes).to_string());
    SessionError::CannotRun(CannotRun {
        what: "cannot pin the buffer".to_owned(),
        why: format!("{error}: RLIMIT_MEMLOCK is {limit}, or memory ran out"),
        remedy: "give the process CAP_IPC_LOCK, raise the limit (`ulimit -l`), or take a smaller --size"
            .to_owned(),
    })
}

fn open_error(path: &Path, source: io::Error) -> SessionError {
    let cannot = |why: String, remedy: &str| {
        SessionError::CannotRun(CannotRun {
            what: format!("cannot open {}", path.display()),
            why,
            remedy: remedy.to_owned(),
        })
    };
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM) => {
            cannot("CAP_SYS_RAWIO is missing".to_owned(), "run as root, or give the process CAP_SYS_RAWIO")
        }
        Some(Errno::ACCESS) => cannot(
            "the node's owner and mode do not let this user in".to_owned(),
            "run as root, or as a user that may read and write the node",
        ),
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => cannot(
            format!("nothing is behind this node ({source})"),
            "`iovascope doctor` says what is missing",
        ),
        Some(Errno::BUSY) => cannot(
            "another process holds the device".to_owned(),
            "stop that process, or choose another device with --device",
        ),
        _ => SessionError::Open { path: path.to_owned(), source },
    }
}
