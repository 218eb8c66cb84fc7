//! The kernel's door: typed ioctls on `/dev/iommu` and on a VFIO cdev, and the memory handed to them.
//! The one file of the driver with `unsafe`. Layouts and numbers: `include/uapi/linux/{iommufd,vfio}.h`,
//! Linux 7.3. Owns no policy: what to map, ask or expect is decided elsewhere.
#![allow(unsafe_code, reason = "ioctl and mmap have no safe form; every block says why it is sound")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::outcome::{Command, Ledger, Outcome};
use super::quantity::{Bytes, Iova, PhysAddr};

/// `IOMMUFD_TYPE`, also VFIO's: the ioctl group.
const GROUP: u8 = b';';
const DESTROY: Opcode = opcode::none(GROUP, 0x80);
const IOAS_ALLOC: Opcode = opcode::none(GROUP, 0x81);
const IOAS_MAP: Opcode = opcode::none(GROUP, 0x85);
const IOAS_UNMAP: Opcode = opcode::none(GROUP, 0x86);
const IOAS_NOIOMMU_GET_PA: Opcode = opcode::none(GROUP, 0x95);
/// `VFIO_BASE` (100) + 18, 19, 20.
const VFIO_DEVICE_BIND_IOMMUFD: Opcode = opcode::none(GROUP, 118);
const VFIO_DEVICE_ATTACH_IOMMUFD_PT: Opcode = opcode::none(GROUP, 119);
const VFIO_DEVICE_DETACH_IOMMUFD_PT: Opcode = opcode::none(GROUP, 120);

/// `IOMMU_IOAS_MAP_FIXED_IOVA | _WRITEABLE | _READABLE`.
const MAP_FIXED_READ_WRITE: u32 = 1 | 2 | 4;

#[repr(C)]
struct RawDestroy {
    size: u32,
    id: u32,
}

#[repr(C)]
struct RawIoasAlloc {
    size: u32,
    flags: u32,
    out_ioas_id: u32,
}

#[repr(C)]
struct RawIoasMap {
    size: u32,
    flags: u32,
    ioas_id: u32,
    reserved: u32,
    user_va: u64,
    length: u64,
    iova: u64,
}

#[repr(C)]
struct RawIoasUnmap {
    size: u32,
    ioas_id: u32,
    iova: u64,
    length: u64,
}

#[repr(C)]
struct RawGetPa {
    size: u32,
    flags: u32,
    ioas_id: u32,
    reserved: u32,
    iova: u64,
    length: u64,
    out_phys: u64,
}

#[repr(C)]
struct RawBind {
    argsz: u32,
    flags: u32,
    iommufd: i32,
    out_devid: u32,
}

#[repr(C)]
struct RawAttach {
    argsz: u32,
    flags: u32,
    pt_id: u32,
}

#[repr(C)]
struct RawDetach {
    argsz: u32,
    flags: u32,
}

/// The `size`/`argsz` every structure carries, proven to be the UAPI's.
const fn size_of_checked<T>(uapi: u32) -> u32 {
    assert!(size_of::<T>() == uapi as usize);
    uapi
}
const DESTROY_SIZE: u32 = size_of_checked::<RawDestroy>(8);
const IOAS_ALLOC_SIZE: u32 = size_of_checked::<RawIoasAlloc>(12);
const IOAS_MAP_SIZE: u32 = size_of_checked::<RawIoasMap>(40);
const IOAS_UNMAP_SIZE: u32 = size_of_checked::<RawIoasUnmap>(24);
const GET_PA_SIZE: u32 = size_of_checked::<RawGetPa>(40);
const BIND_SIZE: u32 = size_of_checked::<RawBind>(16);
/// Linux accepts the structure up to `pt_id`; the later `pasid` is not wanted here.
const ATTACH_SIZE: u32 = size_of_checked::<RawAttach>(12);
const DETACH_SIZE: u32 = size_of_checked::<RawDetach>(8);

/// An ioctl of set-up or clean-up that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {object}: {}", Outcome::from(*errno).name())]
pub struct IoctlError {
    pub operation: &'static str,
    pub object: String,
    pub errno: Errno,
}

/// The id of an I/O address space inside one [`Iommufd`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoasId(pub u32);

/// The arguments of one GET_PA, free to be wrong: the driver provokes failures with them.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    pub ioas: IoasId,
    pub flags: u32,
    pub iova: Iova,
    /// The cap on the scan where the kernel knows one.
    pub length: u64,
}

/// What a successful GET_PA said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub phys: PhysAddr,
    /// The run: physically contiguous bytes from the asked IOVA on.
    pub length: u64,
}

/// An open `/dev/iommu`. Counts its own calls, except those the measured loop makes
/// ([`Iommufd::get_pa_uncounted`]).
pub struct Iommufd {
    file: File,
    ledger: Mutex<Ledger>,
}

