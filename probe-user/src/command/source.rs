//! From the command line to a source that counts: the way to attach, what is recorded beside the
//! counters, and the canary. Better backends that were not taken come with their reasons, as values.

use std::num::NonZeroU64;
use std::path::Path;

use probe_common::site::Backend;
use probe_model::share::Shares;

use super::auto::Watched;
use super::canary::{NODE, Pinned, Unpinned};
use crate::cli::{BackendChoice, SourceArgs};
use crate::doctor::refusal::{Refusal, Trials};
use crate::doctor::{self, Host, Machine, verdict};
use crate::exit::CannotRun;
use crate::recording::Declined;
use crate::source::kernel::{CallsConfig, Canary, Config, KernelSource, LogLevel, SourceError, trial};
use crate::workload::abi::{self, Abi};
use crate::workload::iommufd::Iommufd;

/// Counting, and what was found out on the way there.
pub(super) struct Started {
    pub(super) source: Watched,
    pub(super) abi: Abi,
    /// Better backends that were not taken, best first.
    pub(super) declined: Vec<Declined>,
    /// What the probes add to a call.
    pub(super) shares: Shares,
}

/// Attach and count as `args` say. The calling thread must be the one that takes the samples: the
/// programs tell its canaries from other calls by its number.
pub(super) fn start(args: &SourceArgs, logs: LogLevel) -> anyhow::Result<Started> {
    let mut machine = doctor::require_record(&Host::default())?;
    let iommufd = Iommufd::open(Path::new(NODE)).map_err(|error| closed(&error))?;
    let abi = abi::detect(&iommufd)?;
    let module = machine.module;
    let config = |backend| Config {
        backend,
        module,
        length_is_cap: abi.cap(1).is_some(),
        logs,
        canary_thread: rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs(),
        calls: calls(args),
        locks: args.locks,
        run_times: args.self_cost,
        calibrate: args.calibrate || args.self_cost,
    };
    let mut canary = Pinned::new(iommufd)?;
    let (mut source, declined, shares) = attach(args.backend, &mut machine, &config, &mut canary)?;
    source.watch(if args.unpinned { Box::new(Unpinned) } else { Box::new(canary) });
    let source = Watched::new(source, complete(args.backend, &machine, &config));
    Ok(Started { source, abi, declined, shares })
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

type Attached = (KernelSource, Vec<Declined>, Shares);

fn attach(
    choice: BackendChoice,
    machine: &mut Machine,
    config: &impl Fn(Backend) -> Config,
    canary: &mut dyn Canary,
) -> anyhow::Result<Attached> {
    let Some(wanted) = named(choice) else {
        return attach_best(machine, config, canary);
    };
    let what = format!("cannot attach by {}", wanted.name());
    if !verdict::is_worth_trying(machine, wanted) {
        verdict::backend(machine, wanted).require(&what)?;
    }
    match start_calibrated(&config(wanted), canary) {
        Ok((source, shares)) => Ok((source, Vec::new(), shares)),
        Err(error) => {
            refused(machine, wanted, error)?;
            verdict::backend(machine, wanted).require(&what)?;
            unreachable_verdict(&what)
        }
    }
}

/// Take a refusal in; what no machine is to blame for stays an error.
fn refused(machine: &mut Machine, backend: Backend, error: SourceError) -> Result<(), SourceError> {
    match error {
        SourceError::NoObject | SourceError::Damaged | SourceError::Missing { .. } => Err(error),
        error => {
            machine.trials.insert(backend, Err(refusal(error)));
            Ok(())
        }
    }
}

fn refusal(error: SourceError) -> Refusal {
    let errno = error.errno();
    Refusal { what: format!("{:#}", anyhow::Error::from(error)), errno }
}

/// A verdict on what was tried and failed always has an obstacle.
fn unreachable_verdict<T>(what: &str) -> anyhow::Result<T> {
    anyhow::bail!("{what}, and nothing says why: please report this")
}

/// Try every backend that facts do not shut: attached and taken off at once, counting nothing.
pub(super) fn try_all(machine: &Machine) -> Trials {
    if !verdict::possible(machine).able {
        return Trials::new();
    }
    let tried = |backend| {
        let outcome = match trial::attach(backend, machine.module) {
            // It says nothing of the machine.
            Err(SourceError::NoObject) => return None,
            outcome => outcome.map_err(refusal),
        };
        Some((backend, outcome))
    };
    Backend::ALL
        .into_iter()
        .filter(|&backend| verdict::is_worth_trying(machine, backend))
        .filter_map(tried)
        .collect()
}

/// The device node cannot be opened.
fn closed(error: &impl std::fmt::Display) -> CannotRun {
    CannotRun {
        what: "cannot record GET_PA calls on this machine".to_owned(),
        why: format!("{NODE} cannot be opened: {error}"),
        remedy: format!("run as root of the machine; in a container: give it the device {NODE}"),
    }
}

/// Find out what the probes add, then count: what was found is of no recording's probes, and in no figure. Without
/// it a recording is as good, and says so.
fn start_calibrated(config: &Config, canary: &mut dyn Canary) -> Result<(KernelSource, Shares), SourceError> {
    if !config.calibrate {
        let unknown = Some("it was not measured; --calibrate does it".to_owned());
        return Ok((KernelSource::start(config)?, Shares { known: Vec::new(), unknown }));
    }
    let shares = match KernelSource::calibrate(config, canary) {
        Ok(share) => Shares { known: vec![share], unknown: None },
        Err(error) => {
            let why = format!("{:#}", anyhow::Error::from(error));
            Shares { known: Vec::new(), unknown: Some(why.lines().next().unwrap_or_default().to_owned()) }
        }
    };
    Ok((KernelSource::start(config)?, shares))
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

/// The first that works. What the kernel lacks is not tried; what it refuses is as good a reason to go on.
fn attach_best(
    machine: &mut Machine,
    config: &impl Fn(Backend) -> Config,
    canary: &mut dyn Canary,
) -> anyhow::Result<Attached> {
    let mut declined = Vec::new();
    for backend in Backend::ALL {
        if verdict::is_worth_trying(machine, backend) {
            match start_calibrated(&config(backend), canary) {
                Ok((source, shares)) => return Ok((source, declined, shares)),
                Err(error) => refused(machine, backend, error)?,
            }
        }
        let why = verdict::backend(machine, backend).why();
        declined.push(Declined { backend: backend.name().to_owned(), why });
    }
    verdict::require(&verdict::record(machine))?;
    unreachable_verdict("no backend works here")
}
