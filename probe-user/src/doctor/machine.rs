//! Every fact the checks need, looked up once. After that nothing reads the machine.

use std::io::BufReader;

use crate::btf::Btf;
use crate::workload::abi::Abi;
use crate::workload::device::{self, Findings};
use crate::workload::rights::{Capabilities, Capability};

use super::config::{Config, Setting};
use super::host::Host;
use super::refusal::Trials;
use super::symbols::{DISPATCH, GET_PHYS, Symbols};

/// Where iommufd is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    BuiltIn,
    Module,
    /// A module that is not loaded.
    Available,
    /// The kernel's config says it was not built.
    NotBuilt,
    /// Not in the kernel, and nothing says whether it could be.
    Absent,
}

/// What lockdown forbids (`security/lockdown/lockdown.c`, Linux 7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lockdown {
    /// Off, or not in this kernel.
    None,
    Integrity,
    /// Helpers that read kernel memory are refused, and with them programs of kprobes.
    Confidentiality,
}

/// The kprobes switch in debugfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kprobes {
    On,
    Off,
    /// debugfs is not mounted or not readable.
    Unknown,
}

/// BTF, which trampolines need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "facts, each of its own")]
pub struct BtfFacts {
    pub vmlinux: bool,
    /// iommufd's own, where it is a module.
    pub iommufd: bool,
    /// Both functions are described, wherever they are; `None`: could not be read.
    pub functions: Option<bool>,
    /// The kernel names `BPF_TRACE_FSESSION` (Linux 7.0).
    pub fsession: bool,
    /// The kernel names `BPF_TRACE_KPROBE_SESSION` (Linux 6.10).
    pub kprobe_session: bool,
}

/// This machine, as far as iovascope cares.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "facts, each of its own")]
pub struct Machine {
    pub release: String,
    pub presence: Presence,
    /// The module that holds the probed functions; `None` where they are built in.
    pub module: Option<&'static str>,
    pub config: Option<Config>,
    /// `None`: `/proc/kallsyms` could not be read.
    pub symbols: Option<Symbols>,
    /// `None`: not asked, or not answered.
    pub abi: Option<Abi>,
    pub btf: BtfFacts,
    /// `None`: `/proc/self/status` could not be read.
    pub capabilities: Option<Capabilities>,
    /// `None`: no such sysctl.
    pub paranoid: Option<i32>,
    pub lockdown: Lockdown,
    pub kprobes: Kprobes,
    /// Which of the probed functions kprobes may not touch.
    pub blacklisted: Vec<&'static str>,
    /// perf can make kprobes.
    pub kprobe_pmu: bool,
    pub findings: Findings,
    /// The process is in a user namespace other than the initial one: its capabilities are none of the kernel's.
    pub user_namespace: bool,
    /// A filter of system calls is in force.
    pub seccomp: bool,
    /// `/sys` is there.
    pub sysfs: bool,
    /// Backends that were tried; empty where none was, as in a tree of files.
    pub trials: Trials,
}