impl Iommufd {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { file, ledger: Mutex::default() })
    }

    /// The calls counted so far.
    pub fn ledger(&self) -> Ledger {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count<T>(&self, command: Command, result: Result<T, Errno>) -> Result<T, Errno> {
        let outcome = Outcome::from(&result);
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).add(command, outcome, 1);
        result
    }

    pub fn ioas_alloc(&self) -> Result<IoasId, IoctlError> {
        let mut raw = RawIoasAlloc { size: IOAS_ALLOC_SIZE, flags: 0, out_ioas_id: 0 };
        // SAFETY: the kernel reads and writes `size` bytes of `raw`, which is that large.
        let result = unsafe { ioctl(&self.file, Updater::<IOAS_ALLOC, _>::new(&mut raw)) };
        self.count(Command::IoasAlloc, result)
            .map(|()| IoasId(raw.out_ioas_id))
            .map_err(|errno| failed("IOAS_ALLOC", "on /dev/iommu", errno))
    }

    pub fn destroy(&self, ioas: IoasId) -> Result<(), IoctlError> {
        let mut raw = RawDestroy { size: DESTROY_SIZE, id: ioas.0 };
        // SAFETY: as in `ioas_alloc`.
        let result = unsafe { ioctl(&self.file, Updater::<DESTROY, _>::new(&mut raw)) };
        self.count(Command::Destroy, result)
            .map_err(|errno| failed("DESTROY", format!("of IOAS {}", ioas.0), errno))
    }

    /// Map `region` at `iova` for reading and writing. It must stay alive until it is unmapped or this
    /// descriptor is closed; the kernel pins its pages, so dropping it early is a leak, not unsound.
    pub fn ioas_map(&self, ioas: IoasId, iova: Iova, region: &Region) -> Result<(), IoctlError> {
        let mut raw = RawIoasMap {
            size: IOAS_MAP_SIZE,
            flags: MAP_FIXED_READ_WRITE,
            ioas_id: ioas.0,
            reserved: 0,
            user_va: region.address() as u64,
            length: region.len() as u64,
            iova: iova.0,
        };
        // SAFETY: as in `ioas_alloc`; the kernel pins the pages of `region` and no one reads them.
        let result = unsafe { ioctl(&self.file, Updater::<IOAS_MAP, _>::new(&mut raw)) };
        self.count(Command::IoasMap, result).map_err(|errno| {
            failed("IOAS_MAP", format!("of {} at IOVA {iova}", Bytes(region.len() as u64)), errno)
        })
    }

    pub fn ioas_unmap(&self, ioas: IoasId, iova: Iova, length: Bytes) -> Result<(), IoctlError> {
        let mut raw = RawIoasUnmap { size: IOAS_UNMAP_SIZE, ioas_id: ioas.0, iova: iova.0, length: length.0 };
        // SAFETY: as in `ioas_alloc`.
        let result = unsafe { ioctl(&self.file, Updater::<IOAS_UNMAP, _>::new(&mut raw)) };
        self.count(Command::IoasUnmap, result)
            .map_err(|errno| failed("IOAS_UNMAP", format!("of {length} at IOVA {iova}"), errno))
    }

    pub fn get_pa(&self, query: Query) -> Result<Answer, Errno> {
        let result = self.get_pa_uncounted(query);
        self.count(Command::GetPa, result)
    }

    /// The measured call: nothing but the ioctl. Who calls it keeps the count.
    pub fn get_pa_uncounted(&self, query: Query) -> Result<Answer, Errno> {
        let mut raw = RawGetPa {
            size: GET_PA_SIZE,
            flags: query.flags,
            ioas_id: query.ioas.0,
            reserved: 0,
            iova: query.iova.0,
            length: query.length,
            out_phys: 0,
        };
        // SAFETY: as in `ioas_alloc`; wrong values in the fields make the kernel fail, not this process.
        unsafe { ioctl(&self.file, Updater::<IOAS_NOIOMMU_GET_PA, _>::new(&mut raw))? };
        Ok(Answer { phys: PhysAddr(raw.out_phys), length: raw.length })
    }
}

/// An open VFIO character device. Its ioctls go to VFIO's own file operations, never through
/// `iommufd_fops_ioctl`, so no ledger counts them.
pub struct VfioDevice {
    file: File,
    name: String,
}

