//! One site's programs on one function at a time: the calibration's probes.
//!
//! They go where the recording's go, and also to functions that are not theirs: a site's programs measure any
//! function, and what they count of it means nothing.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};

use probe_common::site::{Backend, SiteId};

use super::super::bpf::{self, AttachType, Place};
use super::super::{Config, Programs, SourceError};
use super::loader::{self, Loader};
use super::{kprobe, trampoline};

/// The function of a known, short time: three arguments like the dispatch, and it adds them up
/// (`net/bpf/test_run.c`, since Linux 5.5). Only BPF's own tests call it.
const REFERENCE: &str = "bpf_fentry_test3";

/// Where programs are put.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Spot {
    Site(SiteId),
    /// The kernel's function for tests.
    Reference,
}

/// Programs in their place; dropping takes them off.
pub(in super::super) struct Held {
    _links: Vec<OwnedFd>,
    _kprobes: Option<kprobe::SiteProbes>,
}

/// Programs that can be put somewhere.
pub(in super::super) struct Stage<'a> {
    programs: &'a mut Programs,
    config: &'a Config,
    /// `None` for kprobes, which aya loads.
    loader: Option<Loader>,
    /// Sessions are loaded once, for whichever function.
    sessions: BTreeMap<SiteId, OwnedFd>,
    kprobes: Vec<SiteId>,
    /// The reference's place, for programs that are loaded for it.
    reference: Place<'static>,
}

impl<'a> Stage<'a> {
    pub(in super::super) fn new(programs: &'a mut Programs, config: &'a Config) -> Result<Self, SourceError> {
        let loader = match config.backend {
            Backend::Fsession | Backend::Fentry => Some(Loader::for_functions(programs, config.module)?),
            Backend::KprobeSession => Some(Loader::new(programs)?),
            Backend::Kprobe => None,
        };
        let reference = loader::place_in_kernel(programs, REFERENCE)?;
        Ok(Self { programs, config, loader, sessions: BTreeMap::new(), kprobes: Vec::new(), reference })
    }

    /// Put a site's programs on a function.
    pub(in super::super) fn put(&mut self, site: SiteId, on: Spot) -> Result<Held, SourceError> {
        let Some(loader) = &self.loader else { return self.put_kprobes(site, on) };
        if self.config.backend == Backend::KprobeSession {
            if !self.sessions.contains_key(&site) {
                let row = site.row();
                let extra = self.config.needs_extra();
                let name = if extra { row.kprobe_session_extra } else { row.kprobe_session };
                self.sessions.insert(site, loader.load_at(None, AttachType::KprobeSession, name)?);
            }
            let program = &self.sessions[&site];
            let symbol = CString::new(symbol(on)).map_err(|error| refused(on, error.into()))?;
            let link = bpf::link_session(program.as_fd(), &symbol).map_err(|error| refused(on, error))?;
            return Ok(Held { _links: vec![link], _kprobes: None });
        }
        let place = match on {
            Spot::Site(on) => loader.place(on.row())?,
            Spot::Reference => Some(self.reference),
        };
        let mut links = Vec::new();
        for (attach, name) in trampoline::programs_of(site.row(), self.config) {
            let program = loader.load_at(place, attach, name)?;
            links.push(bpf::link(program.as_fd(), attach).map_err(|error| refused(on, error))?);
        }
        Ok(Held { _links: links, _kprobes: None })
    }

    fn put_kprobes(&mut self, site: SiteId, on: Spot) -> Result<Held, SourceError> {
        if !self.kprobes.contains(&site) {
            kprobe::load(self.programs, site.row())?;
            self.kprobes.push(site);
        }
        let symbol = match on {
            Spot::Site(on) => kprobe::symbol(on.row(), self.config.module),
            Spot::Reference => REFERENCE.to_owned(),
        };
        let probes = kprobe::attach_site(self.programs, site.row(), &symbol)?;
        Ok(Held { _links: Vec::new(), _kprobes: Some(probes) })
    }

    /// Have the kernel call the reference a number of times.
    pub(in super::super) fn reference(&self) -> Result<Reference, SourceError> {
        let refused = |source| SourceError::Program { program: "idle", source: Box::new(source) };
        bpf::load_idle(self.reference).map(Reference).map_err(refused)
    }
}

/// Who calls the reference: a program that is nowhere attached.
pub(in super::super) struct Reference(OwnedFd);

impl Reference {
    pub(in super::super) fn call(&self, times: u32) -> std::io::Result<()> {
        (0..times).try_for_each(|_| bpf::run_tests(self.0.as_fd()))
    }
}

fn symbol(on: Spot) -> &'static str {
    match on {
        Spot::Site(site) => site.row().symbol,
        Spot::Reference => REFERENCE,
    }
}

fn refused(on: Spot, source: std::io::Error) -> SourceError {
    SourceError::Attach { program: "calibration", symbol: symbol(on).to_owned(), source: Box::new(source) }
}