impl Machine {
    pub fn look(host: &Host) -> Self {
        let release = host.text("proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let config = Config::of(host, &release);
        let symbols =
            host.open("proc/kallsyms").ok().and_then(|file| Symbols::parse(BufReader::new(file)).ok());
        let presence = presence(host, &release, symbols.as_ref(), config.as_ref());
        let in_kernel = matches!(presence, Presence::BuiltIn | Presence::Module);
        Self {
            presence,
            module: (presence == Presence::Module).then_some("iommufd"),
            abi: in_kernel.then(|| host.abi()).flatten(),
            btf: btf_facts(host, presence),
            capabilities: Capabilities::read(host.root()).ok(),
            paranoid: number(host, "proc/sys/kernel/perf_event_paranoid"),
            lockdown: lockdown(host),
            kprobes: match number(host, "sys/kernel/debug/kprobes/enabled") {
                Some(0) => Kprobes::Off,
                Some(_) => Kprobes::On,
                None => Kprobes::Unknown,
            },
            blacklisted: blacklisted(host),
            kprobe_pmu: host.exists("sys/bus/event_source/devices/kprobe/type"),
            findings: device::find(host.root()),
            user_namespace: host.link("proc/self/ns/user").is_some_and(|name| name != INITIAL_USER_NAMESPACE),
            seccomp: host.text("proc/self/status").is_ok_and(|status| is_filtered(&status)),
            sysfs: host.exists("sys/kernel"),
            trials: Trials::new(),
            release,
            config,
            symbols,
        }
    }

    /// Whether the process may do what `capability` allows; `CAP_SYS_ADMIN` stands in for BPF and PERFMON
    /// as in the kernel. Those of another user namespace are none; unknown ones count as held: the kernel will say.
    pub fn may(&self, capability: Capability) -> bool {
        if self.user_namespace {
            return false;
        }
        let Some(held) = self.capabilities else {
            return true;
        };
        let stand_in = matches!(capability, Capability::Bpf | Capability::Perfmon);
        held.has(capability) || (stand_in && held.has(Capability::SysAdmin))
    }
}

/// `PROC_USER_INIT_INO` (include/uapi/linux/nsfs.h and `include/linux/proc_ns.h`, Linux 7.3).
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";

/// `SECCOMP_MODE_FILTER` (include/uapi/linux/seccomp.h).
fn is_filtered(status: &str) -> bool {
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

fn number(host: &Host, path: &str) -> Option<i32> {
    host.text(path).ok()?.trim().parse().ok()
}

fn presence(host: &Host, release: &str, symbols: Option<&Symbols>, config: Option<&Config>) -> Presence {
    if let Some(dispatch) = symbols.map(|symbols| &symbols.dispatch)
        && dispatch.count > 0
    {
        return if dispatch.modules.is_empty() { Presence::BuiltIn } else { Presence::Module };
    }
    // A loaded module's folder has a refcnt; a built-in one's has parameters at most.
    if host.exists("sys/module/iommufd/refcnt") {
        return Presence::Module;
    }
    let lists = |file: &str| {
        host.text(&format!("lib/modules/{release}/{file}"))
            .is_ok_and(|text| text.lines().any(|line| line.contains("/iommufd.ko")))
    };
    if lists("modules.builtin") {
        return Presence::BuiltIn;
    }
    if lists("modules.dep") {
        return Presence::Available;
    }
    match config.map(|config| config.setting("IOMMUFD")) {
        Some(Setting::BuiltIn) => Presence::BuiltIn,
        Some(Setting::Off) => Presence::NotBuilt,
        Some(Setting::Module) | None => Presence::Absent,
    }
}

fn btf_facts(host: &Host, presence: Presence) -> BtfFacts {
    let kernel_bytes = host.bytes("sys/kernel/btf/vmlinux").ok();
    let module_bytes = host.bytes("sys/kernel/btf/iommufd").ok();
    let kernel = kernel_bytes.as_deref().and_then(|bytes| Btf::parse(bytes).ok());
    let module = module_bytes.as_deref().and_then(|bytes| Btf::parse(bytes).ok());
    let wanted = [DISPATCH, GET_PHYS];
    let found = match (presence, &kernel, &module) {
        (Presence::BuiltIn, Some(kernel), _) => kernel.functions(None, &wanted).ok(),
        (Presence::Module, Some(kernel), Some(module)) => module.functions(Some(kernel), &wanted).ok(),
        _ => None,
    };
    BtfFacts {
        vmlinux: kernel_bytes.is_some(),
        iommufd: module_bytes.is_some(),
        functions: found.map(|found| found.len() == wanted.len()),
        fsession: kernel.as_ref().is_some_and(|kernel| kernel.has_string("BPF_TRACE_FSESSION")),
        kprobe_session: kernel.is_some_and(|kernel| kernel.has_string("BPF_TRACE_KPROBE_SESSION")),
    }
}

fn lockdown(host: &Host) -> Lockdown {
    // "none [integrity] confidentiality": the brackets mark the level.
    let text = host.text("sys/kernel/security/lockdown").unwrap_or_default();
    if text.contains("[confidentiality]") {
        Lockdown::Confidentiality
    } else if text.contains("[integrity]") {
        Lockdown::Integrity
    } else {
        Lockdown::None
    }
}

fn blacklisted(host: &Host) -> Vec<&'static str> {
    // "0xffff…-0xffff…<tab>name"
    let text = host.text("sys/kernel/debug/kprobes/blacklist").unwrap_or_default();
    [DISPATCH, GET_PHYS]
        .into_iter()
        .filter(|name| text.lines().any(|line| line.split_whitespace().next_back() == Some(name)))
        .collect()
}
