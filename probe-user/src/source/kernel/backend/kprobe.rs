//! By kprobe and kretprobe, which aya makes through `perf_event_open`.

use aya::programs::KProbe;
use aya::programs::links::FdLink;
use probe_common::site::{SITES, Site};

use super::super::misses::{FdInfo, Misses, RunTime};
use super::super::verifier::refused;
use super::super::{Programs, SourceError};

/// The two attached programs of one site.
pub(in super::super) struct SiteProbes {
    site: &'static Site,
    entry: Probe,
    exit: Probe,
}

/// One attached program.
struct Probe {
    name: &'static str,
    /// The kernel's id of the program.
    program: u32,
    /// The kernel's id of the link.
    link: u32,
    _attached: FdLink,
}

pub(super) fn attach(
    programs: &mut Programs,
    module: Option<&str>,
    attached: &mut dyn FnMut(),
) -> Result<Vec<SiteProbes>, SourceError> {
    for site in &SITES {
        load(programs, site)?;
    }
    let mut attach =
        |site: &'static Site| attach_site(programs, site, &symbol(site, module)).inspect(|_| attached());
    SITES.iter().map(&mut attach).collect()
}

pub(super) fn load(programs: &mut Programs, site: &Site) -> Result<(), SourceError> {
    for name in [site.kprobe.entry, site.kprobe.exit] {
        programs.kprobe(name)?.load().map_err(refused(name))?;
    }
    Ok(())
}

/// The site's function. A bare name would find one of the same name in vmlinux first (`trace_kprobe.c`,
/// Linux 7.3).
pub(super) fn symbol(site: &Site, module: Option<&str>) -> String {
    match module {
        Some(module) => format!("{module}:{}", site.symbol),
        None => site.symbol.to_owned(),
    }
}

/// Attach the return program first: a call that begins in between then shows up as a return without
/// an entry, which is counted, and not as a call that never returns.
pub(super) fn attach_site(
    programs: &mut Programs,
    site: &'static Site,
    symbol: &str,
) -> Result<SiteProbes, SourceError> {
    let exit = attach_one(programs.kprobe(site.kprobe.exit)?, site.kprobe.exit, symbol)?;
    let entry = attach_one(programs.kprobe(site.kprobe.entry)?, site.kprobe.entry, symbol)?;
    Ok(SiteProbes { site, entry, exit })
}

fn attach_one(program: &mut KProbe, name: &'static str, symbol: &str) -> Result<Probe, SourceError> {
    fn failed<E: std::error::Error + Send + Sync + 'static>(
        program: &'static str,
        symbol: &str,
    ) -> impl Fn(E) -> SourceError {
        move |error| SourceError::Attach { program, symbol: symbol.to_owned(), source: Box::new(error) }
    }
    let id = program.attach(symbol, 0).map_err(failed(name, symbol))?;
    let attached = program.take_link(id).map_err(failed(name, symbol))?;
    let link = FdLink::try_from(attached).map_err(failed(name, symbol))?;
    Ok(Probe {
        name,
        program: program.info().map_err(failed(name, symbol))?.id(),
        link: link.info().map_err(failed(name, symbol))?.id(),
        _attached: link,
    })
}

impl SiteProbes {
    /// By the links' `missed:` and the programs' `recursion_misses:`. Entry and return probe of a
    /// function are children of one aggregate kprobe, whose re-entry misses are added to both
    /// (`kprobes_inc_nmissed_count`, kernel/kprobes.c, Linux 7.3): the kretprobe's own losses are its
    /// counter less the kprobe's.
    pub(super) fn misses(&self) -> Result<Misses, SourceError> {
        let fdinfo = FdInfo::of_this_process()?;
        let site = self.site.name;
        let entry = fdinfo.missed(self.entry.link, site)?;
        let exit = fdinfo.missed(self.exit.link, site)?;
        Ok(Misses {
            entry: entry + fdinfo.recursion_misses(self.entry.program, site)?,
            exit: exit.saturating_sub(entry),
            exit_recursion: fdinfo.recursion_misses(self.exit.program, site)?,
            ..Misses::default()
        })
    }
    pub(super) fn run_times(&self) -> Result<Vec<(&'static str, RunTime)>, SourceError> {
        let fdinfo = FdInfo::of_this_process()?;
        [&self.entry, &self.exit]
            .into_iter()
            .map(|probe| Ok((probe.name, fdinfo.run_time(probe.program, self.site.name)?)))
            .collect()
    }
}
