//! From the command line to a source that counts: the way to attach, what is recorded beside the
//! counters, and the canary. Better backends that were not taken come with their reasons, as values.

use std::num::NonZeroU64;
use std::path::Path;

use anyhow::Context as _;
use probe_common::site::Backend;
use probe_model::cost::Calibration;

use super::auto::Watched;
use super::canary::{NODE, Pinned, Unpinned};
use crate::cli::{BackendChoice, SourceArgs};
use crate::doctor::{self, Host, Machine, verdict};
use crate::recording::Declined;
use crate::source::kernel::{CallsConfig, Canary, Config, KernelSource, LogLevel};
use crate::workload::abi::{self, Abi};
use crate::workload::iommufd::Iommufd;

/// Counting, and what was found out on the way there.
pub(super) struct Started {
    pub(super) source: Watched,
    pub(super) abi: Abi,
    /// Better backends that were not taken, best first.
    pub(super) declined: Vec<Declined>,
    /// What the probes add to a call; only where it was asked for and can be measured.
    pub(super) calibration: Option<Calibration>,
}

/// Attach and count as `args` say. The calling thread must be the one that takes the samples: the
/// programs tell its canaries from other calls by its number.
pub(super) fn start(args: &SourceArgs, logs: LogLevel) -> anyhow::Result<Started> {
    let machine = doctor::require_record(&Host::default())?;
    let iommufd = Iommufd::open(Path::new(NODE)).with_context(|| format!("cannot open {NODE}"))?;
    let abi = abi::detect(&iommufd)?;
    let config = |backend| Config {
        backend,
        module: machine.module,
        length_is_cap: abi.cap(1).is_some(),
        logs,
        canary_thread: rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs(),
        calls: calls(args),
        locks: args.locks,
        run_times: args.self_cost,
    };
    let mut canary: Box<dyn Canary> =
        if args.unpinned { Box::new(Unpinned) } else { Box::new(Pinned::new(iommufd)?) };
    let (mut source, declined) = attach(args.backend, &machine, &config)?;
    let mut calibration = None;
    if args.self_cost {
        // With the backend that was found to work, and without the first one's probes beside it.
        let backend = source.backend();
        drop(source);
        calibration = KernelSource::calibrate(&config(backend), &mut *canary)?;
        source = KernelSource::start(&config(backend))?;
    }
    source.watch(canary);
    let source = Watched::new(source, complete(args.backend, &machine, &config));
    Ok(Started { source, abi, declined, calibration })
}

/// How the backend that loses nothing would be started, where the choice is ours.
fn complete(choice: BackendChoice, machine: &Machine, config: &impl Fn(Backend) -> Config) -> Option<Config> {
    let able = verdict::backend(machine, Backend::KprobeSession).able;
    (choice == BackendChoice::Auto && able).then(|| config(Backend::KprobeSession))
}

fn calls(args: &SourceArgs) -> Option<CallsConfig> {
    let slower = args.slower.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    let slower = slower.and_then(NonZeroU64::new);
    args.wants_calls().then_some(CallsConfig {
        every: args.calls_every,
        slower,
        include_iova: args.include_iova,
    })
}

type Attached = (KernelSource, Vec<Declined>);

fn attach(
    choice: BackendChoice,
    machine: &Machine,
    config: &impl Fn(Backend) -> Config,
) -> anyhow::Result<Attached> {
    let Some(wanted) = named(choice) else {
        return attach_best(machine, config);
    };
    verdict::backend(machine, wanted).require(&format!("cannot attach by {}", wanted.name()))?;
    Ok((KernelSource::start(&config(wanted))?, Vec::new()))
}

fn named(choice: BackendChoice) -> Option<Backend> {
    match choice {
        BackendChoice::Auto => None,
        BackendChoice::Fsession => Some(Backend::Fsession),
        BackendChoice::Fentry => Some(Backend::Fentry),
        BackendChoice::KprobeSession => Some(Backend::KprobeSession),
        BackendChoice::Kprobe => Some(Backend::Kprobe),
    }
}

/// The first that works. What the machine is known to lack is not tried; what it refuses is as good a
/// reason to go on.
fn attach_best(machine: &Machine, config: &impl Fn(Backend) -> Config) -> anyhow::Result<Attached> {
    let mut declined = Vec::new();
    for backend in Backend::ALL {
        let verdict = verdict::backend(machine, backend);
        let why = if verdict.able {
            match KernelSource::start(&config(backend)) {
                Ok(source) => return Ok((source, declined)),
                Err(error) => format!("{:#}", anyhow::Error::from(error)),
            }
        } else {
            verdict.why()
        };
        declined.push(Declined { backend: backend.name().to_owned(), why });
    }
    let reasons: Vec<String> =
        declined.iter().map(|declined| format!("{}: {}", declined.backend, declined.why)).collect();
    anyhow::bail!("no backend works here\n  {}", reasons.join("\n  "))
}
