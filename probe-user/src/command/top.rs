//! `iovascope top`: the kernel's counters in the dashboard, a workload beside it if one is named.
//!
//! The source has a thread of its own and shares nothing: a slow terminal merges samples, which are
//! cumulative, and never holds the counting up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use probe_model::origin::Header;

use crate::cli::{SourceArgs, TopArgs};
use crate::exit::{Status, Usage};
use crate::source::clock::Watch;
use crate::source::kernel::{LogLevel, SourceError};
use crate::tui;
use crate::tui::app::Length;
use crate::tui::feed::Feed;
use crate::tui::run::Feeder;

use super::auto::{Step, Turn, Watched};
use super::source::{self, Started};
use super::{beside, dashboard, record};

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
    let plan = args.load.as_deref().map(super::load::plan_of).transpose()?;
    if plan.as_ref().is_some_and(|plan| plan.bind.is_some()) {
        return Err(
            Usage("a job beside the dashboard drives a device that is bound already".to_owned()).into()
        );
    }
    tui::run::require_terminal()?;
    let stop = Arc::new(AtomicBool::new(false));
    let (counting, begin) = count(args, &stop)?;
    let mut beside = None;
    let other = args.load.as_ref().or(args.command.first());
    let name =
        other.map_or_else(|| "this machine".to_owned(), |other| format!("this machine beside {other}"));
    let ended = tui::run(
        chosen.setup(name, true),
        |feeder| {
            // The source waits for it; it is there as long as its thread.
            let _ = begin.send(feeder.clone());
            beside = match plan {
                Some(plan) => beside::drive(plan, &feeder),
                None => beside::start(&args.command, &feeder),
            };
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

fn ready(interval: Duration, started: Started) -> anyhow::Result<(Watched, Header)> {
    let Started { mut source, abi, declined, shares } = started;
    let first = source.sample()?.sample;
    let header = record::header(interval, &source.source, declined, abi, first.at);
    Ok((source, Header { shares, ..header }))
}

fn sampling(
    mut source: Watched,
    header: Header,
    interval: Duration,
    wants_calls: bool,
    handed: &Receiver<Feeder>,
    stop: &AtomicBool,
) {
    let Ok(feeder) = handed.recv() else { return };
    let mut next = Instant::now() + interval;
    let mut watch = Watch::begin();
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
            // Marks are not dropped: nothing else says it.
            Ok(()) => drop(watch.look().mark.map(|mark| feeder.send(Feed::Mark(Box::new(mark))))),
            Err(error) => {
                feeder.send(Feed::Failed(format!("{:#}", anyhow::Error::from(error))));
                return;
            }
        }
    }
    // Detached in order; what open calls would still add is nobody's any more.
    let _ = source.source.finish(Duration::ZERO);
}

/// One sample. When the dashboard is busy it is dropped: the next one holds what it held.
fn read(source: &mut Watched, wants_calls: bool, feeder: &Feeder) -> Result<(), SourceError> {
    let Step { sample, turn } = source.sample()?;
    drop(feeder.offer(Feed::Sample(Box::new(sample))));
    if let Some(Turn { sample, mark }) = turn {
        // There is one at most, and it must be told.
        for feed in sample
            .map(|sample| Feed::Sample(Box::new(sample)))
            .into_iter()
            .chain([Feed::Mark(Box::new(mark))])
        {
            feeder.send(feed);
        }
    }
    if wants_calls {
        let calls = source.source.calls();
        if !calls.is_empty() {
            drop(feeder.offer(Feed::Calls(calls)));
        }
    }
    Ok(())
}
