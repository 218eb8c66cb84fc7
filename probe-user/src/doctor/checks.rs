//! What `iovascope doctor` shows: one line per thing looked at.
//!
//! Pure; which obstacles count is decided in `verdict`, this only tells.

use probe_common::site::Backend;
use probe_model::clock::Clock;
use probe_model::unit;
use serde::Serialize;

use crate::workload::abi::Abi;
use crate::workload::device::UnsafeMode;
use crate::workload::rights::Capability;

use super::machine::{Kprobes, Lockdown, Machine, Presence};
use super::symbols::{DISPATCH, GET_PHYS, Symbol};
use super::verdict;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Ok,
    Missing,
    Unknown,
    /// Missing, and nothing here depends on it.
    NotNeeded,
    /// There, and too coarse for what most latencies are.
    Coarse,
}

/// Which use of iovascope asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    Both,
    Record,
    Load,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub need: Need,
    pub state: State,
    pub finding: String,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::NotNeeded => "not needed",
            Self::Coarse => "coarse",
        }
    }
}

/// All checks, causes before consequences.
pub fn all(machine: &Machine) -> Vec<Check> {
    let mut checks = vec![kernel(machine), iommufd(machine)];
    checks.extend(symbols(machine));
    checks.push(abi(machine));
    checks
        .extend([Capability::Bpf, Capability::Perfmon].map(|which| capability(machine, which, Need::Record)));
    checks.push(sys_admin(machine));
    checks.push(lockdown(machine));
    checks.extend([
        btf(machine),
        fsession(machine),
        kprobe_session(machine),
        kprobe_pmu(machine),
        kprobes(machine),
        paranoid(machine),
    ]);
    checks.extend(Backend::ALL.into_iter().filter_map(|backend| trial(machine, backend)));
    checks.push(capability(machine, Capability::SysRawio, Need::Load));
    checks.extend([unsafe_mode(machine), devices(machine)]);
    checks
}

fn check(name: &'static str, need: Need, state: State, finding: impl Into<String>) -> Check {
    Check { name, need, state, finding: finding.into() }
}

/// What `backend` lacks is missing only where no other way is open.
fn lacking(machine: &Machine, backend: Backend) -> State {
    let others = verdict::ways(machine).iter().any(|open| *open != backend);
    if others { State::NotNeeded } else { State::Missing }
}

fn kernel(machine: &Machine) -> Check {
    let release = &machine.release;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (7, 3) => {
            check("kernel", Need::Both, State::Ok, format!("Linux {release}; GET_PA came with 7.3"))
        }
        (Some(Ok(_)), Some(Ok(_))) => check(
            "kernel",
            Need::Both,
            State::Unknown,
            format!(
                "Linux {release} is older than 7.3, which brought GET_PA; a kernel may have it backported"
            ),
        ),
        _ => check("kernel", Need::Both, State::Unknown, "its release cannot be read"),
    }
}

fn iommufd(machine: &Machine) -> Check {
    let (state, finding) = match machine.presence {
        Presence::BuiltIn => (State::Ok, "built in"),
        Presence::Module => (State::Ok, "loaded as a module"),
        Presence::Available => (State::Missing, "a module that is not loaded: modprobe iommufd"),
        Presence::NotBuilt => (State::Missing, "this kernel is built without CONFIG_IOMMUFD"),
        Presence::Absent => (State::Missing, "not in the kernel, and no module of it was found"),
    };
    let node = if machine.findings.iommufd_node { "" } else { "; there is no /dev/iommu" };
    check("iommufd", Need::Both, state, format!("{finding}{node}"))
}

fn symbols(machine: &Machine) -> Vec<Check> {
    let Some(symbols) = &machine.symbols else {
        return vec![check("symbols", Need::Record, State::Unknown, "/proc/kallsyms cannot be read")];
    };
    [(DISPATCH, &symbols.dispatch), (GET_PHYS, &symbols.get_phys)]
        .map(|(name, symbol)| {
            let state = if symbol.count > 0 { State::Ok } else { State::Missing };
            check(name, Need::Record, state, describe(symbol))
        })
        .into()
}

