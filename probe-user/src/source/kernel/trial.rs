//! Loading without attaching: what the verifier of a kernel without the sites says of our programs.
//!
//! For tests in guests. Only programs of the kprobe backend can be loaded apart from a function; one of a
//! trampoline is loaded for a function that the kernel's types name.

use probe_common::site::{Backend, SITES};

use super::load::{self, Programs};
use super::{Config, LogLevel, SourceError};
use crate::source::kernel::backend::Probes;

/// A program that the kernel took.
#[derive(Debug)]
pub struct Taken {
    /// The program's name.
    pub program: &'static str,
    /// Instructions that the verifier looked at; `None` where the kernel does not tell (before 5.16).
    pub verified: Option<u32>,
}

/// Load every program of the kprobe backend, and let go of it again.
pub fn kprobe_programs(logs: LogLevel) -> Result<Vec<Taken>, SourceError> {
    let mut programs = programs(Backend::Kprobe, logs)?.1;
    let names = SITES.iter().flat_map(|site| [site.kprobe.entry, site.kprobe.exit]);
    names.map(|name| kprobe_program(&mut programs, name)).collect()
}

fn kprobe_program(programs: &mut Programs, name: &'static str) -> Result<Taken, SourceError> {
    let refused = |error| SourceError::Program { program: name, source: Box::new(error) };
    let program = programs.kprobe(name)?;
    program.load().map_err(refused)?;
    Ok(Taken { program: name, verified: program.info().map_err(refused)?.verified_instruction_count() })
}

/// Attach as a recorder does, by a backend, to functions of the kernel itself; detached at once.
pub fn attach(backend: Backend) -> Result<(), SourceError> {
    let (config, mut programs) = programs(backend, LogLevel::Off)?;
    Probes::attach(&mut programs, &config, &mut || {}).map(drop)
}

fn programs(backend: Backend, logs: LogLevel) -> Result<(Config, Programs), SourceError> {
    let config = Config {
        backend,
        module: None,
        length_is_cap: true,
        logs,
        canary_thread: 0,
        calls: None,
        locks: false,
        run_times: false,
    };
    let programs = load::load(&config)?;
    Ok((config, programs))
}
