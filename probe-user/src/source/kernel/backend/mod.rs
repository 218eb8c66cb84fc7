//! The border between the ways to attach and everything else: attach, count what was missed, detach.
//!
//! A backend is a file here and one in `probe-ebpf/src/backend/`.

mod kprobe;
mod kprobe_session;
pub(super) mod loader;
pub(super) mod stage;
mod trampoline;

use probe_common::site::Backend;

use super::misses::{Misses, RunTime};
use super::{Config, Programs, SourceError};

/// Programs on all sites, in the order of the site table. Dropping them detaches them.
pub(super) enum Probes {
    Kprobe(Vec<kprobe::SiteProbes>),
    KprobeSession(kprobe_session::Sessions),
    Trampoline(trampoline::Trampolines),
}

impl Probes {
    /// Load the backend's programs and attach them to every site, in the order of the site table;
    /// `attached` is called after each.
    pub(super) fn attach(
        programs: &mut Programs,
        config: &Config,
        attached: &mut dyn FnMut(),
    ) -> Result<Self, SourceError> {
        match config.backend {
            Backend::Kprobe => kprobe::attach(programs, config.module, attached).map(Self::Kprobe),
            Backend::KprobeSession => {
                kprobe_session::attach(programs, config, attached).map(Self::KprobeSession)
            }
            Backend::Fentry | Backend::Fsession => {
                trampoline::attach(programs, config, attached).map(Self::Trampoline)
            }
        }
    }

    /// Runs and run time of every program, by the kernel's statistics.
    pub(super) fn run_times(&self) -> Result<Vec<(&'static str, RunTime)>, SourceError> {
        match self {
            Self::Kprobe(sites) => {
                let times: Vec<_> =
                    sites.iter().map(kprobe::SiteProbes::run_times).collect::<Result<_, _>>()?;
                Ok(times.into_iter().flatten().collect())
            }
            Self::KprobeSession(sessions) => sessions.run_times(),
            Self::Trampoline(trampolines) => trampolines.run_times(),
        }
    }

    /// What the kernel did not show to the programs so far, by site.
    pub(super) fn misses(&self) -> Result<Vec<Misses>, SourceError> {
        match self {
            Self::Kprobe(sites) => sites.iter().map(kprobe::SiteProbes::misses).collect(),
            Self::KprobeSession(sessions) => sessions.misses(),
            Self::Trampoline(trampolines) => trampolines.misses(),
        }
    }

    /// Detach. The last misses that can be known: `last` where the kernel's counters go with the probes,
    /// else those of now.
    pub(super) fn detach(&mut self, last: Vec<Misses>) -> Result<Vec<Misses>, SourceError> {
        match self {
            Self::Kprobe(sites) => {
                sites.clear();
                Ok(last)
            }
            Self::KprobeSession(sessions) => {
                sessions.detach();
                Ok(last)
            }
            Self::Trampoline(trampolines) => {
                trampolines.detach();
                trampolines.misses()
            }
        }
    }
}