fn describe(symbol: &Symbol) -> String {
    let place = match symbol.modules.as_slice() {
        [] => "in the kernel".to_owned(),
        modules => format!("in {}", modules.join(", ")),
    };
    match (symbol.count, symbol.variants.as_slice()) {
        (0, []) => "not in /proc/kallsyms".to_owned(),
        (0, variants) => format!("only {}", variants.join(", ")),
        (1, _) => place,
        (count, _) => format!("{count} of them, {place}"),
    }
}

fn abi(machine: &Machine) -> Check {
    let state = match machine.abi {
        Some(abi) if abi.answers() => State::Ok,
        Some(Abi::NotPermitted) | None => State::Unknown,
        Some(_) => State::Missing,
    };
    let finding = machine.abi.map_or("not asked: no iommufd to ask", Abi::describe);
    check("GET_PA", Need::Both, state, finding)
}

fn capability(machine: &Machine, capability: Capability, need: Need) -> Check {
    let (state, finding) = match machine.capabilities {
        None => (State::Unknown, "/proc/self/status cannot be read"),
        Some(_) if machine.may(capability) => (State::Ok, "held"),
        Some(_) if machine.user_namespace => (State::Missing, "not held in the initial user namespace"),
        Some(_) => (State::Missing, "not held"),
    };
    check(capability.name(), need, state, finding)
}

fn sys_admin(machine: &Machine) -> Check {
    let name = Capability::SysAdmin.name();
    let Some(held) = machine.capabilities else {
        return check(name, Need::Record, State::Unknown, "/proc/self/status cannot be read");
    };
    if held.has(Capability::SysAdmin) && !machine.user_namespace {
        return check(name, Need::Record, State::Ok, "held");
    }
    let shut = verdict::record(machine).obstacles.iter().any(|obstacle| obstacle.why.contains(name));
    let state = if shut { State::Missing } else { State::NotNeeded };
    check(
        name,
        Need::Record,
        state,
        "not held; trampolines into a module and Debian's perf_event_open ask for it",
    )
}

fn lockdown(machine: &Machine) -> Check {
    let (state, finding) = match machine.lockdown {
        Lockdown::None => (State::Ok, "off"),
        Lockdown::Integrity => (State::Ok, "integrity, which allows tracing"),
        Lockdown::Confidentiality => (
            lacking(machine, Backend::Kprobe),
            "confidentiality, which forbids the programs of kprobes alone",
        ),
    };
    check("lockdown", Need::Record, state, finding)
}

fn btf(machine: &Machine) -> Check {
    let facts = machine.btf;
    let module = machine.presence == Presence::Module;
    match (facts.vmlinux, module && !facts.iommufd, facts.functions) {
        (false, ..) => {
            check("BTF", Need::Record, lacking(machine, Backend::Fentry), "no /sys/kernel/btf/vmlinux")
        }
        (_, true, _) => check(
            "BTF",
            Need::Record,
            lacking(machine, Backend::Fentry),
            "no /sys/kernel/btf/iommufd for the module",
        ),
        (.., Some(false)) => check(
            "BTF",
            Need::Record,
            lacking(machine, Backend::Fentry),
            "does not describe the probed functions",
        ),
        (.., Some(true)) => check("BTF", Need::Record, State::Ok, "describes both functions"),
        (.., None) => {
            check("BTF", Need::Record, State::Unknown, "of the kernel only; iommufd is not there to look at")
        }
    }
}

fn fsession(machine: &Machine) -> Check {
    let (state, finding) = if machine.btf.fsession {
        (State::Ok, "the kernel has it")
    } else {
        (lacking(machine, Backend::Fsession), "not in this kernel's BTF")
    };
    check("fsession", Need::Record, state, finding)
}

fn kprobe_session(machine: &Machine) -> Check {
    let (state, finding) = if machine.btf.kprobe_session {
        (State::Ok, "the kernel has it")
    } else {
        (lacking(machine, Backend::KprobeSession), "not in this kernel's BTF")
    };
    check("kprobe session", Need::Record, state, finding)
}

