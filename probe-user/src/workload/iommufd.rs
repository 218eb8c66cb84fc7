//! The kernel's door: typed ioctls on `/dev/iommu` and on a VFIO cdev. The one file with ioctls.
//! Layouts and numbers: `include/uapi/linux/{iommufd,vfio}.h`, Linux 7.3. Owns no policy: what to map, ask
//! or expect is decided elsewhere.
#![allow(unsafe_code, reason = "an ioctl has no safe form; every block says why it is sound")]

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Updater, ioctl, opcode};

use super::outcome::{Command, Ledger, Outcome};
use super::quantity::{Bytes, Iova, PhysAddr};
use super::region::Region;

/// `IOMMUFD_TYPE`, also VFIO's: the ioctl group.
const GROUP: u8 = b';';
const DESTROY: Opcode = opcode::none(GROUP, 0x80);
const IOAS_ALLOC: Opcode = opcode::none(GROUP, 0x81);
const IOAS_MAP: Opcode = opcode::none(GROUP, 0x85);
const IOAS_UNMAP: Opcode = opcode::none(GROUP, 0x86);
const OPTION: Opcode = opcode::none(GROUP, 0x87);
const HWPT_ALLOC: Opcode = opcode::none(GROUP, 0x89);
const IOAS_MAP_FILE: Opcode = opcode::none(GROUP, 0x8f);
const IOAS_NOIOMMU_GET_PA: Opcode = opcode::none(GROUP, 0x95);
/// The number after the last one of Linux 7.3: no ioctl.
const NO_IOCTL: Opcode = opcode::none(GROUP, 0x96);
/// `VFIO_BASE` (100) + 18, 19, 20.
const VFIO_DEVICE_BIND_IOMMUFD: Opcode = opcode::none(GROUP, 118);
const VFIO_DEVICE_ATTACH_IOMMUFD_PT: Opcode = opcode::none(GROUP, 119);
const VFIO_DEVICE_DETACH_IOMMUFD_PT: Opcode = opcode::none(GROUP, 120);

/// `IOMMU_IOAS_MAP_FIXED_IOVA | _WRITEABLE | _READABLE`.
const MAP_FIXED_READ_WRITE: u32 = 1 | 2 | 4;
/// `IOMMU_OPTION_HUGE_PAGES`.
const OPTION_HUGE_PAGES: u32 = 1;
/// `IOMMU_OPTION_OP_SET`.
const OPTION_SET: u16 = 0;

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
struct RawIoasMapFile {
    size: u32,
    flags: u32,
    ioas_id: u32,
    fd: i32,
    start: u64,
    length: u64,
    iova: u64,
}

#[repr(C)]
struct RawOption {
    size: u32,
    option_id: u32,
    op: u16,
    reserved: u16,
    object_id: u32,
    val64: u64,
}

#[repr(C)]
struct RawHwptAlloc {
    size: u32,
    flags: u32,
    dev_id: u32,
    pt_id: u32,
    out_hwpt_id: u32,
    reserved: u32,
}

