//! Programs onto sites, by kprobe and kretprobe.

use aya::programs::KProbe;
use aya::programs::links::FdLink;
use probe_common::site::Site;

use super::SourceError;
use super::load::Programs;

/// The two attached programs of one site. Dropping it detaches them.
pub(super) struct SiteProbes {
    pub(super) site: &'static Site,
    pub(super) entry: Probe,
    pub(super) exit: Probe,
}

/// One attached program.
pub(super) struct Probe {
    /// The kernel's id of the program.
    pub(super) program: u32,
    /// The kernel's id of the link.
    pub(super) link: u32,
    _attached: FdLink,
}

/// Attach the return program first: a call that begins in between then shows up as a return without
/// an entry, which is counted, and not as a call that never returns.
pub(super) fn attach(
    programs: &mut Programs,
    site: &'static Site,
    module: Option<&str>,
) -> Result<SiteProbes, SourceError> {
    // A bare name would find a function of the same name in vmlinux first (trace_kprobe.c, Linux 7.3).
    let symbol = match module {
        Some(module) => format!("{module}:{}", site.symbol),
        None => site.symbol.to_owned(),
    };
    let exit = attach_one(programs.program(site.return_program)?, site.return_program, &symbol)?;
    let entry = attach_one(programs.program(site.entry_program)?, site.entry_program, &symbol)?;
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
        program: program.info().map_err(failed(name, symbol))?.id(),
        link: link.info().map_err(failed(name, symbol))?.id(),
        _attached: link,
    })
}
