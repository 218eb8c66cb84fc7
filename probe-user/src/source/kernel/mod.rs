//! The kernel as a source: our programs on the two sites.
//!
//! The only folder that has heard of aya, and one of the few with `unsafe`. What it attaches is owned
//! by file descriptors: the kernel removes everything when the process ends, however it ends.

mod attribution;
mod backend;
mod bpf;
mod calls;
mod canary;
pub mod company;
mod cost;
mod load;
mod locks;
mod logs;
#[cfg(any(test, feature = "bench"))]
pub mod made_up;
mod mapping;
mod misses;
mod object;
mod objects;
mod read;
mod totals;
mod tracepoint;
#[cfg(feature = "lab")]
pub mod trial;
mod types;
mod wall_clock;

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use probe_common::site::{Backend, SITES, Site, SiteId};
use probe_common::wire::CALLS_MAP;
use probe_model::call::{Call, Taken};
use probe_model::cost::{Calibration, ProgramCost};
use probe_model::loss::Flow;
use probe_model::sample::Sample;

use crate::btf::BtfError;
use crate::source::clock;
use backend::Probes;
use calls::Ring;
use canary::{Seen, Watch};
use load::Programs;
use misses::Misses;
use read::Missed;
use totals::Depth;
use tracepoint::LockProbes;

pub use canary::{Canary, Sent};
pub use logs::{LogLevel, Logs};
pub use object::object;
pub use wall_clock::WallClock;

/// What the programs must be told before they are loaded.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "switches, each of its own")]
pub struct Config {
    /// How programs are attached.
    pub backend: Backend,
    /// Name of the kernel module that holds the sites; `None` when they are built in.
    pub module: Option<&'static str>,
    /// Whether `*length` at the entry of `iopt_get_phys` is a cap (merged ABI) or not (v5).
    pub length_is_cap: bool,
    /// Diagnostics of the BPF side.
    pub logs: LogLevel,
    /// Thread that sends canaries and takes samples; 0: none.
    pub canary_thread: u32,
    /// Which calls are recorded one by one; `None`: none.
    pub calls: Option<CallsConfig>,
    /// Whether lock waits are recorded.
    pub locks: bool,
    /// Whether the kernel's run-time statistics of our programs are on: for the whole machine.
    pub run_times: bool,
}

impl Config {
    /// Whether anything beyond the counters is recorded.
    fn needs_extra(&self) -> bool {
        self.calls.is_some() || self.locks || self.logs != LogLevel::Off
    }
}

/// Which calls are recorded one by one.
#[derive(Debug, Clone, Copy)]
pub struct CallsConfig {
    /// One in so many, by site and CPU.
    pub every: Option<NonZeroU32>,
    /// Every call of at least so many ns.
    pub slower: Option<NonZeroU64>,
    /// With the IOVA.
    pub include_iova: bool,
}