/// A GET_PA longer than the kernel knows it.
#[repr(C)]
struct RawLongGetPa {
    known: RawGetPa,
    unknown: u64,
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
const IOAS_MAP_FILE_SIZE: u32 = size_of_checked::<RawIoasMapFile>(40);
const OPTION_SIZE: u32 = size_of_checked::<RawOption>(24);
/// Linux accepts the structure up to `__reserved`; the data that may follow are not wanted here.
const HWPT_ALLOC_SIZE: u32 = size_of_checked::<RawHwptAlloc>(24);
const LONG_GET_PA_SIZE: u32 = size_of_checked::<RawLongGetPa>(48);
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

/// The id of a page table (`HWPT`) inside one [`Iommufd`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HwptId(pub u32);

/// The id of a bound device inside one [`Iommufd`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceId(pub u32);

/// What is wrong with a GET_PA beside the values of its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bend {
    /// `__reserved` is not 0.
    Reserved,
    /// The structure ends before `out_phys`.
    Short,
    /// The structure is longer than the kernel's, and what is beyond is not 0.
    Long,
    /// The pointer points to nothing.
    Pointer,
    /// The number is of no ioctl.
    Number,
}

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
        self.destroy_object(ioas.0, "IOAS")
    }

    pub fn destroy_hwpt(&self, hwpt: HwptId) -> Result<(), IoctlError> {
        self.destroy_object(hwpt.0, "HWPT")
    }

    fn destroy_object(&self, id: u32, what: &str) -> Result<(), IoctlError> {
        let mut raw = RawDestroy { size: DESTROY_SIZE, id };
        // SAFETY: as in `ioas_alloc`.
        let result = unsafe { ioctl(&self.file, Updater::<DESTROY, _>::new(&mut raw)) };
        self.count(Command::Destroy, result)
            .map_err(|errno| failed("DESTROY", format!("of {what} {id}"), errno))
    }

    /// Let an IOAS without mappings use huge pages in its page tables, or not.
    pub fn huge_pages(&self, ioas: IoasId, wanted: bool) -> Result<(), IoctlError> {
        let mut raw = RawOption {
            size: OPTION_SIZE,
            option_id: OPTION_HUGE_PAGES,
            op: OPTION_SET,
            reserved: 0,
            object_id: ioas.0,
            val64: u64::from(wanted),
        };
        // SAFETY: as in `ioas_alloc`.
        let result = unsafe { ioctl(&self.file, Updater::<OPTION, _>::new(&mut raw)) };
        self.count(Command::Option, result)
            .map_err(|errno| failed("OPTION", format!("HUGE_PAGES of IOAS {}", ioas.0), errno))
    }

    /// Give an IOAS a page table for `device` without attaching the device to it.
    pub fn hwpt_alloc(&self, device: DeviceId, ioas: IoasId) -> Result<HwptId, IoctlError> {
        let mut raw = RawHwptAlloc {
            size: HWPT_ALLOC_SIZE,
            flags: 0,
            dev_id: device.0,
            pt_id: ioas.0,
            out_hwpt_id: 0,
            reserved: 0,
        };
        // SAFETY: as in `ioas_alloc`.
        let result = unsafe { ioctl(&self.file, Updater::<HWPT_ALLOC, _>::new(&mut raw)) };
        self.count(Command::HwptAlloc, result)
            .map(|()| HwptId(raw.out_hwpt_id))
            .map_err(|errno| failed("HWPT_ALLOC", format!("for IOAS {}", ioas.0), errno))
    }

    /// Map `length` bytes of `file` from `start` on at `iova`.
    pub fn ioas_map_file(
        &self,
        ioas: IoasId,
        iova: Iova,
        file: BorrowedFd<'_>,
        start: u64,
        length: Bytes,
    ) -> Result<(), IoctlError> {
        let mut raw = RawIoasMapFile {
            size: IOAS_MAP_FILE_SIZE,
            flags: MAP_FIXED_READ_WRITE,
            ioas_id: ioas.0,
            fd: file.as_raw_fd(),
            start,
            length: length.0,
            iova: iova.0,
        };
        // SAFETY: as in `ioas_alloc`; the kernel pins the file's pages, which no one reads.
        let result = unsafe { ioctl(&self.file, Updater::<IOAS_MAP_FILE, _>::new(&mut raw)) };
        self.count(Command::IoasMapFile, result)
            .map_err(|errno| failed("IOAS_MAP_FILE", format!("of {length} at IOVA {iova}"), errno))
    }

    /// Map `length` bytes of `region` from `offset` on at `iova` for reading and writing. It must stay alive until it is unmapped or this
    /// descriptor is closed; the kernel pins its pages, so dropping it early is a leak, not unsound.
    pub fn ioas_map(
        &self,
        ioas: IoasId,
        iova: Iova,
        region: &Region,
        offset: u64,
        length: Bytes,
    ) -> Result<(), IoctlError> {
        let result = self.ioas_map_uncounted(ioas, iova, region.address() as u64 + offset, length);
        self.count(Command::IoasMap, result)
            .map_err(|errno| failed("IOAS_MAP", format!("of {length} at IOVA {iova}"), errno))
    }

    /// Map `length` bytes at `address`, which the kernel checks. Who calls it keeps the count.
    pub fn ioas_map_uncounted(
        &self,
        ioas: IoasId,
        iova: Iova,
        address: u64,
        length: Bytes,
    ) -> Result<(), Errno> {
        let mut raw = RawIoasMap {
            size: IOAS_MAP_SIZE,
            flags: MAP_FIXED_READ_WRITE,
            ioas_id: ioas.0,
            reserved: 0,
            user_va: address,
            length: length.0,
            iova: iova.0,
        };
        // SAFETY: as in `ioas_alloc`; the kernel pins the pages behind `address`, and nothing uses them.
        unsafe { ioctl(&self.file, Updater::<IOAS_MAP, _>::new(&mut raw)) }
    }

    pub fn ioas_unmap(&self, ioas: IoasId, iova: Iova, length: Bytes) -> Result<(), IoctlError> {
        let result = self.ioas_unmap_uncounted(ioas, iova, length);
        self.count(Command::IoasUnmap, result)
            .map_err(|errno| failed("IOAS_UNMAP", format!("of {length} at IOVA {iova}"), errno))
    }

    /// Who calls it keeps the count.
    pub fn ioas_unmap_uncounted(&self, ioas: IoasId, iova: Iova, length: Bytes) -> Result<(), Errno> {
        let mut raw = RawIoasUnmap { size: IOAS_UNMAP_SIZE, ioas_id: ioas.0, iova: iova.0, length: length.0 };
        // SAFETY: as in `ioas_alloc`.
        unsafe { ioctl(&self.file, Updater::<IOAS_UNMAP, _>::new(&mut raw)) }
    }

    pub fn get_pa(&self, query: Query) -> Result<Answer, Errno> {
        let result = self.get_pa_uncounted(query);
        self.count(Command::GetPa, result)
    }

    /// The measured call: nothing but the ioctl. Who calls it keeps the count.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the measured loop: a call of it costs as much as its own work")]
    pub fn get_pa_uncounted(&self, query: Query) -> Result<Answer, Errno> {
        let mut raw = RawGetPa::of(query);
        // SAFETY: as in `ioas_alloc`; wrong values in the fields make the kernel fail, not this process.
        unsafe { ioctl(&self.file, Updater::<IOAS_NOIOMMU_GET_PA, _>::new(&mut raw))? };
        Ok(Answer { phys: PhysAddr(raw.out_phys), length: raw.length })
    }
}

