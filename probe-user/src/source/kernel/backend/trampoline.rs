//! By the trampolines of fentry, fexit and fsession, also in modules.

use std::os::fd::{AsFd as _, OwnedFd};

use probe_common::site::{Backend, SITES, Site};

use super::super::bpf::{self, AttachType};
use super::super::misses::{self, Misses, RunTime, recursion_misses};
use super::super::{Config, Programs, SourceError};
use super::loader::Loader;

/// The programs of all sites.
pub(in super::super) struct Trampolines(Vec<SitePrograms>);

struct SitePrograms {
    site: &'static Site,
    programs: Vec<(AttachType, &'static str, OwnedFd)>,
    /// Closing them detaches.
    links: Vec<OwnedFd>,
}

/// What the programs of a site are called and where they go, the ones at returns first: a call that
/// begins in between then shows up as a return without an entry, which is counted.
pub(super) fn programs_of(site: &Site, config: &Config) -> Vec<(AttachType, &'static str)> {
    let session = if config.needs_extra() { site.fsession_extra } else { site.fsession };
    match config.backend {
        Backend::Fsession => vec![(AttachType::Fsession, session)],
        _ => vec![(AttachType::Fexit, site.fentry.exit), (AttachType::Fentry, site.fentry.entry)],
    }
}

pub(super) fn attach(
    programs: &Programs,
    config: &Config,
    attached: &mut dyn FnMut(),
) -> Result<Trampolines, SourceError> {
    let loader = Loader::for_functions(programs, config.module)?;
    let load = |site: &'static Site| {
        let load = |(attach, name)| loader.load(site, attach, name).map(|fd| (attach, name, fd));
        let programs = programs_of(site, config).into_iter().map(load).collect::<Result<_, _>>()?;
        Ok(SitePrograms { site, programs, links: Vec::new() })
    };
    let mut sites = SITES.iter().map(load).collect::<Result<Vec<_>, SourceError>>()?;
    for site in &mut sites {
        site.link()?;
        attached();
    }
    Ok(Trampolines(sites))
}

impl Trampolines {
    pub(super) fn misses(&self) -> Result<Vec<Misses>, SourceError> {
        self.0.iter().map(SitePrograms::misses).collect()
    }

    pub(super) fn run_times(&self) -> Result<Vec<(&'static str, RunTime)>, SourceError> {
        let programs = self.0.iter().flat_map(|site| &site.programs);
        programs.map(|(_, name, program)| Ok((*name, misses::run_time(program.as_fd())?))).collect()
    }

    /// Detach, and wait until no CPU runs a program any more. The programs stay, for their counters.
    pub(super) fn detach(&mut self) {
        for site in &mut self.0 {
            site.links.clear();
        }
        // Programs run in RCU read-side sections (`__bpf_prog_enter_recur`, kernel/bpf/trampoline.c,
        // Linux 7.3), and this command waits for all of them (kernel/sched/membarrier.c). Where it is
        // refused, a call that returns in this instant may be missing from the last sample: it is then
        // in flight there.
        let _ = bpf::wait_for_readers();
    }
}

impl SitePrograms {
    fn link(&mut self) -> Result<(), SourceError> {
        for (attach, _, program) in &self.programs {
            let link = bpf::link(program.as_fd(), *attach).map_err(|error| SourceError::Attach {
                program: attach.name(),
                symbol: self.site.symbol.to_owned(),
                source: Box::new(error),
            })?;
            self.links.push(link);
        }
        Ok(())
    }

    /// A trampoline has no pool that could run empty: all it counts is a program that found itself
    /// running on its CPU, preempted.
    fn misses(&self) -> Result<Misses, SourceError> {
        let mut misses = Misses::default();
        for (attach, _, program) in &self.programs {
            let count = recursion_misses(program.as_fd(), self.site.name)?;
            match attach {
                AttachType::Fentry => misses.entry = count,
                AttachType::Fexit => misses.exit_recursion = count,
                AttachType::Fsession | AttachType::KprobeSession | AttachType::RawTracepoint => {
                    misses.either = count;
                }
            }
        }
        Ok(misses)
    }
}
