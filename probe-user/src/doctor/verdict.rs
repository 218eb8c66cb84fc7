//! From facts to "can it record, can it drive", each with every obstacle in its way.
//!
//! Pure: looks at a [`Machine`] and nothing else.

use probe_common::site::Backend;
use serde::Serialize;

use crate::exit::CannotRun;
use crate::workload::abi::Abi;
use crate::workload::device::UnsafeMode;
use crate::workload::rights::Capability;

use super::machine::{Kprobes, Lockdown, Machine, Presence};
use super::refusal::{explain, locked_down, user_namespace};
use super::symbols::{DISPATCH, GET_PHYS, Symbol};

/// Something in the way, and how to remove it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    pub why: String,
    pub remedy: String,
}

/// Whether one use of iovascope is possible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub able: bool,
    pub obstacles: Vec<Obstacle>,
}

/// What keeps `backend` from attaching on `machine`, where the functions themselves are there: what the kernel lacks
/// for it; else what happened when it was tried; else what the facts let expect.
pub fn backend(machine: &Machine, backend: Backend) -> Verdict {
    let lacks = lacks(machine, backend);
    if !lacks.is_empty() {
        return Verdict::new(lacks);
    }
    let rights = rights(machine, backend);
    Verdict::new(match machine.trials.get(&backend) {
        None => rights,
        Some(Ok(())) => Vec::new(),
        Some(Err(refusal)) if refusal.is_denied() && !rights.is_empty() => rights,
        Some(Err(refusal)) => vec![explain(machine, backend, refusal)],
    })
}

/// Whether trying `backend` can tell more than the facts do.
pub fn is_worth_trying(machine: &Machine, backend: Backend) -> bool {
    lacks(machine, backend).is_empty()
}

/// What the kernel has not, whoever asks.
fn lacks(machine: &Machine, backend: Backend) -> Vec<Obstacle> {
    match backend {
        Backend::Kprobe => kprobe_obstacles(machine),
        Backend::Fentry => trampoline_obstacles(machine),
        Backend::Fsession => {
            let mut obstacles = trampoline_obstacles(machine);
            if machine.btf.vmlinux && !machine.btf.fsession {
                obstacles.push(obstacle(
                    "this kernel has no fsession programs",
                    "Linux 7.0 or newer; the other backends do the same at a higher cost",
                ));
            }
            obstacles
        }
        Backend::KprobeSession => kprobe_session_obstacles(machine),
    }
}

/// What this process may not do, as far as facts tell.
fn rights(machine: &Machine, backend: Backend) -> Vec<Obstacle> {
    let mut obstacles: Vec<Obstacle> = everywhere(machine).into_iter().collect();
    if machine.may(Capability::SysAdmin) {
    } else if matches!(backend, Backend::Fsession | Backend::Fentry) && machine.presence == Presence::Module {
        // BPF_BTF_GET_FD_BY_ID, the only way to name a module's BTF, asks for it (syscall.c, Linux 7.3).
        obstacles.push(obstacle(
            "iommufd is a module, and naming its BTF to the kernel needs CAP_SYS_ADMIN",
            "give the process CAP_SYS_ADMIN",
        ));
    } else if let (Backend::Kprobe, Some(level)) = (backend, machine.paranoid.filter(|level| *level > 2)) {
        obstacles.push(obstacle(
            &format!(
                "kernel.perf_event_paranoid is {level}: on Debian's kernels perf_event_open then needs CAP_SYS_ADMIN"
            ),
            "give the process CAP_SYS_ADMIN, or `sysctl kernel.perf_event_paranoid=2`",
        ));
    }
    if backend == Backend::Kprobe && machine.lockdown == Lockdown::Confidentiality {
        obstacles.push(locked_down());
    }
    obstacles
}

/// What every backend needs of the process.
fn everywhere(machine: &Machine) -> Option<Obstacle> {
    if machine.user_namespace {
        return Some(user_namespace());
    }
    let lacking: Vec<&str> = [Capability::Bpf, Capability::Perfmon]
        .into_iter()
        .filter(|capability| !machine.may(*capability))
        .map(Capability::name)
        .collect();
    (!lacking.is_empty()).then(|| {
        obstacle(
            &format!("{} not held", lacking.join(" and ")),
            "run as root, or give the process CAP_BPF and CAP_PERFMON",
        )
    })
}

impl Verdict {
    fn new(obstacles: Vec<Obstacle>) -> Self {
        Self { able: obstacles.is_empty(), obstacles }
    }