impl RawGetPa {
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "as get_pa_uncounted")]
    fn of(query: Query) -> Self {
        Self {
            size: GET_PA_SIZE,
            flags: query.flags,
            ioas_id: query.ioas.0,
            reserved: 0,
            iova: query.iova.0,
            length: query.length,
            out_phys: 0,
        }
    }
}

impl Iommufd {
    /// A GET_PA whose structure, pointer or number is wrong. Who calls it keeps the count.
    pub fn get_pa_bent(&self, query: Query, bend: Bend) -> Result<Answer, Errno> {
        let mut raw = RawLongGetPa { known: RawGetPa::of(query), unknown: 1 };
        match bend {
            Bend::Reserved => raw.known.reserved = 1,
            Bend::Short => raw.known.size = 32,
            Bend::Long => raw.known.size = LONG_GET_PA_SIZE,
            Bend::Pointer | Bend::Number => {}
        }
        // SAFETY: the kernel reads and writes at most `size` bytes, and `raw` is not smaller.
        unsafe {
            match bend {
                Bend::Number => ioctl(&self.file, Updater::<NO_IOCTL, _>::new(&mut raw))?,
                Bend::Pointer => ioctl(&self.file, Nowhere)?,
                _ => ioctl(&self.file, Updater::<IOAS_NOIOMMU_GET_PA, _>::new(&mut raw))?,
            }
        }
        Ok(Answer { phys: PhysAddr(raw.known.out_phys), length: raw.known.length })
    }
}

/// GET_PA with a null pointer, which the kernel refuses to read.
struct Nowhere;

// SAFETY: the number is GET_PA's; the kernel writes through the pointer only after it read from it.
unsafe impl Ioctl for Nowhere {
    type Output = ();
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        IOAS_NOIOMMU_GET_PA
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
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

    pub fn bind(&self, iommufd: &Iommufd) -> Result<DeviceId, IoctlError> {
        let mut raw = RawBind { argsz: BIND_SIZE, flags: 0, iommufd: iommufd.file.as_raw_fd(), out_devid: 0 };
        // SAFETY: the kernel reads and writes at most `argsz` bytes of `raw`, which is that large.
        let result = unsafe { ioctl(&self.file, Updater::<VFIO_DEVICE_BIND_IOMMUFD, _>::new(&mut raw)) };
        result
            .map(|()| DeviceId(raw.out_devid))
            .map_err(|errno| failed("VFIO_DEVICE_BIND_IOMMUFD", format!("on {}", self.name), errno))
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
            (OPTION, 0x3b87),
            (HWPT_ALLOC, 0x3b89),
            (IOAS_MAP_FILE, 0x3b8f),
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
        assert_eq!(offset_of!(RawIoasMapFile, fd), 12);
        assert_eq!(offset_of!(RawIoasMapFile, iova), 32);
        assert_eq!(offset_of!(RawOption, object_id), 12);
        assert_eq!(offset_of!(RawOption, val64), 16);
        assert_eq!(offset_of!(RawHwptAlloc, out_hwpt_id), 16);
    }

    #[test]
    fn a_file_that_is_no_iommufd_refuses_and_the_refusal_is_counted() {
        let iommufd = Iommufd::open(Path::new("/dev/null")).expect("open /dev/null");
        let error = iommufd.ioas_alloc().expect_err("/dev/null has no ioctls");
        assert_eq!(error.to_string(), "IOAS_ALLOC on /dev/iommu: ENOTTY");
        assert_eq!(iommufd.ledger().total(Command::IoasAlloc), 1);
    }
}
