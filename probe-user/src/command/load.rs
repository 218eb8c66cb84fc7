//! `iovascope load`: words to a plan, signals to a flag, progress to stderr, the result to stdout or a file.

mod progress;

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use signal_hook::consts::signal;

use crate::cli::Cli;
use crate::cli::load::{JobArgs, LoadArgs};
use crate::exit::{CannotRun, Status, Usage};
use crate::workload::bind::{self, BindError};
use crate::workload::churn::Churn;
use crate::workload::pace::Pace;
use crate::workload::plan::{Job, Limit, Plan};
use crate::workload::result::Report;
use crate::workload::verify::Addresses;
use crate::workload::words::{Entry, JobFile};
use crate::workload::{self, Control, WorkloadError, library};

/// Calls where neither a count nor a duration is given.
const DEFAULT_COUNT: std::num::NonZeroU64 = std::num::NonZeroU64::new(20_000).unwrap();

pub(super) fn run(args: &LoadArgs) -> anyhow::Result<Status> {
    if args.list_jobs {
        return list();
    }
    if args.restore {
        return restore();
    }
    let file = jobs(args)?;
    if args.print_job {
        plan(args, &file)?;
        write!(io::stdout().lock(), "{}", file.print()).context("writing the job to stdout")?;
        return Ok(Status::Ok);
    }
    let plan = plan(args, &file)?;
    if let Some(address) = &plan.bind {
        consent(args, address)?;
    }
    let stop = watch_signals()?;
    // Before the run: a file that cannot be made should not cost one.
    let output = args.output.as_deref().map(create).transpose()?;
    match drive(args, &plan, &stop) {
        Ok(report) => {
            match (output, &args.output) {
                (Some(file), Some(path)) => {
                    write_json(file, &report)
                        .with_context(|| format!("writing the result to {}", path.display()))?;
                }
                _ => write_stdout(args, &report)?,
            }
            Ok(if report.holds() { Status::Ok } else { Status::Failed })
        }
        Err(error) => {
            if let Some(path) = &args.output {
                // Empty and ours; should it stay, the error that follows says why it is empty.
                let _ = fs::remove_file(path);
            }
            Err(match error {
                WorkloadError::CannotRun(cannot) => cannot.into(),
                other => other.into(),
            })
        }
    }
}

/// The plan of a ready job or a job file.
pub(super) fn plan_of(job: &str) -> anyhow::Result<Plan> {
    let args = Cli::load_of(job).map_err(|error| Usage(error.to_string()))?;
    plan(&args, &jobs(&args)?)
}

fn drive(args: &LoadArgs, plan: &Plan, stop: &AtomicBool) -> Result<Report, WorkloadError> {
    let Some(meter) = progress::Meter::new(args.progress) else {
        return workload::run(plan, &Control { stop, every: progress::EVERY, observe: None });
    };
    let every = meter.every();
    let report = workload::run(plan, &Control { stop, every, observe: Some(&|now| meter.show(now)) });
    meter.end();
    report
}

/// Every signal that ends a process and can be caught. The first one asks for the orderly end. Should a
/// scan hold that up, the second ends at once: registered first, it sees the flag only when an earlier
/// signal has set it.
fn watch_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [
        signal::SIGINT,
        signal::SIGTERM,
        signal::SIGHUP,
        signal::SIGQUIT,
        signal::SIGUSR1,
        signal::SIGUSR2,
        signal::SIGALRM,
        signal::SIGVTALRM,
        signal::SIGPROF,
        signal::SIGXCPU,
        signal::SIGIO,
    ] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .with_context(|| format!("watching for signal {signal}"))?;
    }
    Ok(stop)
}

/// The jobs in words: the file's, or one of the flags alone; flags outrank a file.
fn jobs(args: &LoadArgs) -> anyhow::Result<JobFile> {
    let Some(name) = &args.file else {
        let entry = Entry { words: args.given.clone(), together: false };
        return Ok(JobFile { jobs: vec![entry], ..JobFile::default() });
    };
    let text = match library::named(name) {
        Some(text) => text.to_owned(),
        None => fs::read_to_string(name).with_context(|| {
            format!("reading the jobs in {name} (no ready job is called so; see --list-jobs)")
        })?,
    };
    let mut file = JobFile::parse(&text).map_err(|error| Usage(format!("{name}: {error}")))?;
    for entry in &mut file.jobs {
        entry.words = entry.words.overlaid(&args.given);
    }
    Ok(file)
}