    /// As an error that says `what` cannot be done.
    pub fn require(&self, what: &str) -> Result<(), CannotRun> {
        if self.able {
            return Ok(());
        }
        let (what, why) = (what.to_owned(), self.why());
        Err(CannotRun { what, why, remedy: join(&self.obstacles, |obstacle| &obstacle.remedy) })
    }

    /// Every obstacle, in order.
    pub fn why(&self) -> String {
        join(&self.obstacles, |obstacle| &obstacle.why)
    }
}

/// One part of all obstacles, each text once.
fn join(obstacles: &[Obstacle], part: fn(&Obstacle) -> &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for text in obstacles.iter().map(part) {
        if !parts.contains(&text) {
            parts.push(text);
        }
    }
    parts.join("; ")
}

/// The backends that can attach, best first.
pub fn ways(machine: &Machine) -> Vec<Backend> {
    Backend::ALL.into_iter().filter(|&way| backend(machine, way).able).collect()
}

/// Can the calls of this machine be recorded? Obstacles that follow from an earlier one are left out.
pub fn record(machine: &Machine) -> Verdict {
    let possible = possible(machine);
    if !possible.able || !ways(machine).is_empty() {
        return possible;
    }
    if let Some(first) = everywhere(machine) {
        return Verdict::new(vec![first]);
    }
    let mut obstacles = Vec::new();
    for way in Backend::ALL {
        for shut in backend(machine, way).obstacles {
            if !obstacles.contains(&shut) {
                obstacles.push(shut);
            }
        }
    }
    Verdict::new(obstacles)
}

/// Is there anything to record, and the files that every backend reads?
pub fn possible(machine: &Machine) -> Verdict {
    let missing = missing_functions(machine);
    Verdict::new(missing.or_else(|| no_sysfs(machine)).into_iter().collect())
}

fn no_sysfs(machine: &Machine) -> Option<Obstacle> {
    (!machine.sysfs).then(|| {
        obstacle(
            "there is no /sys: the kernel's types, its CPUs and its kprobe events are there",
            "mount -t sysfs sysfs /sys (in a container: give it the machine's /sys)",
        )
    })
}

/// Can `iovascope load` run here?
pub fn load(machine: &Machine) -> Verdict {
    if let Some(missing) = missing_functions(machine) {
        return Verdict::new(vec![missing]);
    }
    let mut obstacles = Vec::new();
    if machine.user_namespace {
        obstacles.push(obstacle(
            "this is a user namespace, and GET_PA asks for CAP_SYS_RAWIO in the initial one",
            "run it as root outside of the container, or in one without a user namespace",
        ));
    } else if !machine.may(Capability::SysRawio) {
        obstacles
            .push(obstacle("CAP_SYS_RAWIO is missing", "run as root, or give the process CAP_SYS_RAWIO"));
    }
    let findings = &machine.findings;
    if findings.devices.is_empty() {
        obstacles.push(match findings.unsafe_mode {
            UnsafeMode::On => obstacle(
                "no no-IOMMU device is in /dev/vfio/devices",
                "bind a device that nothing uses and that has no IOMMU to vfio-pci",
            ),
            UnsafeMode::Off => obstacle(
                "vfio's unsafe no-IOMMU mode is off",
                "echo 1 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode (taints the kernel)",
            ),
            UnsafeMode::Unavailable => {
                obstacle("vfio has no no-IOMMU mode", "a kernel with CONFIG_VFIO_NOIOMMU")
            }
            UnsafeMode::NoVfio => obstacle("vfio is not loaded", "modprobe vfio-pci"),
        });
    }
    Verdict::new(obstacles)
}

/// As an error for a command that needs to record: all obstacles, in order.
pub fn require(verdict: &Verdict) -> Result<(), CannotRun> {
    verdict.require("cannot record GET_PA calls on this machine")
}

/// The first reason why the probed functions are not in the kernel.
fn missing_functions(machine: &Machine) -> Option<Obstacle> {
    const NEWER: &str =
        "a kernel >= 7.3 with CONFIG_IOMMUFD, CONFIG_VFIO_NOIOMMU and CONFIG_VFIO_DEVICE_CDEV";
    match machine.presence {
        Presence::Available => {
            return Some(obstacle("the iommufd module is there but not loaded", "modprobe iommufd"));
        }
        Presence::NotBuilt => {
            let source = machine.config.as_ref().map_or("its config", |config| &config.source);
            return Some(obstacle(&format!("this kernel is built without CONFIG_IOMMUFD ({source})"), NEWER));
        }
        Presence::Absent => {
            return Some(obstacle("this kernel has no iommufd, loaded or as a module", NEWER));
        }
        Presence::BuiltIn | Presence::Module => {}
    }
    let Some(symbols) = &machine.symbols else {
        return Some(obstacle(
            "/proc/kallsyms cannot be read",
            "a kernel with CONFIG_KALLSYMS, and /proc mounted",
        ));
    };
    missing(DISPATCH, &symbols.dispatch).map(|why| obstacle(&why, NEWER)).or_else(|| {
        let why = missing(GET_PHYS, &symbols.get_phys)?;
        let (because, remedy) = no_get_phys(machine.abi);
        Some(obstacle(&format!("{why}: {because}"), remedy))
    })
}

