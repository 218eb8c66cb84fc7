//! What the kernel said when a backend was tried, and what to do about it.
//!
//! Pure: a trial is someone else's. Facts of the machine explain a refusal, and never replace it: what works, works.

use std::collections::BTreeMap;

use probe_common::site::Backend;

use super::machine::{Lockdown, Machine};
use super::verdict::{Obstacle, obstacle};

/// Why a backend could not be attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// All of it, for people.
    pub what: String,
    /// The kernel's error number, where it is the kernel's refusal.
    pub errno: Option<i32>,
}

/// Backends that were tried: attached and taken off at once.
pub type Trials = BTreeMap<Backend, Result<(), Refusal>>;

impl Refusal {
    /// The kernel said that the process may not.
    pub fn is_denied(&self) -> bool {
        matches!(self.errno, Some(libc::EPERM | libc::EACCES))
    }
}

/// Capabilities of another user namespace are none for tracing.
pub fn user_namespace() -> Obstacle {
    obstacle(
        "this is a user namespace, and the kernel grants tracing by BPF in the initial one only",
        "run it as root outside of the container, or in one without a user namespace",
    )
}

/// Programs of kprobes read the kernel's memory by a helper that lockdown refuses (`LOCKDOWN_BPF_READ_KERNEL`,
/// `kernel/trace/bpf_trace.c`, Linux 7.3), the others' by typed loads.
pub fn locked_down() -> Obstacle {
    obstacle(
        "the kernel is locked down to confidentiality: programs of kprobes may not read its memory",
        "fsession, fentry or kprobe-session, whose programs may; or boot with lockdown=integrity",
    )
}

/// What a refusal means on this machine.
pub fn explain(machine: &Machine, backend: Backend, refusal: &Refusal) -> Obstacle {
    let (name, what) = (backend.name(), refusal.what.lines().next().unwrap_or_default());
    let is_denied = refusal.is_denied();
    let is_filtered = is_denied || refusal.errno == Some(libc::ENOSYS);
    if is_denied && machine.user_namespace {
        return user_namespace();
    }
    if is_filtered && machine.seccomp {
        return obstacle(
            &format!(
                "a filter of system calls (seccomp) is in force, and one that attaching needs is refused: {what}"
            ),
            "allow bpf and perf_event_open, or run it without the filter (docker and podman: \
             --security-opt seccomp=unconfined)",
        );
    }
    // To the verifier a helper that lockdown takes away is an unknown one.
    let is_invalid = refusal.errno == Some(libc::EINVAL);
    if (is_denied || is_invalid)
        && backend == Backend::Kprobe
        && machine.lockdown == Lockdown::Confidentiality
    {
        return locked_down();
    }
    match refusal.errno {
        Some(libc::ENOMEM | libc::ENOSPC) => obstacle(
            &format!("there is no room for {name} in the kernel: {what}"),
            "free memory, or raise the memory limit of the process's control group",
        ),
        Some(libc::EMFILE | libc::ENFILE) => {
            obstacle(&format!("no file descriptors are left for {name}: {what}"), "raise `ulimit -n`")
        }
        Some(libc::ENOSYS) => obstacle(
            &format!("this kernel has no bpf(2) or perf_event_open(2): {what}"),
            "a kernel with CONFIG_BPF_SYSCALL and CONFIG_PERF_EVENTS",
        ),
        Some(libc::EPERM | libc::EACCES) => obstacle(
            &format!("the kernel did not permit {name}: {what}"),
            "run as root of the machine; a security module (`dmesg`) may also forbid it",
        ),
        _ => obstacle(
            &format!("{name} was tried and refused: {what}"),
            "another backend (--backend); please report this, with the file that the message names, if it names one",
        ),
    }
}
