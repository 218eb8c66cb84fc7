//! The bound device, the IOAS and the mapping, and their orderly end.
//!
//! Whatever happens between, the end is: unmap, detach, close the device, destroy the IOAS.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::exit::CannotRun;

use super::iommufd::{IoasId, IoctlError, Iommufd, Region, VfioDevice};
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
    ioas: Option<IoasId>,
    device: Option<VfioDevice>,
    attached: bool,
    mapped: Option<(IoasId, Iova, Region)>,
}

/// Where the buffer is, for who asks about it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub ioas: IoasId,
    pub start: Iova,
    pub size: Bytes,
}

impl Session {
    /// Bind `device` to `iommufd` and attach a fresh IOAS.
    pub fn open(iommufd: Iommufd, device: &Path) -> Result<Self, SessionError> {
        let opened = VfioDevice::open(device).map_err(|source| open_error(device, source))?;
        let mut session = Self { iommufd, ioas: None, device: None, attached: false, mapped: None };
        opened.bind(&session.iommufd).map_err(|error| bind_error(device, error))?;
        let device = session.device.insert(opened);
        let ioas = *session.ioas.insert(session.iommufd.ioas_alloc()?);
        device.attach(ioas)?;
        session.attached = true;
        Ok(session)
    }

    /// Map `region` at `start`. The session keeps it until the end.
    pub fn map(&mut self, region: Region, start: Iova) -> Result<Target, SessionError> {
        let ioas = match self.ioas {
            Some(ioas) => ioas,
            None => *self.ioas.insert(self.iommufd.ioas_alloc()?),
        };
        self.iommufd.ioas_map(ioas, start, &region).map_err(map_error)?;
        let size = Bytes(region.len() as u64);
        self.mapped = Some((ioas, start, region));
        Ok(Target { ioas, start, size })
    }

    /// The mapped buffer.
    pub fn region(&self) -> Option<&Region> {
        self.mapped.as_ref().map(|(.., region)| region)
    }

    /// End it, and give the account of all calls but the measured loop's.
    pub fn close(mut self) -> Result<Ledger, SessionError> {
        self.release()?;
        Ok(self.iommufd.ledger())
    }

    /// Every step is tried, and the first failure reported.
    fn release(&mut self) -> Result<(), IoctlError> {
        let unmapped = match self.mapped.take() {
            Some((ioas, start, region)) => self.iommufd.ioas_unmap(ioas, start, Bytes(region.len() as u64)),
            None => Ok(()),
        };
        let detached = match (&self.device, std::mem::take(&mut self.attached)) {
            (Some(device), true) => device.detach(),
            _ => Ok(()),
        };
        // Closing unbinds; a bound device would keep the IOAS busy.
        self.device = None;
        let destroyed = match self.ioas.take() {
            Some(ioas) => self.iommufd.destroy(ioas),
            None => Ok(()),
        };
        unmapped.and(detached).and(destroyed)
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
