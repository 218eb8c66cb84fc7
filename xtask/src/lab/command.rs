//! `cargo xtask lab`: what the user asks of the lab, and the exit status that answers.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use lab_init::spec::Mode;

use super::guest::{self, Job, Sinks};
use super::outcome::Outcome;
use super::qemu::Accel;
use super::scratch::Scratch;
use super::stage::Stage;
use super::{accel, terminal, variant};
use crate::cache::Cache;
use crate::debian::Mirror;
use crate::{Chore, build, ui, workspace};

/// Real kernels in a VM: build, run a command, or get a shell.
///
/// Exit status of `run`: the command's own; 124 when the time limit was reached; 125 when the lab failed or
/// the guest's kernel was in trouble, whatever the command said.
#[derive(Args)]
pub(crate) struct Lab {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    mirror: Mirror,
}

#[derive(Subcommand)]
enum Action {
    /// Make a guest's files and kernel modules.
    Build {
        /// Kernel variants; default: all.
        variants: Vec<String>,
        /// Look for a newer Debian kernel first.
        #[arg(long)]
        update: bool,
    },
    /// Run a command as root in a new guest.
    Run {
        #[command(flatten)]
        options: Options,
        /// The command and its arguments. It reads nothing; its output comes here as it is.
        #[arg(last = true, required = true, value_name = "COMMAND")]
        arguments: Vec<String>,
    },
    /// A shell, or another program, in a new guest, on this terminal. Ctrl-] stops the guest.
    Shell {
        #[command(flatten)]
        options: Options,
        /// Default: bash.
        #[arg(last = true, value_name = "COMMAND")]
        arguments: Vec<String>,
    },
}

#[derive(Args)]
struct Options {
    /// Virtual CPUs.
    #[arg(long, value_name = "N", default_value_t = 2)]
    smp: u32,
    /// The guest's memory, as QEMU's -m takes it [default: what the variant says, else 2G].
    #[arg(long, value_name = "SIZE")]
    mem: Option<String>,
    /// Deterministic: one CPU, and one guest nanosecond per executed instruction.
    #[arg(long)]
    icount: bool,
    /// The kernel: a file in lab/variants/.
    #[arg(long, value_name = "NAME", default_value = "mainline")]
    variant: String,
    /// Seconds until the guest is stopped. A shell has no limit.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Where the guest's output folder and console.log go [default: out/lab/VARIANT, emptied first].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// More kernel parameters.
    #[arg(long, value_name = "PARAMETERS", default_value = "", allow_hyphen_values = true)]
    append: String,
    /// A folder of this host, read-only at /lab/share/NAME.
    #[arg(long = "share", value_name = "NAME=DIR", value_parser = parse_share)]
    shares: Vec<(String, PathBuf)>,
    /// Set NAME in the command's environment.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,
    /// Use the `iovascope` that is there, or none.
    #[arg(long)]
    no_build: bool,
}

impl Chore for Lab {
    fn run(self) -> Result<ExitCode> {
        let cache = Cache::open()?;
        let stage = Stage::new(&cache, &self.mirror);
        match self.action {
            Action::Build { variants, update } => build_all(&stage, variants, update),
            Action::Run { options, arguments } => {
                let programs = programs(&options, &self.mirror)?;
                let outcome = boot(&stage, options, arguments, programs, Mode::Run)?;
                Ok(conclude(&outcome))
            }
            Action::Shell { options, arguments } => {
                let programs = programs(&options, &self.mirror)?;
                let arguments = if arguments.is_empty() { vec!["bash".to_owned()] } else { arguments };
                let (rows, columns) = terminal::size();
                let outcome = boot(&stage, options, arguments, programs, Mode::Shell { rows, columns })?;
                Ok(conclude(&outcome))
            }
        }
    }
}

fn build_all(stage: &Stage<'_>, mut names: Vec<String>, update: bool) -> Result<ExitCode> {
    if names.is_empty() {
        names = variant::names()?;
    }
    if update {
        stage.update()?;
    }
    for name in names {
        let kernel = stage.kernel(&name)?;
        ui::say(format!("{name}: {}", kernel.variant.proves));
    }
    Ok(ExitCode::SUCCESS)
}

fn boot(
    stage: &Stage<'_>,
    options: Options,
    arguments: Vec<String>,
    programs: Vec<(String, PathBuf)>,
    mode: Mode,
) -> Result<Outcome> {
    let kernel = stage.kernel(&options.variant)?;
    let accel =
        if options.icount || kernel.variant.icount { Accel::Icount } else { accel::best(stage, &kernel)? };
    let mut environment =
        vec![format!("TERM={}", std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned()))];
    environment.extend(options.environment);
    let job = Job {
        out: prepare_out(options.out, &options.variant)?,
        arguments,
        environment,
        programs,
        shares: options.shares,
        cpus: options.smp,
        memory: options.mem.or_else(|| kernel.variant.memory.clone()).unwrap_or_else(|| "2G".to_owned()),
        append: [kernel.variant.parameters.as_str(), &options.append].join(" ").trim().to_owned(),
        limit: match mode {
            Mode::Run => Duration::from_secs(options.timeout),
            // A person decides when a shell is over.
            Mode::Shell { .. } => Duration::from_hours(24),
        },
        mode,
    };
    let scratch = Scratch::new(stage.cache)?;
    let sinks = Sinks { stdout: &mut io::stdout(), stderr: &mut io::stderr() };
    guest::run(&scratch, &kernel, accel, &job, sinks)
}

fn conclude(outcome: &Outcome) -> ExitCode {
    for line in outcome.explain() {
        ui::say(line);
    }
    ExitCode::from(outcome.status())
}

/// The binary under test, on the guest's PATH.
fn programs(options: &Options, mirror: &Mirror) -> Result<Vec<(String, PathBuf)>> {
    let binary = if options.no_build { build::binary_path()? } else { build::binary(mirror)? };
    Ok(if binary.is_file() { vec![("iovascope".to_owned(), binary)] } else { Vec::new() })
}

/// The default folder is ours, and is emptied; one that the user names is left as it is.
fn prepare_out(named: Option<PathBuf>, variant: &str) -> Result<PathBuf> {
    let ours = named.is_none();
    let out = named.unwrap_or_else(|| workspace::root().join("out/lab").join(variant));
    if ours {
        match fs::remove_dir_all(&out) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot empty {}", out.display()));
            }
            _ => {}
        }
    }
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    out.canonicalize().with_context(|| format!("cannot find {}", out.display()))
}

fn parse_share(text: &str) -> Result<(String, PathBuf)> {
    let (name, dir) = text.split_once('=').ok_or_else(|| anyhow!("a share is NAME=DIR"))?;
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        bail!("{name:?} is no name for a share: it becomes a folder in /lab/share");
    }
    let dir = PathBuf::from(dir).canonicalize().with_context(|| format!("cannot find {dir}"))?;
    Ok((name.to_owned(), dir))
}
