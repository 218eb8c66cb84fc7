//! From the command line to a source that counts: the way to attach, what is recorded beside the
//! counters, and the canary. Better backends that were not taken come with their reasons, as values.

use std::num::NonZeroU64;
use std::path::Path;

use probe_common::site::Backend;
use probe_model::cost::Calibration;

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
    /// What the probes add to a call; only where it was asked for and can be measured.
    pub(super) calibration: Option<Calibration>,
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
    };
    let mut canary: Box<dyn Canary> =
        if args.unpinned { Box::new(Unpinned) } else { Box::new(Pinned::new(iommufd)?) };
    let (mut source, declined) = attach(args.backend, &mut machine, &config)?;
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
    machine: &mut Machine,
    config: &impl Fn(Backend) -> Config,
) -> anyhow::Result<Attached> {
    let Some(wanted) = named(choice) else {
        return attach_best(machine, config);
    };
    let what = format!("cannot attach by {}", wanted.name());
    if !verdict::is_worth_trying(machine, wanted) {
        verdict::backend(machine, wanted).require(&what)?;
    }
    match KernelSource::start(&config(wanted)) {
        Ok(source) => Ok((source, Vec::new())),
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
fn attach_best(machine: &mut Machine, config: &impl Fn(Backend) -> Config) -> anyhow::Result<Attached> {
    let mut declined = Vec::new();
    for backend in Backend::ALL {
        if verdict::is_worth_trying(machine, backend) {
            match KernelSource::start(&config(backend)) {
                Ok(source) => return Ok((source, declined)),
                Err(error) => refused(machine, backend, error)?,
            }
        }
        let why = verdict::backend(machine, backend).why();
        declined.push(Declined { backend: backend.name().to_owned(), why });
    }
    verdict::require(&verdict::record(machine))?;
    unreachable_verdict("no backend works here")
}
