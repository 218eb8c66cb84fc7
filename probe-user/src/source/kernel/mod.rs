//! The kernel as a source: our programs on the two sites.
//!
//! The only folder that has heard of aya, and one of the few with `unsafe`. What it attaches is owned
//! by file descriptors: the kernel removes everything when the process ends, however it ends.

mod backend;
mod bpf;
mod load;
mod logs;
mod mapping;
mod misses;
mod read;
#[cfg(feature = "lab")]
pub mod trial;

use std::path::PathBuf;
use std::time::Duration;

use probe_common::site::{Backend, SITES, Site};
use probe_model::sample::Sample;

use crate::btf::BtfError;
use backend::Probes;
use load::Programs;
use misses::Misses;

pub use load::object;
pub use logs::{LogLevel, Logs};

/// What the programs must be told before they are loaded.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// How programs are attached.
    pub backend: Backend,
    /// Name of the kernel module that holds the sites; `None` when they are built in.
    pub module: Option<&'static str>,
    /// Whether `*length` at the entry of `iopt_get_phys` is a cap (merged ABI) or not (v5).
    pub length_is_cap: bool,
    /// Diagnostics of the BPF side.
    pub logs: LogLevel,
}

/// What cannot be done with the kernel. Each names the operation and its object.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("this binary was built without its BPF object; build it with `cargo xtask build`")]
    NoObject,
    #[error("cannot load the BPF object")]
    Load(#[source] Box<aya::EbpfError>),
    #[error("the BPF object has no {kind} {name:?}: it does not belong to this binary")]
    Missing { kind: &'static str, name: String },
    #[error("the kernel refused program {program:?}")]
    Program { program: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot attach {program:?} to {symbol:?}")]
    Attach { program: &'static str, symbol: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot place the maps in the programs")]
    Relocate(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot read the types in {}", path.display())]
    Btf { path: PathBuf, source: BtfError },
    #[error("the kernel's types do not name the function {function}")]
    NotInBtf { function: &'static str },
    #[error("cannot look through the kernel's BTF objects")]
    BtfObjects(#[source] std::io::Error),
    #[error("the module {module} has no BTF object")]
    NoModuleBtf { module: String },
    #[error("cannot use map {map:?}")]
    Map { map: &'static str, source: Box<aya::maps::MapError> },
    #[error("cannot map the counters into memory")]
    Mmap(#[source] std::io::Error),
    #[error("cannot read {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("the kernel does not say how many calls the probes on {site} missed (no {field} in fdinfo)")]
    NoMissCounter { site: &'static str, field: &'static str },
    #[error("cannot read the BPF side's log: {0}")]
    Logs(String),
}

/// Programs that are loaded, attached and counting.
pub struct KernelSource {
    backend: Backend,
    programs: Programs,
    probes: Probes,
    reader: read::Reader,
    /// The kernel's miss counters when counting began, and whether they moved while it began.
    baseline: Vec<Misses>,
    start_doubt: u64,
}

/// The last sample, and what only the end can tell.
#[derive(Debug, Clone)]
pub struct Final {
    pub sample: Sample,
    /// Calls left in each site's table of open calls, in the order of the site table: must be what
    /// the counters say is open. Empty for fsession, which keeps open calls on their own stacks.
    pub open_calls: Vec<(&'static Site, u64)>,
    /// Misses that fell into the moments of arming and disarming: the loss of a site may be off by as
    /// many.
    pub doubt: u64,
}

impl KernelSource {
    /// Load, attach, arm.
    pub fn start(config: &Config) -> Result<Self, SourceError> {
        let mut programs = load::load(config)?;
        let reader = read::Reader::new(&programs)?;
        let probes = Probes::attach(&mut programs, config)?;
        let baseline = match config.backend {
            // Its programs see from the first call on which entries they missed.
            Backend::Fsession => vec![Misses::default(); SITES.len()],
            Backend::Fentry | Backend::Kprobe => probes.misses()?,
        };
        reader.arm(true);
        let start_doubt = distance(&baseline, &probes.misses()?);
        Ok(Self { backend: config.backend, programs, probes, reader, baseline, start_doubt })
    }

    /// How the programs are attached.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Possible CPUs.
    pub fn cpus(&self) -> u32 {
        self.reader.cpus()
    }

    /// The BPF side's diagnostics; only when they were asked for.
    pub fn logs(&mut self) -> Result<Option<Logs>, SourceError> {
        self.programs.logs()
    }

    /// Read every counter.
    pub fn sample(&mut self) -> Result<Sample, SourceError> {
        let misses = self.probes.misses()?;
        Ok(self.reader.sample(&misses, &self.baseline))
    }

    /// Stop counting new calls, give open ones up to `grace` to return, read everything, detach.
    pub fn finish(mut self, grace: Duration) -> Result<Final, SourceError> {
        let before = self.probes.misses()?;
        self.reader.arm(false);
        let last = self.probes.misses()?;
        self.reader.drain(grace);
        let last = self.probes.detach(last)?;
        let doubt = distance(&before, &last);
        let sample = self.reader.sample(&last, &self.baseline);
        let open_calls = match self.backend {
            Backend::Fsession => Vec::new(),
            Backend::Fentry | Backend::Kprobe => SITES
                .iter()
                .map(|site| Ok((site, self.programs.open_calls(site)?)))
                .collect::<Result<_, SourceError>>()?,
        };
        Ok(Final { sample, open_calls, doubt: doubt + self.start_doubt })
    }
}

/// Misses of all sites between two readings.
fn distance(older: &[Misses], newer: &[Misses]) -> u64 {
    older.iter().zip(newer).map(|(older, newer)| newer.distance(older)).sum()
}