fn plan(args: &LoadArgs, file: &JobFile) -> anyhow::Result<Plan> {
    let mut stages: Vec<Vec<Job>> = Vec::new();
    for (number, entry) in (1..).zip(&file.jobs) {
        let job = job(entry).map_err(|Usage(text)| match &args.file {
            Some(name) => Usage(format!("{name}, job {number}: {text}")),
            None => Usage(text),
        })?;
        match stages.last_mut() {
            Some(stage) if entry.together => stage.push(job),
            _ => stages.push(vec![job]),
        }
    }
    Ok(Plan {
        device: args.device.clone(),
        bind: args.bind.clone(),
        pin_limit: args.pin_limit,
        question: file.question.clone(),
        stages,
    })
}

fn job(entry: &Entry) -> Result<Job, Usage> {
    let args = JobArgs::of(&entry.words)?;
    if args.verify && args.churn.is_some_and(|kind| kind.disturbs_answers) {
        return Err(Usage(
            "--verify has nothing to hold on to while --churn under takes the buffer away".to_owned(),
        ));
    }
    let limit = match (args.count, args.duration) {
        (None, None) => Limit { count: Some(DEFAULT_COUNT), duration: None },
        (count, duration) => Limit { count, duration },
    };
    // Written out, so that a later version with another default repeats the run.
    let mut words = entry.words.clone();
    words.0.insert("seed".to_owned(), args.seed.to_string());
    Ok(Job {
        label: args.label,
        memory: args.memory,
        size: args.size,
        iova: args.iova,
        huge_pages: !args.no_huge_pages,
        ioases: args.ioases,
        queries: args.queries,
        cap: args.cap,
        churn: args.churn.map(|kind| Churn {
            kind,
            threads: args.churn_threads.get(),
            size: args.churn_size,
        }),
        faults: args.errors.unwrap_or_default(),
        pace: args.rate.map_or(Pace::Closed, |rate| Pace::Open { rate, arrivals: args.arrivals }),
        one_clock: args.one_clock,
        threads: args.threads,
        cpus: args.cpus.map(|cpus| cpus.0).unwrap_or_default(),
        warm_up: args.warm_up,
        limit,
        seed: args.seed,
        verify: args.verify.then_some(if args.show_addresses { Addresses::Show } else { Addresses::Hide }),
        ways: args.via,
        words,
    })
}

/// The user's word for what binding changes: `--yes`, or an answer on the terminal.
fn consent(args: &LoadArgs, address: &str) -> anyhow::Result<()> {
    let changes = bind::changes(Path::new("/"), address).map_err(flat)?;
    if args.yes {
        return Ok(());
    }
    let list = changes.iter().fold(String::new(), |list, change| list + "  " + change + "\n");
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Usage(format!("--bind would\n{list}and nobody is here to ask: give --yes")).into());
    }
    let mut err = io::stderr().lock();
    write!(err, "iovascope: this will\n{list}and put it back afterwards. Go on? [y/N] ")
        .and_then(|()| err.flush())
        .context("asking")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("reading the answer")?;
    if answer.trim().eq_ignore_ascii_case("y") || answer.trim().eq_ignore_ascii_case("yes") {
        return Ok(());
    }
    anyhow::bail!("nothing was changed")
}

fn restore() -> anyhow::Result<Status> {
    let restored = bind::restore(Path::new("/")).map_err(flat)?;
    let mut err = io::stderr().lock();
    // Telling is a courtesy; what was to be done is done.
    let _ = match restored {
        Some(address) => writeln!(
            err,
            "iovascope: {address} and the no-IOMMU parameter are as they were; the kernel's taint stays until reboot"
        ),
        None => writeln!(err, "iovascope: no run has left anything to restore"),
    };
    Ok(Status::Ok)
}

/// So that a refusal keeps its exit status.
fn flat(error: BindError) -> anyhow::Error {
    match error {
        BindError::CannotRun(CannotRun { what, why, remedy }) => CannotRun { what, why, remedy }.into(),
        other => other.into(),
    }
}

fn list() -> anyhow::Result<Status> {
    let mut out = io::stdout().lock();
    for (name, text) in library::READY {
        let file = JobFile::parse(text).with_context(|| format!("reading the ready job {name}"))?;
        let [question, answer] = [file.question, file.answer].map(Option::unwrap_or_default);
        writeln!(out, "{name}\n    {question}\n    {answer}").context("writing the list to stdout")?;
    }
    Ok(Status::Ok)
}

fn write_stdout(args: &LoadArgs, report: &Report) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if args.json { write_json(out, report) } else { report.write_text(&mut out) }
        .context("writing the result to stdout")
}

fn write_json(mut out: impl io::Write, report: &Report) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut out, report)?;
    writeln!(out)
}

/// A new file, for its owner alone: a root process must not write through what another user put there.
fn create(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("creating {} for the result (it must not exist yet)", path.display()))
}
