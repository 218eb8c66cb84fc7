//! `iovascope serve`: the counters as metrics for Prometheus and OpenTelemetry, from the kernel or from a
//! recording, growing or not.
//!
//! The endpoint runs on a thread of its own: a scraper can hold up neither the probes nor the recording.

use std::io::{self, Write as _};
use std::net::SocketAddr;

use anyhow::Context as _;
use probe_model::metric;
use probe_model::origin::Header;
use probe_model::sample::Sample;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant as Clock, MissedTickBehavior, interval_at, sleep_until};

use super::auto::Step;
use super::{input, record, source};
use crate::cli::ServeArgs;
use crate::exit::{Status, Usage};
use crate::export::otlp;
use crate::export::push::{Push, Target};
use crate::export::server::{Config, Latest, Server};
use crate::recording::{EndReason, Event, Reader, RecordingError};
use crate::source::kernel::LogLevel;

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<Status> {
    let outlet = Outlet::open(args)?;
    let served = match &args.file {
        Some(name) => replay(args, name, &outlet),
        None => live(args, &outlet),
    };
    outlet.close();
    served
}

/// Where metrics go.
struct Outlet {
    latest: Latest,
    push: Option<Push>,
    processes: usize,
}

impl Outlet {
    fn open(args: &ServeArgs) -> anyhow::Result<Self> {
        let latest = Latest::default();
        let config = config(args)?;
        let (ready, is_ready) = std::sync::mpsc::channel();
        let shown = latest.clone();
        std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(ready.send(Err(error.into()))),
                };
                runtime.block_on(async {
                    match Server::listen(&config, shown).await {
                        Ok(server) => {
                            // Who waits for it is the thread that made this one.
                            let _ = ready.send(server.address().map_err(Into::into));
                            server.run().await;
                        }
                        Err(error) => drop(ready.send(Err(anyhow::Error::from(error)))),
                    }
                });
            })
            .context("cannot start the metrics thread")?;
        let address: SocketAddr = is_ready.recv().context("the metrics thread ended")??;
        say(
            args,
            &format!("metrics at http{}://{address}/metrics", if args.tls_cert.is_some() { "s" } else { "" }),
        );
        let quiet = args.quiet;
        let tell = move |what: &str| {
            if !quiet {
                let _ = writeln!(io::stderr(), "iovascope: {what}");
            }
        };
        let push = target(args)?.map(|target| Push::begin(target, tell)).transpose();
        Ok(Self {
            latest,
            push: push.context("cannot start the thread that pushes")?,
            processes: args.processes,
        })
    }

    fn show(&self, header: &Header, sample: &Sample) {
        let families = metric::families(header, sample, self.processes);
        if let Some(push) = &self.push {
            push.offer(otlp::request(header, &families, header.started, sample.at));
        }
        self.latest.set(families);
    }

    fn close(self) {
        if let Some(push) = self.push {
            push.end();
        }
    }
}

/// From the kernel, until a signal comes or the duration is over.
fn live(args: &ServeArgs, outlet: &Outlet) -> anyhow::Result<Status> {
    let started = source::start(&args.source, LogLevel::Off)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(count(args, outlet, started))
}