fn missing(name: &str, symbol: &Symbol) -> Option<String> {
    match (symbol.count, symbol.variants.first()) {
        (0, None) => Some(format!("the function {name} is not in this kernel")),
        (0, Some(variant)) => Some(format!("the compiler left only {variant} of the function {name}")),
        _ => None,
    }
}

/// Why `iopt_get_phys` alone is missing, from what the kernel answers to GET_PA.
fn no_get_phys(abi: Option<Abi>) -> (&'static str, &'static str) {
    match abi {
        Some(Abi::Off) => (
            "iommufd is built without CONFIG_IOMMUFD_NOIOMMU, and GET_PA gives EOPNOTSUPP",
            "a kernel with CONFIG_VFIO_NOIOMMU and CONFIG_VFIO_DEVICE_CDEV, which select it",
        ),
        Some(Abi::Absent) => ("iommufd is older than GET_PA, which gives ENOTTY", "Linux 7.3 or newer"),
        _ => (
            "CONFIG_IOMMUFD_NOIOMMU is off, or the kernel is older than 7.3",
            "a kernel >= 7.3 with CONFIG_VFIO_NOIOMMU and CONFIG_VFIO_DEVICE_CDEV",
        ),
    }
}

fn kprobe_obstacles(machine: &Machine) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    if !machine.kprobe_pmu {
        obstacles.push(obstacle("perf has no kprobe events", "a kernel with CONFIG_KPROBE_EVENTS"));
    }
    if machine.kprobes == Kprobes::Off {
        obstacles.push(obstacle("kprobes are switched off", "echo 1 > /sys/kernel/debug/kprobes/enabled"));
    }
    for name in &machine.blacklisted {
        obstacles
            .push(obstacle(&format!("kprobes may not touch {name}"), "a kernel that does not blacklist it"));
    }
    obstacles.extend(ambiguous(machine));
    obstacles
}

/// Its kernel functions and offsets need types; it is attached by name, without perf.
fn kprobe_session_obstacles(machine: &Machine) -> Vec<Obstacle> {
    let mut obstacles = without_types(machine);
    if machine.btf.vmlinux && !machine.btf.kprobe_session {
        obstacles
            .push(obstacle("this kernel has no kprobe sessions", "Linux 6.17 or newer with CONFIG_FPROBE"));
    }
    obstacles.extend(ambiguous(machine));
    obstacles
}

fn ambiguous(machine: &Machine) -> Option<Obstacle> {
    let duplicate = machine
        .symbols
        .iter()
        .flat_map(|symbols| [(DISPATCH, &symbols.dispatch), (GET_PHYS, &symbols.get_phys)])
        .find(|(_, symbol)| symbol.count > 1);
    duplicate.map(|(name, symbol)| {
        obstacle(
            &format!("{name} is there {} times, and a kprobe by name must be unambiguous", symbol.count),
            "fentry or fsession, which name the module",
        )
    })
}

/// What the programs that our own loader loads need to know of the kernel.
fn without_types(machine: &Machine) -> Vec<Obstacle> {
    if !machine.btf.vmlinux {
        vec![obstacle("the kernel has no BTF", "a kernel with CONFIG_DEBUG_INFO_BTF")]
    } else if machine.presence == Presence::Module && !machine.btf.iommufd {
        vec![obstacle(
            "the iommufd module has no BTF",
            "a kernel with CONFIG_DEBUG_INFO_BTF_MODULES, and an iommufd built for it",
        )]
    } else {
        Vec::new()
    }
}

fn trampoline_obstacles(machine: &Machine) -> Vec<Obstacle> {
    let mut obstacles = without_types(machine);
    if obstacles.is_empty() && machine.btf.functions == Some(false) {
        obstacles.push(obstacle("BTF does not describe the probed functions", "kprobe, which needs no BTF"));
    }
    obstacles
}

pub(super) fn obstacle(why: &str, remedy: &str) -> Obstacle {
    Obstacle { why: why.to_owned(), remedy: remedy.to_owned() }
}
