//! What runs beside the dashboard: a command, or a job of the driver. It ends with the dashboard, however that
//! ends: a job because it is in the same process, a command because the kernel kills it then.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use probe_model::histogram::Histogram;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getppid, kill_process, set_parent_process_death_signal, waitid,
};

use crate::cli::BesideArgs;
use crate::exit::Status;
use crate::tui::feed::{Driver, Feed};
use crate::tui::run::Feeder;
use crate::workload::plan::Plan;
use crate::workload::progress::{JobProgress, Progress};
use crate::workload::{self, Control};

/// A longer line of output is cut.
const LONGEST_LINE: u64 = 4096;
/// Time that a command has to end in order.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between two looks at a job.
const PACE: Duration = Duration::from_millis(200);

/// What runs beside the dashboard; it ends with it.
pub(super) enum Beside {
    Command(Child),
    Job { stop: Arc<AtomicBool>, thread: Option<thread::JoinHandle<()>> },
}

/// Start a command, if there is one.
pub(super) fn start(command: &[String], feeder: &Feeder) -> Option<Beside> {
    let program = command.first()?;
    // This program becomes the command: see `follow`.
    let mut follower = Command::new("/proc/self/exe");
    follower.arg0("iovascope").arg("beside").arg(std::process::id().to_string()).arg("--").args(command);
    follower.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match follower.spawn() {
        Ok(child) => child,
        Err(error) => {
            feeder.send(Feed::CommandEnded(format!("cannot start {program}: {error}")));
            return None;
        }
    };
    let outputs: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
        child.stderr.take().map(|err| Box::new(err) as Box<dyn Read + Send>),
    ];
    for output in outputs.into_iter().flatten() {
        let feeder = feeder.clone();
        thread::spawn(move || lines(output, &feeder));
    }
    let (pid, feeder) = (child.id(), feeder.clone());
    thread::spawn(move || tell_end(pid, &feeder));
    Some(Beside::Command(child))
}

/// Become the command, tied to the life of the thread that started this process: the dashboard's first one, which
/// lives as long as it. A program with more rights than its user (set-uid) is let go of by the kernel.
pub(super) fn follow(args: &BesideArgs) -> anyhow::Result<Status> {
    let Some((program, arguments)) = args.command.split_first() else { bail!("no command was named") };
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot be tied to the dashboard")?;
    // It may have ended before that.
    if getppid().map(|parent| parent.as_raw_nonzero().get()) != Some(args.parent) {
        bail!("the dashboard that asked for {program} is gone");
    }
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("cannot start {program}"))
}

impl Drop for Beside {
    fn drop(&mut self) {
        match self {
            Self::Command(child) => end(child),
            Self::Job { stop, thread } => {
                stop.store(true, Ordering::SeqCst);
                // It takes its mappings down first; how it ended was told.
                let _ = thread.take().map(thread::JoinHandle::join);
            }
        }
    }
}

fn end(child: &mut Child) {
    if matches!(child.try_wait(), Ok(Some(_))) {
        return;
    }
    // Asked first: `load` then takes its mappings down.
    if let Some(pid) = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)) {
        let _ = kill_process(pid, Signal::TERM);
    }
    let patience = Instant::now() + PATIENCE;
    while Instant::now() < patience {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Drive a plan in a thread of its own.
pub(super) fn drive(plan: Plan, feeder: &Feeder) -> Option<Beside> {
    let stop = Arc::new(AtomicBool::new(false));
    let (told, ours) = (Arc::clone(&stop), feeder.clone());
    let body = move || {
        let observe = |now: &Progress| drop(ours.offer(Feed::Driver(Box::new(driver(now)))));
        let control = Control { stop: &told, every: PACE, observe: Some(&observe) };
        let how = match workload::run(&plan, &control) {
            Ok(report) => {
                let mut text = Vec::new();
                // Writing into memory does not fail.
                let _ = report.write_text(&mut text);
                for line in text.split(|byte| *byte == b'\n') {
                    drop(ours.offer(Feed::Output(line.to_vec())));
                }
                if report.holds() { "every answer held".to_owned() } else { "answers were WRONG".to_owned() }
            }
            Err(error) => format!("{:#}", anyhow::Error::from(error)),
        };
        ours.send(Feed::CommandEnded(how));
    };
    match thread::Builder::new().name("load".to_owned()).spawn(body) {
        Ok(thread) => Some(Beside::Job { stop, thread: Some(thread) }),
        Err(error) => {
            feeder.send(Feed::CommandEnded(format!("cannot start a thread: {error}")));
            None
        }
    }
}

/// All jobs of the stage together.
fn driver(now: &Progress) -> Driver {
    let sum = |of: fn(&JobProgress) -> f64| now.jobs.iter().map(of).sum::<f64>();
    let merged = |of: fn(&JobProgress) -> Option<&Histogram>| {
        let mut all = now.jobs.iter().filter_map(of).filter(|histogram| !histogram.is_empty());
        let first = all.next()?.clone();
        Some(all.fold(first, |mut sum, next| {
            sum.merge(next);
            sum
        }))
    };
    let names = now.jobs.iter().map(|job| {
        let warming = if job.warming_up { ", warming up" } else { "" };
        format!("{} by {}{warming}", job.label, job.via)
    });
    let open = now.jobs.iter().any(|job| job.intended_per_second.is_some());
    let left = now.jobs.iter().map(|job| job.left_ns).max().flatten();
    let elapsed = now.jobs.iter().map(|job| job.elapsed_ns).max().unwrap_or(0);
    Driver {
        phase: format!("{} of {}: {}", now.stage, now.stages, names.collect::<Vec<_>>().join("; ")),
        intended: open.then(|| sum(|job| job.intended_per_second.unwrap_or(job.achieved_per_second))),
        achieved: sum(|job| job.achieved_per_second),
        calls: now.jobs.iter().map(|job| job.calls).sum(),
        failed: now.jobs.iter().map(|job| job.failed).sum(),
        behind: now.jobs.iter().map(|job| job.behind_ns).max().unwrap_or(0),
        service: merged(|job| Some(&job.service_ns.ok)),
        response: merged(|job| job.response_ns.as_ref().map(|times| &times.ok)),
        done: left.map(|left| elapsed as f64 / (elapsed + left).max(1) as f64),
    }
}

fn lines(output: Box<dyn Read + Send>, feeder: &Feeder) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        match (&mut output).take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        // Output beyond what can be shown is not worth waiting for.
        drop(feeder.offer(Feed::Output(line)));
    }
}

/// Wait for the end without taking the status, which is its owner's.
fn tell_end(pid: u32, feeder: &Feeder) {
    let Some(pid) = Pid::from_raw(i32::try_from(pid).unwrap_or(0)) else { return };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let Ok(Some(status)) = waitid(WaitId::Pid(pid), options) else { return };
    let how = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "in an unknown way".to_owned(),
    };
    feeder.send(Feed::CommandEnded(how));
}
