//! The kernel as a source: our programs on the two sites.
//!
//! The only folder that has heard of aya, and one of the few with `unsafe`. What it attaches is owned
//! by file descriptors: the kernel removes everything when the process ends, however it ends.

mod attribution;
mod backend;
mod bpf;
mod calls;
mod canary;
mod change;
pub mod company;
mod cost;
mod counting;
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
pub mod trial;
mod types;
mod verifier;
mod wall_clock;

use std::num::{NonZeroU32, NonZeroU64};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use probe_common::site::{Backend, SITES, Site};
use probe_model::call::Call;
use probe_model::sample::Sample;
use probe_model::share::Share;

use crate::btf::BtfError;
use crate::source::clock;
use canary::{Seen, Watch};
use change::Earlier;
use counting::Counting;
use load::Programs;
use totals::Depth;

pub use canary::{Canary, Sent};
pub use change::Changed;
pub use cost::CalibrationError;
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
    /// Whether what the probes add is measured before counting.
    pub calibrate: bool,
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

impl SourceError {
    /// The kernel's error number, where it is the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        let number = |error: &(dyn std::error::Error + 'static)| {
            let refused = error.downcast_ref::<verifier::Refused>().and_then(verifier::Refused::errno);
            refused.or_else(|| error.downcast_ref::<std::io::Error>()?.raw_os_error())
        };
        std::iter::successors(Some(self as &(dyn std::error::Error + 'static)), |error| error.source())
            .find_map(number)
    }
}

/// Programs that are loaded, attached and counting.
pub struct KernelSource {
    counting: Counting,
    /// The backend that counted before, once another one took over.
    earlier: Option<Earlier>,
    /// Whether fates are also kept by backend: where another one may take over.
    by_backend: bool,
    watch: Option<Watch>,
    company: company::Watcher,
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
    /// Misses that fell into the moments of arming and disarming, and calls that a change of backends may have
    /// missed or counted twice: the loss of a site may be off by as many.
    pub doubt: u64,
}

impl KernelSource {
    /// Load, attach, arm.
    pub fn start(config: &Config) -> Result<Self, SourceError> {
        let mut counting = Counting::attach(config)?;
        let statistics = if config.run_times { Some(statistics()?) } else { None };
        counting.arm()?;
        let company = company::Watcher::new(config.module);
        Ok(Self { counting, earlier: None, by_backend: false, watch: None, company, statistics })
    }

    /// What probes like these add to a call here. Attaches and detaches probes of its own; those of a recording
    /// must not be attached meanwhile.
    pub fn calibrate(config: &Config, canary: &mut dyn Canary) -> Result<Share, CalibrationError> {
        cost::calibrate(config, canary)
    }

    /// Send a canary before each sample from now on.
    pub fn watch(&mut self, canary: Box<dyn Canary>) {
        self.watch = Some(Watch::new(canary, clock::now().monotonic));
    }

    /// Keep fates by backend too: another one may take over. Before the first sample.
    pub fn may_change(&mut self) {
        self.by_backend = true;
    }

    /// How the programs are attached.
    pub fn backend(&self) -> Backend {
        self.counting.backend()
    }

    /// Possible CPUs.
    pub fn cpus(&self) -> u32 {
        self.counting.cpus()
    }

    /// The BPF side's diagnostics; only when they were asked for.
    pub fn logs(&mut self) -> Result<Option<Logs>, SourceError> {
        self.counting.logs()
    }

    /// Read every counter.
    pub fn sample(&mut self) -> Result<Sample, SourceError> {
        self.beat()?;
        self.company.look(clock::now().monotonic);
        let later = self.counting.read(Depth::Changed, self.statistics.is_some())?;
        let Some(earlier) = &mut self.earlier else { return Ok(self.whole(later)) };
        let both = earlier.with(later)?;
        Ok(self.whole(both))
    }

    /// Single calls since the last time; none where they were not asked for.
    pub fn calls(&mut self) -> Vec<Call> {
        let mut calls = self.earlier.as_mut().map(Earlier::calls).unwrap_or_default();
        calls.extend(self.counting.calls());
        calls
    }

    /// Stop counting new calls, give open ones up to `grace` to return, read everything, detach.
    pub fn finish(mut self, grace: Duration) -> Result<Final, SourceError> {
        self.beat()?;
        self.company.look_now(clock::now().monotonic);
        let mut last = self.counting.finish(grace, self.statistics.take())?;
        if let Some(earlier) = &mut self.earlier {
            earlier.end(grace)?;
            let calls = earlier.calls();
            last.calls.splice(0..0, calls);
            last.doubt += earlier.doubt();
            for (site, open) in &mut last.open_calls {
                *open += earlier.open(site);
            }
            last.sample = earlier.with(last.sample)?;
        }
        last.sample = self.whole(last.sample);
        Ok(last)
    }

    fn beat(&mut self) -> Result<(), SourceError> {
        let Some(watch) = &mut self.watch else { return Ok(()) };
        let look = || {
            let misses = self.counting.misses()?;
            let seen = |(site, misses): (&Site, &misses::Misses)| {
                let canaries = self.counting.canaries(site.id);
                (SITES[site.id as usize].name, Seen { canaries, misses: misses.sum() })
            };
            Ok(SITES.iter().zip(&misses).map(seen).collect())
        };
        watch.beat(clock::now().monotonic, look)
    }

    /// With the heartbeat, and fates by backend.
    fn whole(&self, mut sample: Sample) -> Sample {
        let counters = &mut sample.counters;
        counters.company.clone_from(self.company.found());
        if let Some(watch) = &self.watch {
            counters.canary = watch.counted().clone();
            for (site, flow) in &mut counters.flow {
                flow.canary_missed = watch.missed(site);
            }
        }
        if !self.by_backend {
            return sample;
        }
        let mut now = counters.flow.clone();
        if let Some(earlier) = &self.earlier {
            for (site, flow) in &mut now {
                *flow = flow.since(&earlier.flow(site));
            }
            counters.by_backend.insert(earlier.backend().name().to_owned(), earlier.flows());
        }
        counters.by_backend.insert(self.backend().name().to_owned(), now);
        sample
    }
}

/// Switch the kernel's run-time statistics on, until the descriptor is closed.
fn statistics() -> Result<OwnedFd, SourceError> {
    aya::sys::enable_stats(aya::sys::Stats::RunTime)
        .map_err(|error| SourceError::Statistics(std::io::Error::other(error)))
}
