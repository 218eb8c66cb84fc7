//! `iovascope top`: the kernel's counters in the dashboard, a workload beside it if one is named.
//!
//! The source has a thread of its own and shares nothing: a slow terminal merges samples, which are
//! cumulative, and never holds the counting up.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use probe_model::origin::Header;

use crate::cli::{SourceArgs, TopArgs};
use crate::exit::{Status, Usage};
use crate::source::kernel::{KernelSource, LogLevel, SourceError};
use crate::tui;
use crate::tui::app::Length;
use crate::tui::feed::Feed;
use crate::tui::run::Feeder;

use super::source::{self, Started};
use super::{dashboard, record};

/// A longer line of output is cut.
const LONGEST_LINE: u64 = 4096;

pub(super) fn run(args: &TopArgs) -> anyhow::Result<Status> {
    let chosen = dashboard::choose(&args.dashboard, Length::TenSeconds)?;
    if args.dashboard.print_config {
        dashboard::print_config(&chosen)?;
        return Ok(Status::Ok);
    }
    if args.source.include_iova && !args.source.wants_calls() {
        let usage = "--include-iova is about single calls; give --calls-every or --slower too";
        return Err(Usage(usage.to_owned()).into());
    }
    tui::run::require_terminal()?;
    let stop = Arc::new(AtomicBool::new(false));
    let (counting, begin) = count(args, &stop)?;
    let mut beside = None;
    let name = args
        .command
        .first()
        .map_or_else(|| "this machine".to_owned(), |program| format!("this machine beside {program}"));
    let ended = tui::run(
        chosen.setup(name, true),
        |feeder| {
            // The source waits for it; it is there as long as its thread.
            let _ = begin.send(feeder.clone());
            beside = Beside::start(&args.command, &feeder);
        },
        dashboard::export,
    );
    stop.store(true, Ordering::SeqCst);
    drop(beside);
    counting.join().map_err(|_| anyhow!("the counting ended badly"))?;
    dashboard::remember(&chosen, ended?)?;
    Ok(Status::Ok)
}

type Counting = (thread::JoinHandle<()>, std::sync::mpsc::Sender<Feeder>);

/// Attach, in the thread that will take the samples; mistakes are told before there is a dashboard.
fn count(args: &TopArgs, stop: &Arc<AtomicBool>) -> anyhow::Result<Counting> {
    let (begin, handed) = channel::<Feeder>();
    let (tell, answer) = sync_channel(1);
    let (arguments, interval): (SourceArgs, Duration) = (args.source.clone(), args.interval);
    let stop = Arc::clone(stop);
    let body = move || {
        let attached =
            match source::start(&arguments, LogLevel::Off).and_then(|started| ready(interval, started)) {
                Ok(attached) => attached,
                // Nobody waits for it only if the program is ending.
                Err(error) => return drop(tell.send(Err(error))),
            };
        let (source, header) = attached;
        if tell.send(Ok(())).is_ok() {
            sampling(source, header, interval, arguments.wants_calls(), &handed, &stop);
        }
    };
    let thread =
        thread::Builder::new().name("source".to_owned()).spawn(body).context("cannot start a thread")?;
    answer.recv().context("the source ended before it began")??;
    Ok((thread, begin))
}

fn ready(interval: Duration, started: Started) -> anyhow::Result<(KernelSource, Header)> {
    let Started { mut source, abi, declined, calibration } = started;
    let first = source.sample()?;
    let header = record::header(interval, &source, declined, abi, first.at);
    Ok((source, Header { calibration, ..header }))
}

fn sampling(
    mut source: KernelSource,
    header: Header,
    interval: Duration,
    wants_calls: bool,
    handed: &Receiver<Feeder>,
    stop: &AtomicBool,
) {
    let Ok(feeder) = handed.recv() else { return };
    let mut next = Instant::now() + interval;
    if !feeder.send(Feed::Started(Box::new(header))) {
        return;
    }
    while !stop.load(Ordering::SeqCst) {
        // In short steps, so that the end is not held up by a long interval.
        let left = next.saturating_duration_since(Instant::now());
        thread::sleep(left.min(Duration::from_millis(50)));
        if Instant::now() < next {
            continue;
        }
        next = Instant::now() + interval;
        match read(&mut source, wants_calls, &feeder) {
            Ok(()) => {}
            Err(error) => {
                feeder.send(Feed::Failed(format!("{:#}", anyhow::Error::from(error))));
                return;
            }
        }
    }
    // Detached in order; what open calls would still add is nobody's any more.
    let _ = source.finish(Duration::ZERO);
}

/// One sample. When the dashboard is busy it is dropped: the next one holds what it held.
fn read(source: &mut KernelSource, wants_calls: bool, feeder: &Feeder) -> Result<(), SourceError> {
    let sample = source.sample()?;
    drop(feeder.offer(Feed::Sample(Box::new(sample))));
    if wants_calls {
        let calls = source.calls();
        if !calls.is_empty() {
            drop(feeder.offer(Feed::Calls(calls)));
        }
    }
    Ok(())
}

/// A command beside the dashboard; it ends with it.
struct Beside(Child);

impl Beside {
    fn start(command: &[String], feeder: &Feeder) -> Option<Self> {
        let (program, arguments) = command.split_first()?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
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
        Some(Self(child))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        // Asked first: `load` then takes its mappings down.
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap_or(0)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let patience = Instant::now() + Duration::from_secs(1);
        while Instant::now() < patience {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
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
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
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
