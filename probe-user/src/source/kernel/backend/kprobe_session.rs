//! By kprobe sessions, over the function graph tracer; also in modules.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};

use probe_common::site::{SITES, Site};

use super::super::bpf::{self, AttachType};
use super::super::misses::{self, Misses, RunTime, recursion_misses};
use super::super::{Config, Programs, SourceError};
use super::loader::Loader;

/// The programs of all sites.
pub(in super::super) struct Sessions(Vec<Session>);

struct Session {
    site: &'static Site,
    name: &'static str,
    program: OwnedFd,
    /// Closing it detaches.
    link: OwnedFd,
}

pub(super) fn attach(
    programs: &Programs,
    config: &Config,
    attached: &mut dyn FnMut(),
) -> Result<Sessions, SourceError> {
    let loader = Loader::new(programs)?;
    let load = |site: &'static Site| {
        let name = if config.needs_extra() { site.kprobe_session_extra } else { site.kprobe_session };
        let program = loader.load(site, AttachType::KprobeSession, name)?;
        Ok((site, name, program))
    };
    let programs = SITES.iter().map(load).collect::<Result<Vec<_>, SourceError>>()?;
    let link = |(site, name, program)| Session::link(site, name, program).inspect(|_| attached());
    programs.into_iter().map(link).collect::<Result<_, _>>().map(Sessions)
}

impl Sessions {
    pub(super) fn misses(&self) -> Result<Vec<Misses>, SourceError> {
        self.0.iter().map(Session::misses).collect()
    }

    pub(super) fn run_times(&self) -> Result<Vec<(&'static str, RunTime)>, SourceError> {
        self.0.iter().map(|session| Ok((session.name, misses::run_time(session.program.as_fd())?))).collect()
    }

    pub(super) fn detach(&mut self) {
        self.0.clear();
        // As for trampolines.
        let _ = bpf::wait_for_readers();
    }
}

impl Session {
    fn link(site: &'static Site, name: &'static str, program: OwnedFd) -> Result<Self, SourceError> {
        let failed = |source: std::io::Error| SourceError::Attach {
            program: AttachType::KprobeSession.name(),
            symbol: site.symbol.to_owned(),
            source: Box::new(source),
        };
        let symbol = CString::new(site.symbol).map_err(|error| failed(error.into()))?;
        let link = bpf::link_session(program.as_fd(), &symbol).map_err(failed)?;
        Ok(Self { site, name, program, link })
    }

    /// The link's `missed:` are calls that found no room on their thread's shadow stack
    /// (`fprobe_fgraph_entry`, `kernel/trace/fprobe.c`), the program's `recursion_misses:` entries or
    /// returns at which a program of the same kind was running on the CPU (`kprobe_multi_link_prog_run`,
    /// `kernel/trace/bpf_trace.c`, Linux 7.3).
    fn misses(&self) -> Result<Misses, SourceError> {
        let site = self.site.name;
        let whole = misses::link_missed(self.link.as_fd(), site)?;
        Ok(Misses { call: whole + recursion_misses(self.program.as_fd(), site)?, ..Misses::default() })
    }
}
