//! Choosing a backend: the one that was asked for, or the best that works, with the reasons against
//! better ones as values.

use probe_common::site::Backend;

use crate::cli::BackendChoice;
use crate::doctor::{Machine, verdict};
use crate::recording::Declined;
use crate::source::kernel::{Config, KernelSource};

/// Counting, and why not by a better backend.
pub(super) struct Started {
    pub(super) source: KernelSource,
    pub(super) declined: Vec<Declined>,
}

/// Attach and count by the backend that `choice` leads to.
pub(super) fn start(
    choice: BackendChoice,
    machine: &Machine,
    config: impl Fn(Backend) -> Config,
) -> anyhow::Result<Started> {
    let Some(wanted) = named(choice) else {
        return start_best(machine, config);
    };
    verdict::backend(machine, wanted).require(&format!("cannot attach by {}", wanted.name()))?;
    let source = KernelSource::start(&config(wanted))?;
    Ok(Started { source, declined: Vec::new() })
}

fn named(choice: BackendChoice) -> Option<Backend> {
    match choice {
        BackendChoice::Auto => None,
        BackendChoice::Fsession => Some(Backend::Fsession),
        BackendChoice::Fentry => Some(Backend::Fentry),
        BackendChoice::Kprobe => Some(Backend::Kprobe),
    }
}

/// The first that works. What the machine is known to lack is not tried; what it refuses is as good a
/// reason to go on.
fn start_best(machine: &Machine, config: impl Fn(Backend) -> Config) -> anyhow::Result<Started> {
    let mut declined = Vec::new();
    for backend in Backend::ALL {
        let verdict = verdict::backend(machine, backend);
        let why = if verdict.able {
            match KernelSource::start(&config(backend)) {
                Ok(source) => return Ok(Started { source, declined }),
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