impl VfioDevice {
    /// Open without effect on the device; binding enables and resets it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { file, name: path.display().to_string() })
    }

    pub fn bind(&self, iommufd: &Iommufd) -> Result<(), IoctlError> {
        let mut raw = RawBind { argsz: BIND_SIZE, flags: 0, iommufd: iommufd.file.as_raw_fd(), out_devid: 0 };
        // SAFETY: the kernel reads and writes at most `argsz` bytes of `raw`, which is that large.
        let result = unsafe { ioctl(&self.file, Updater::<VFIO_DEVICE_BIND_IOMMUFD, _>::new(&mut raw)) };
        result.map_err(|errno| failed("VFIO_DEVICE_BIND_IOMMUFD", format!("on {}", self.name), errno))
    }

    pub fn attach(&self, ioas: IoasId) -> Result<(), IoctlError> {
        let mut raw = RawAttach { argsz: ATTACH_SIZE, flags: 0, pt_id: ioas.0 };
        // SAFETY: as in `bind`.
        let result = unsafe { ioctl(&self.file, Updater::<VFIO_DEVICE_ATTACH_IOMMUFD_PT, _>::new(&mut raw)) };
        result.map_err(|errno| failed("VFIO_DEVICE_ATTACH_IOMMUFD_PT", format!("on {}", self.name), errno))
    }

    pub fn detach(&self) -> Result<(), IoctlError> {
        let mut raw = RawDetach { argsz: DETACH_SIZE, flags: 0 };
        // SAFETY: as in `bind`.
        let result = unsafe { ioctl(&self.file, Updater::<VFIO_DEVICE_DETACH_IOMMUFD_PT, _>::new(&mut raw)) };
        result.map_err(|errno| failed("VFIO_DEVICE_DETACH_IOMMUFD_PT", format!("on {}", self.name), errno))
    }
}

/// Which pages a [`Region`] is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// Base pages only: transparent huge pages are advised away.
    Base,
    /// The system's default huge pages, from the reserved pool.
    Huge,
}

/// Private anonymous memory of this process, unmapped when dropped.
pub struct Region {
    start: NonNull<u8>,
    len: usize,
}

impl Region {
    pub fn map(len: usize, pages: Pages) -> io::Result<Self> {
        let flags = match pages {
            Pages::Base => MapFlags::PRIVATE,
            Pages::Huge => MapFlags::PRIVATE | MapFlags::HUGETLB,
        };
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags)?
        };
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        let region = Self { start, len };
        if pages == Pages::Base {
            // SAFETY: the range is this region; the advice changes how it is backed, not its content.
            let advised = unsafe { rustix::mm::madvise(start.as_ptr().cast(), len, Advice::LinuxNoHugepage) };
            match advised {
                // A kernel without transparent huge pages knows no such advice, and needs none.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(region)
    }

    pub fn address(&self) -> usize {
        self.start.as_ptr().addr()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing in it; `mmap` refuses that, so never.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Write one byte so that the page at `offset` exists. Beyond the end it does nothing.
    pub fn touch(&mut self, offset: usize) {
        if offset < self.len {
            // SAFETY: inside the mapping, which this value alone owns; volatile keeps the store.
            unsafe { self.start.add(offset).write_volatile(1) };
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: start and length come from the mmap in `map`, and nothing borrows the memory.
        // A failure leaves address space behind that the process's end frees.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

fn failed(operation: &'static str, object: impl Into<String>, errno: Errno) -> IoctlError {
    IoctlError { operation, object: object.into(), errno }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn numbers_are_the_uapis() {
        for (ours, uapi) in [
            (DESTROY, 0x3b80),
            (IOAS_ALLOC, 0x3b81),
            (IOAS_MAP, 0x3b85),
            (IOAS_UNMAP, 0x3b86),
            (IOAS_NOIOMMU_GET_PA, 0x3b95),
            (VFIO_DEVICE_BIND_IOMMUFD, 0x3b76),
            (VFIO_DEVICE_ATTACH_IOMMUFD_PT, 0x3b77),
            (VFIO_DEVICE_DETACH_IOMMUFD_PT, 0x3b78),
        ] {
            assert_eq!(ours, uapi);
        }
    }

    #[test]
    fn fields_sit_where_the_uapi_has_them() {
        assert_eq!(offset_of!(RawGetPa, ioas_id), 8);
        assert_eq!(offset_of!(RawGetPa, iova), 16);
        assert_eq!(offset_of!(RawGetPa, length), 24);
        assert_eq!(offset_of!(RawGetPa, out_phys), 32);
        assert_eq!(offset_of!(RawIoasMap, user_va), 16);
        assert_eq!(offset_of!(RawIoasMap, iova), 32);
        assert_eq!(offset_of!(RawIoasUnmap, iova), 8);
        assert_eq!(offset_of!(RawBind, out_devid), 12);
    }

    #[test]
    fn a_file_that_is_no_iommufd_refuses_and_the_refusal_is_counted() {
        let iommufd = Iommufd::open(Path::new("/dev/null")).expect("open /dev/null");
        let error = iommufd.ioas_alloc().expect_err("/dev/null has no ioctls");
        assert_eq!(error.to_string(), "IOAS_ALLOC on /dev/iommu: ENOTTY");
        assert_eq!(iommufd.ledger().total(Command::IoasAlloc), 1);
    }

    #[test]
    fn a_region_can_be_touched_and_not_overrun() {
        let mut region = Region::map(3 * rustix::param::page_size(), Pages::Base).expect("map");
        region.touch(0);
        region.touch(region.len() - 1);
        region.touch(region.len());
        assert!(!region.is_empty());
    }
}