async fn count(args: &ServeArgs, outlet: &Outlet, started: source::Started) -> anyhow::Result<Status> {
    // Before the first byte is written: who sees the recording may ask for its end at once.
    let mut signals = record::Signals::new()?;
    let source::Started { mut source, abi, declined, shares } = started;
    let first = source.sample()?.sample;
    let tags = args.tags.iter().cloned().collect();
    let header = record::header(args.interval, &source.source, declined, abi, first.at);
    let mut header = Header { shares, tags, ..header };
    let mut file = Tee::begin(args, &header)?;
    outlet.show(&header, &first);
    // A file that may not grow is an error of writing, not the end of the process.
    let _too_large = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    let begin = Clock::now();
    let mut ticks = interval_at(begin + args.interval, args.interval);
    let mut polls = interval_at(begin + record::POLL, record::POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reason = loop {
        tokio::select! {
            _ = ticks.tick() => {
                let Step { sample, turn } = source.sample()?;
                outlet.show(&header, &sample);
                file.write(|sink| sink.sample(sample));
                if let Some(turn) = turn {
                    header.changed(&turn.mark);
                    if !args.quiet {
                        record::tell_turn(&turn);
                    }
                    file.write(|sink| record::write_turn(sink, turn));
                }
            }
            _ = polls.tick(), if args.source.wants_calls() => {
                let calls = source.source.calls();
                file.write(|sink| sink.calls(&calls));
            }
            () = signals.any() => break EndReason::Signal,
            () = async {
                match args.duration {
                    Some(duration) => sleep_until(begin + duration).await,
                    None => std::future::pending().await,
                }
            } => break EndReason::Duration,
        }
    };
    let last = source.source.finish(record::GRACE)?;
    outlet.show(&header, &last.sample);
    match (file.sink, file.failed) {
        (Some(sink), _) => record::finish(sink, last, reason).map(|_| Status::Ok),
        (None, Some(error)) => Err(error).context("the recording ended early"),
        (None, None) => Ok(Status::Ok),
    }
}

/// The recording beside the server, from the same samples. When it cannot be written any more, serving goes
/// on, and the exit status tells.
struct Tee {
    sink: Option<record::Sink>,
    failed: Option<anyhow::Error>,
}

impl Tee {
    fn begin(args: &ServeArgs, header: &Header) -> anyhow::Result<Self> {
        let begin = |path: &std::path::PathBuf| {
            let (out, name) = record::create(path)?;
            record::begin(out, &name, header)
        };
        Ok(Self { sink: args.output.as_ref().map(begin).transpose()?, failed: None })
    }

    fn write(&mut self, what: impl FnOnce(&mut record::Sink) -> Result<(), RecordingError>) {
        if let Some(sink) = &mut self.sink
            && let Err(error) = what(sink)
        {
            let error = anyhow::Error::from(error);
            // Told at once, because the end may be far.
            let _ = writeln!(io::stderr(), "iovascope: {error:#}: serving goes on without the recording");
            (self.sink, self.failed) = (None, Some(error));
        }
    }
}

/// From a recording: as it grows, and its last state until a signal comes.
fn replay(args: &ServeArgs, name: &str, outlet: &Outlet) -> anyhow::Result<Status> {
    if args.output.is_some() {
        return Err(
            Usage("--output records what the kernel counts; a recording is one already".to_owned()).into()
        );
    }
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch for signals")?;
    let mut reader = Reader::begin(input::open(name)?, name.to_owned())?;
    let mut header = reader.header().clone();
    if name == "-" {
        // Reading waits for the recorder: the signal must end the process itself.
        std::thread::spawn(move || {
            signals.forever().next();
            std::process::exit(0);
        });
        while let Some(event) = reader.next_event()? {
            match event {
                Event::Window(_) => outlet.show(&header, reader.sample()),
                Event::Mark(mark) => header.changed(&mark),
                Event::Calls(_) | Event::Anchor(_) => {}
            }
        }
        return Ok(Status::Ok);
    }
    while let Some(event) = reader.next_event()? {
        if let Event::Mark(mark) = event {
            header.changed(&mark);
        }
    }
    outlet.show(&header, reader.sample());
    signals.forever().next();
    Ok(Status::Ok)
}

fn config(args: &ServeArgs) -> anyhow::Result<Config> {
    if !args.listen.ip().is_loopback() && !args.allow_remote {
        return Err(Usage(format!(
            "{} can be reached from other machines; give --allow-remote too, and think of --token-file and --tls-cert",
            args.listen
        ))
        .into());
    }
    let token = args.token_file.as_ref().map(|path| {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let token = text.trim().to_owned();
        anyhow::ensure!(!token.is_empty(), "{} holds no token", path.display());
        Ok(token)
    });
    Ok(Config {
        listen: args.listen,
        token: token.transpose()?,
        tls: args.tls_cert.clone().zip(args.tls_key.clone()),
    })
}

/// Where to push: by the flag, or by OpenTelemetry's own variables.
fn target(args: &ServeArgs) -> anyhow::Result<Option<Target>> {
    let Some(url) = &args.otlp else { return Ok(None) };
    let headers = args.otlp_headers.as_deref().unwrap_or_default();
    let headers = headers.split(',').filter(|pair| !pair.trim().is_empty()).map(|pair| {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| Usage("OTEL_EXPORTER_OTLP_HEADERS is not NAME=VALUE,...".to_owned()))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    });
    Ok(Some(Target { url: url.clone(), headers: headers.collect::<Result<_, Usage>>()? }))
}

fn say(args: &ServeArgs, what: &str) {
    if !args.quiet {
        // Telling is a courtesy.
        let _ = writeln!(io::stderr(), "iovascope: {what}");
    }
}
