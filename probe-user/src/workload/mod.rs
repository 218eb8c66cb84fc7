//! The workload driver: a plan becomes a run becomes a result.
//!
//! Binds one no-IOMMU device, maps memory of its own, asks GET_PA about it, and undoes all of it.
//! Never programs DMA, never touches configuration space or BARs, never changes a system setting.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::exit::CannotRun;

pub mod abi;
pub mod device;
pub mod drive;
pub mod errors;
pub mod iommufd;
pub mod memory;
pub mod outcome;
pub mod pagemap;
pub mod quantity;
pub mod result;
pub mod rights;
pub mod session;
pub mod tally;
pub mod verify;

use abi::Abi;
use drive::{Cap, Driven, Job, Limit, Step};
use errors::FaultPlan;
use memory::{MemInfo, Memory, MemoryError};
use pagemap::PagemapError;
use quantity::{Bytes, Iova, PageSize};
use result::{Facts, Report};
use session::{Session, SessionError, Target};
use verify::{Addresses, Oracle};

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `None`: the first no-IOMMU device there is.
    pub device: Option<PathBuf>,
    pub memory: Memory,
    pub size: Bytes,
    /// `None`: a quarter of the available memory.
    pub pin_limit: Option<Bytes>,
    pub iova: Iova,
    pub cap: Cap,
    pub step: Step,
    pub limit: Limit,
    pub threads: NonZeroU64,
    pub faults: FaultPlan,
    /// Check each answer against the page tables.
    pub verify: Option<Addresses>,
}

/// Why a run did not come to a result.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    #[error(transparent)]
    CannotRun(CannotRun),
    #[error(transparent)]
    Session(SessionError),
    #[error(transparent)]
    Abi(#[from] abi::AbiError),
    #[error(transparent)]
    Memory(MemoryError),
    #[error(transparent)]
    Pagemap(PagemapError),
    #[error(transparent)]
    Drive(#[from] drive::DriveError),
}

/// Carry out `plan` until it is done or `stop` is set. On every way out, an error's included, the
/// mapping is removed and the device let go.
pub fn run(plan: &Plan, stop: &AtomicBool) -> Result<Report, WorkloadError> {
    let root = Path::new("/");
    let path = device::choose(root, plan.device.as_deref()).map_err(WorkloadError::CannotRun)?;
    let page = PageSize::of_system();
    let info = MemInfo::read(root)?;
    let iommufd = session::open_iommufd(&root.join("dev/iommu"))?;
    let abi = abi::detect(&iommufd)?;
    if !abi.answers() {
        return Err(WorkloadError::CannotRun(no_get_pa(abi)));
    }
    // The buffer before the device: binding resets it, which a refused size should not do.
    let region = memory::prepare(plan.memory, plan.size, plan.pin_limit, &info, page)?;
    let mut session = Session::open(iommufd, &path)?;
    let target = session.map(region, plan.iova)?;
    let abi = abi::refine(&session.iommufd, abi, target.ioas, target.start, target.size, page);
    let driven = measure(plan, &session, target, abi, info.huge_page, stop)?;
    let mut ledger = session.close()?;
    driven.tally.enter(&mut ledger);
    let device = path.display().to_string();
    Ok(Report::new(Facts { plan, device, abi, size: target.size, page, driven, ledger }))
}

fn measure(
    plan: &Plan,
    session: &Session,
    target: Target,
    abi: Abi,
    huge_page: Bytes,
    stop: &AtomicBool,
) -> Result<Driven, WorkloadError> {
    let page = PageSize::of_system();
    let oracle = match (plan.verify, session.region()) {
        (Some(addresses), Some(region)) => {
            Some(Oracle::new(pagemap::read(region, page)?, abi, target.start, addresses))
        }
        _ => None,
    };
    let job = Job {
        iommufd: &session.iommufd,
        target,
        abi,
        cap: plan.cap,
        step: plan.step,
        limit: plan.limit,
        threads: plan.threads.get(),
        page,
        huge_page,
        faults: &plan.faults,
        oracle: oracle.as_ref(),
        stop,
    };
    Ok(drive::drive(&job)?)
}

fn no_get_pa(abi: Abi) -> CannotRun {
    let (why, remedy) = match abi {
        Abi::Off => (
            "this kernel's iommufd is built without CONFIG_IOMMUFD_NOIOMMU: GET_PA gives EOPNOTSUPP",
            "a kernel with CONFIG_VFIO_NOIOMMU and CONFIG_VFIO_DEVICE_CDEV, which select it",
        ),
        Abi::NotPermitted => (
            "CAP_SYS_RAWIO is missing in the initial user namespace: GET_PA gives EPERM",
            "run as root on the host, or give the process CAP_SYS_RAWIO",
        ),
        _ => ("this kernel's iommufd does not know GET_PA: it gives ENOTTY", "Linux 7.3 or newer"),
    };
    CannotRun {
        what: "cannot drive GET_PA on this machine".to_owned(),
        why: why.to_owned(),
        remedy: remedy.to_owned(),
    }
}

impl From<SessionError> for WorkloadError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::CannotRun(cannot) => Self::CannotRun(cannot),
            other => Self::Session(other),
        }
    }
}

impl From<MemoryError> for WorkloadError {
    fn from(error: MemoryError) -> Self {
        let remedy = match &error {
            MemoryError::HugePages { pool_wanted, .. } => {
                format!("`echo {pool_wanted} > /proc/sys/vm/nr_hugepages`, then look at what it reads back")
            }
            MemoryError::PinLimit { .. } => {
                "a smaller --size, or a larger --pin-limit where the machine can spare it".to_owned()
            }
            _ => return Self::Memory(error),
        };
        let what = "cannot pin the buffer".to_owned();
        Self::CannotRun(CannotRun { what, why: error.to_string(), remedy })
    }
}

impl From<PagemapError> for WorkloadError {
    fn from(error: PagemapError) -> Self {
        match error {
            PagemapError::Hidden => Self::CannotRun(CannotRun {
                what: "cannot verify the answers".to_owned(),
                why: error.to_string(),
                remedy: "give the process CAP_SYS_ADMIN, or leave --verify out".to_owned(),
            }),
            other => Self::Pagemap(other),
        }
    }
}