/// What happened when a backend was tried.
fn trial(machine: &Machine, backend: Backend) -> Option<Check> {
    let name = match backend {
        Backend::Fsession => "tried fsession",
        Backend::Fentry => "tried fentry",
        Backend::KprobeSession => "tried kprobe-session",
        Backend::Kprobe => "tried kprobe",
    };
    let (state, finding) = match machine.trials.get(&backend)? {
        Ok(()) => (State::Ok, "attached to both functions, and taken off".to_owned()),
        Err(refusal) => {
            (lacking(machine, backend), refusal.what.lines().next().unwrap_or_default().to_owned())
        }
    };
    Some(check(name, Need::Record, state, finding))
}

fn kprobe_pmu(machine: &Machine) -> Check {
    let (state, finding) = if machine.kprobe_pmu {
        (State::Ok, "perf can make them")
    } else {
        (lacking(machine, Backend::Kprobe), "no /sys/bus/event_source/devices/kprobe")
    };
    check("kprobe events", Need::Record, state, finding)
}

fn kprobes(machine: &Machine) -> Check {
    let lacking = || lacking(machine, Backend::Kprobe);
    let (state, finding) = match (machine.kprobes, machine.blacklisted.as_slice()) {
        (Kprobes::Off, _) => (lacking(), "switched off in /sys/kernel/debug/kprobes/enabled".to_owned()),
        (_, [_, ..]) => (lacking(), format!("blacklisted: {}", machine.blacklisted.join(", "))),
        (Kprobes::On, []) => (State::Ok, "on, and both functions may be probed".to_owned()),
        (Kprobes::Unknown, []) => (State::Unknown, "/sys/kernel/debug/kprobes cannot be read".to_owned()),
    };
    check("kprobes", Need::Record, state, finding)
}

fn paranoid(machine: &Machine) -> Check {
    const NAME: &str = "perf_event_paranoid";
    match machine.paranoid {
        None => check(NAME, Need::Record, State::Unknown, "no such sysctl: a kernel without perf events"),
        Some(level) if level > 2 && !machine.may(Capability::SysAdmin) => check(
            NAME,
            Need::Record,
            lacking(machine, Backend::Kprobe),
            format!("{level}: on Debian's kernels kprobes then need CAP_SYS_ADMIN"),
        ),
        Some(level) => check(NAME, Need::Record, State::Ok, level.to_string()),
    }
}

/// A step of the clock from which on it cannot time a scan of one page, ns.
const COARSE: u64 = 100;

/// The clock of latencies.
pub fn clock(clock: &Clock) -> Check {
    let source = &clock.source;
    let (state, finding) = match clock.step {
        None => (State::Unknown, format!("{source}; it did not move while it was looked at")),
        Some(step) if step >= COARSE => {
            let step = unit::nanos(step);
            let finding = format!("{source}, in steps of {step}: what is faster is shown as less than that");
            (State::Coarse, finding)
        }
        Some(step) => (State::Ok, format!("{source}, in steps of {}", unit::nanos(step))),
    };
    check("clock", Need::Both, state, finding)
}

fn unsafe_mode(machine: &Machine) -> Check {
    let (state, finding) = match machine.findings.unsafe_mode {
        UnsafeMode::On => (State::Ok, "on"),
        UnsafeMode::Off => (State::Missing, "off in /sys/module/vfio/parameters/enable_unsafe_noiommu_mode"),
        UnsafeMode::Unavailable => (State::Missing, "vfio has no such parameter: CONFIG_VFIO_NOIOMMU is off"),
        UnsafeMode::NoVfio => (State::Missing, "vfio is not loaded"),
    };
    check("unsafe no-IOMMU mode", Need::Load, state, finding)
}

fn devices(machine: &Machine) -> Check {
    let findings = &machine.findings;
    let names: Vec<String> = findings.devices.iter().map(|path| path.display().to_string()).collect();
    let (state, finding) = match (names.as_slice(), findings.behind_iommu) {
        ([], 0) => (State::Missing, "none in /dev/vfio/devices".to_owned()),
        ([], count) => (State::Missing, format!("none; {count} device(s) are behind an IOMMU")),
        (names, _) => (State::Ok, names.join(", ")),
    };
    check("no-IOMMU device", Need::Load, state, finding)
}
