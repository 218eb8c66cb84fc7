//! The workload driver: a plan becomes a run becomes a result.
//!
//! Binds one no-IOMMU device, maps memory of its own, asks GET_PA about it, and undoes all of it.
//! Never programs DMA and never touches BARs; of configuration space it reads the command word. Changes
//! a driver binding or the no-IOMMU parameter only where it is told to ([`bind`]), and puts them back.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::exit::CannotRun;

pub mod abi;
pub mod arguments;
pub mod bind;
pub mod board;
pub mod buckets;
pub mod churn;
pub mod clock;
pub mod device;
pub mod drive;
pub mod faults;
pub mod iommufd;
pub mod lane;
pub mod library;
pub mod memory;
pub mod outcome;
pub mod pace;
pub mod pagemap;
pub mod plan;
pub mod progress;
pub mod quantity;
pub mod queries;
pub mod random;
pub mod region;
pub mod result;
pub mod rights;
pub mod session;
pub mod shape;
pub mod ticks;
pub mod verify;
pub mod via;
pub mod words;

use abi::Abi;
use drive::Ground;
use memory::MemoryError;
use pagemap::PagemapError;
use plan::Plan;
use progress::Progress;
use quantity::PageSize;
use result::{Facts, Report};
use session::{Session, SessionError};

/// How a run is stopped and watched. The observer is called on the thread that called [`run`].
pub struct Control<'a> {
    /// Set it, and the run ends in order.
    pub stop: &'a AtomicBool,
    /// Time between two snapshots.
    pub every: Duration,
    pub observe: Option<&'a dyn Fn(&Progress)>,
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
    #[error(transparent)]
    Bind(bind::BindError),
}

/// Carry out `plan` until it is done or told to stop. On every way out, an error's included, the
/// mappings are removed, the device let go, and what was changed for it put back.
pub fn run(plan: &Plan, control: &Control<'_>) -> Result<Report, WorkloadError> {
    let root = Path::new("/");
    let bound = plan.bind.as_deref().map(|address| bind::bind(root, address)).transpose()?;
    let wanted = bound.as_ref().map(bind::Bound::node).or(plan.device.as_deref());
    let report = drive_all(plan, wanted, control);
    // The device is closed by now. A run that failed has said why; else the way back must succeed.
    let undone = bound.map_or(Ok(()), bind::Bound::undo);
    let report = report?;
    undone?;
    Ok(report)
}

fn drive_all(plan: &Plan, wanted: Option<&Path>, control: &Control<'_>) -> Result<Report, WorkloadError> {
    let root = Path::new("/");
    let started = u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0);
    let path = device::choose(root, wanted).map_err(WorkloadError::CannotRun)?;
    let page = PageSize::of_system();
    let iommufd = session::open_iommufd(&root.join("dev/iommu"))?;
    let abi = abi::detect(&iommufd)?;
    if !abi.answers() {
        return Err(WorkloadError::CannotRun(no_get_pa(abi)));
    }
    // Limits before the device: binding resets it, which a refused size should not do.
    let ground = Ground { abi, page, pin_limit: plan.pin_limit, control, stages: plan.stages.len() };
    for jobs in &plan.stages {
        drive::check(jobs, &ground)?;
    }
    let mut session = Session::open(iommufd, &path)?;
    if device::bus_master(root, &path) == Some(true) {
        return Err(WorkloadError::CannotRun(CannotRun {
            what: format!("refusing to drive {}", path.display()),
            why: "the device may write memory (bus mastering is on) although vfio-pci has just reset it"
                .to_owned(),
            remedy: "choose another device".to_owned(),
        }));
    }
    let mut driven = Vec::new();
    for (number, jobs) in (1..).zip(&plan.stages) {
        if control.stop.load(Ordering::Relaxed) {
            break;
        }
        driven.extend(drive::stage(&mut session, jobs, number, &ground)?);
    }
    let bus_master = device::bus_master(root, &path);
    let ledger = session.close()?;
    let device = path.display().to_string();
    Ok(Report::new(Facts { plan, device, bus_master, abi, page, started, driven, ledger }))
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

impl From<bind::BindError> for WorkloadError {
    fn from(error: bind::BindError) -> Self {
        match error {
            bind::BindError::CannotRun(cannot) => Self::CannotRun(cannot),
            other => Self::Bind(other),
        }
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
            MemoryError::HugePages { pool_wanted, knob, .. } => {
                format!("`echo {pool_wanted} > {}`, then look at what it reads back", knob.display())
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