/// What cannot be done with the kernel. Each names the operation and its object.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("this binary was built without its BPF object; build it with `cargo xtask build`")]
    NoObject,
    #[error("the BPF object inside this binary is damaged")]
    Damaged,
    #[error(
        "this machine has {cpus} possible CPUs, and the counters of at most {most} fit into one map; \
         boot with possible_cpus={most}"
    )]
    TooManyCpus { cpus: u32, most: u32 },
    #[error("the kernel does not say how long our programs run (no run_time_ns in {})", path.display())]
    NoRunTime { path: PathBuf },
    #[error("cannot switch the kernel's BPF statistics on (CAP_SYS_ADMIN)")]
    Statistics(#[source] std::io::Error),
    #[error("cannot load the BPF object")]
    Load(#[source] Box<aya::EbpfError>),
    #[error("the BPF object has no {kind} {name:?}: it does not belong to this binary")]
    Missing { kind: &'static str, name: String },
    #[error("the kernel refused program {program:?}")]
    Program { program: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("this kernel's sessions cannot read the kernel's memory as ours do; Linux 6.17 or newer can")]
    OldSession(#[source] Box<dyn std::error::Error + Send + Sync>),
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
    locks: Option<LockProbes>,
    ring: Option<Ring>,
    reader: read::Reader,
    watch: Option<Watch>,
    company: company::Watcher,
    /// The kernel's miss counters when counting began, and whether they moved while it began.
    baseline: Vec<Misses>,
    start_doubt: u64,
    /// Keeps the kernel's statistics on while it is open.
    statistics: Option<OwnedFd>,
}

/// The last sample, and what only the end can tell.
#[derive(Debug, Clone)]
pub struct Final {
    pub sample: Sample,
    /// Single calls since the last time they were asked for.
    pub calls: Vec<Call>,
    /// Calls left in each table of open calls: must be what the counters say is open. No sites for fsession,
    /// which keeps open calls on their own stacks, and only `get_phys` for kprobe-session.
    pub open_calls: Vec<(&'static Site, u64)>,
    /// Misses that fell into the moments of arming and disarming: the loss of a site may be off by as
    /// many.
    pub doubt: u64,
}

impl KernelSource {
    /// Load, attach, arm.
    pub fn start(config: &Config) -> Result<Self, SourceError> {
        let mut programs = load::load(config)?;
        let reader = read::Reader::new(&programs, config)?;
        // Before the sites: a call must not find its waits unwatched.
        let locks = if config.locks { Some(LockProbes::attach(&programs)?) } else { None };
        let probes = Probes::attach(&mut programs, config, &mut || {})?;
        let ring = match config.calls {
            Some(calls) => {
                Some(Ring::new(programs.take_ring(CALLS_MAP)?, config.length_is_cap, calls.include_iova))
            }
            None => None,
        };
        let statistics = if config.run_times { Some(statistics()?) } else { None };
        let baseline = match config.backend {
            // Its programs see from the first call on which entries they missed.
            Backend::Fsession => vec![Misses::default(); SITES.len()],
            Backend::Fentry | Backend::KprobeSession | Backend::Kprobe => probes.misses()?,
        };
        reader.arm(true);
        let start_doubt = distance(&baseline, &probes.misses()?);
        let backend = config.backend;
        Ok(Self {
            backend,
            programs,
            probes,
            locks,
            ring,
            reader,
            watch: None,
            company: company::Watcher::new(config.module),
            baseline,
            start_doubt,
            statistics,
        })
    }

    /// What probes like these add to a GET_PA here; `None` where it cannot be measured. Attaches and
    /// detaches probes of its own.
    pub fn calibrate(config: &Config, canary: &mut dyn Canary) -> Result<Option<Calibration>, SourceError> {
        cost::calibrate(&Config { calls: None, locks: false, run_times: false, ..*config }, canary)
    }

    /// Send a canary before each sample from now on.
    pub fn watch(&mut self, canary: Box<dyn Canary>) {
        self.watch = Some(Watch::new(canary));
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
        self.beat()?;
        self.company.look(clock::now().monotonic);
        let misses = self.probes.misses()?;
        self.read(&misses, Depth::Changed)
    }

    /// Single calls since the last time; none where they were not asked for.
    pub fn calls(&mut self) -> Vec<Call> {
        self.ring.as_mut().map(Ring::drain).unwrap_or_default()
    }

    /// Stop counting new calls, give open ones up to `grace` to return, read everything, detach.
    pub fn finish(mut self, grace: Duration) -> Result<Final, SourceError> {
        self.beat()?;
        self.company.look_now(clock::now().monotonic);
        let before = self.probes.misses()?;
        self.reader.arm(false);
        let ended = self.probes.misses()?;
        self.reader.drain(grace);
        // While the kernel takes a session's program off, it runs it at returns alone for a while: calls
        // look then as if their entry had been missed. So both counts that tell are read before; a call is
        // missed before it is unseen, so the misses last.
        let settled = self.reader.flows(&Missed::default());
        let misses = self.probes.misses()?;
        let run_times = self.run_times()?;
        self.statistics = None;
        let mut now = self.probes.detach(misses.clone())?;
        for (now, settled) in now.iter_mut().zip(misses) {
            now.either = settled.either;
        }
        let counted = self.reader.sample(&Missed::default(), Depth::Changed).counters.flow;
        let due = |site: &Site| counted.get(site.name).map_or(0, Flow::due);
        let last: Vec<Misses> = SITES
            .iter()
            .zip(ended.iter().zip(now))
            .map(|(site, (ended, now))| ended.closed_by(now, due(site)))
            .collect();
        let doubt = self.start_doubt + distance(&before, &last);
        let calls = self.calls();
        let mut sample = self.read(&last, Depth::Whole)?;
        for (site, flow) in &mut sample.counters.flow {
            flow.unseen = settled.get(site).map_or(flow.unseen, |settled| settled.unseen);
        }
        sample.counters.programs = run_times;
        let tables = match self.backend {
            Backend::Fsession => &SITES[..0],
            // Its cookie holds all that is kept of a dispatch.
            Backend::KprobeSession => &SITES[SiteId::GetPhys as usize..],
            Backend::Fentry | Backend::Kprobe => &SITES[..],
        };
        let open_calls = tables
            .iter()
            .map(|site| Ok((site, self.programs.open_calls(site)?)))
            .collect::<Result<_, SourceError>>()?;
        Ok(Final { sample, calls, open_calls, doubt })
    }

    fn beat(&mut self) -> Result<(), SourceError> {
        let Some(watch) = &mut self.watch else { return Ok(()) };
        let look = || {
            let misses = self.probes.misses()?;
            let seen = |(site, misses): (&Site, &Misses)| {
                let canaries = self.reader.canaries(site.id);
                (SITES[site.id as usize].name, Seen { canaries, misses: misses.sum() })
            };
            Ok(SITES.iter().zip(&misses).map(seen).collect())
        };
        watch.beat(clock::now().monotonic, look)
    }

    fn read(&mut self, misses: &[Misses], depth: Depth) -> Result<Sample, SourceError> {
        let locks = self.locks.as_ref().map_or(Ok(0), LockProbes::misses)?;
        let kernel = Missed { now: misses, baseline: &self.baseline, locks };
        let mut sample = self.reader.sample(&kernel, depth);
        if let Some(watch) = &self.watch {
            sample.counters.canary = watch.counted().clone();
            for (site, flow) in &mut sample.counters.flow {
                flow.canary_missed = watch.missed(site);
            }
        }
        if let Some(ring) = &self.ring {
            sample.counters.taken = Taken { kept: ring.kept, dropped: self.reader.dropped() };
        }
        sample.counters.company.clone_from(self.company.found());
        sample.counters.programs = self.run_times()?;
        Ok(sample)
    }

    fn run_times(&self) -> Result<BTreeMap<String, ProgramCost>, SourceError> {
        if self.statistics.is_none() {
            return Ok(BTreeMap::new());
        }
        let cost = |(name, time): (&str, misses::RunTime)| {
            (name.to_owned(), ProgramCost { runs: time.runs, nanos: time.nanos })
        };
        Ok(self.probes.run_times()?.into_iter().map(cost).collect())
    }
}

/// Switch the kernel's run-time statistics on, until the descriptor is closed.
fn statistics() -> Result<OwnedFd, SourceError> {
    aya::sys::enable_stats(aya::sys::Stats::RunTime)
        .map_err(|error| SourceError::Statistics(std::io::Error::other(error)))
}

/// Misses of all sites between two readings.
fn distance(older: &[Misses], newer: &[Misses]) -> u64 {
    older.iter().zip(newer).map(|(older, newer)| newer.distance(older)).sum()
}
