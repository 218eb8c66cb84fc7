//! Trying: attaching and taking off at once, counting nothing; for tests in guests also loading without attaching,
//! to hear what the verifier of a kernel without the sites says.
//!
//! Only programs of the kprobe backend can be loaded apart from a function; one of a trampoline is loaded for a
//! function that the kernel's types name.

use probe_common::site::Backend;
#[cfg(feature = "lab")]
use probe_common::site::SITES;

use super::backend::Probes;
use super::load::{self, Programs};
use super::{Config, LogLevel, SourceError};

/// A program that the kernel took.
#[cfg(feature = "lab")]
#[derive(Debug)]
pub struct Taken {
    /// The program's name.
    pub program: &'static str,
    /// Instructions that the verifier looked at; `None` where the kernel does not tell (before 5.16).
    pub verified: Option<u32>,
}

/// Load every program of the kprobe backend, and let go of it again.
#[cfg(feature = "lab")]
pub fn kprobe_programs(logs: LogLevel) -> Result<Vec<Taken>, SourceError> {
    let mut programs = programs(Backend::Kprobe, None, logs)?.1;
    let names = SITES.iter().flat_map(|site| [site.kprobe.entry, site.kprobe.exit]);
    names.map(|name| kprobe_program(&mut programs, name)).collect()
}

#[cfg(feature = "lab")]
fn kprobe_program(programs: &mut Programs, name: &'static str) -> Result<Taken, SourceError> {
    let refused = |error| SourceError::Program { program: name, source: Box::new(error) };
    let program = programs.kprobe(name)?;
    program.load().map_err(refused)?;
    Ok(Taken { program: name, verified: program.info().map_err(refused)?.verified_instruction_count() })
}

/// Attach as a recorder does, by a backend, to functions in a module or in the kernel itself; detached at once.
/// Nothing is counted.
pub fn attach(backend: Backend, module: Option<&'static str>) -> Result<(), SourceError> {
    let (config, mut programs) = programs(backend, module, LogLevel::Off)?;
    Probes::attach(&mut programs, &config, &mut || {}).map(drop)
}

fn programs(
    backend: Backend,
    module: Option<&'static str>,
    logs: LogLevel,
) -> Result<(Config, Programs), SourceError> {
    let config = Config {
        backend,
        module,
        length_is_cap: true,
        logs,
        canary_thread: 0,
        calls: None,
        locks: false,
        run_times: false,
        calibrate: false,
    };
    let programs = load::load(&config)?;
    Ok((config, programs))
}
