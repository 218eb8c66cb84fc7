//! `iovascope record`: the kernel's counters into a recording, until told to stop.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use crate::cli::RecordArgs;
use crate::exit::{Status, Usage};
use crate::recording::{self, Declined, End, EndReason, Header, Mark, Writer};
use crate::source::clock::{self, Watch};
use crate::source::host;
use crate::source::kernel::{Final, KernelSource, LogLevel, WallClock};
use crate::workload::abi::Abi;
use probe_model::canary::{Canary, Pulse};
use probe_model::loss::Balance;
use probe_model::sample::Sample;
use probe_model::share::Shares;

use super::auto::{Step, Turn, Watched};
use super::source::{self, Started};

/// How long open calls may take to return when the recording ends. A scan of 256 GiB takes longer:
/// it is then reported as in flight.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// Time between two looks into the ring of single calls, which holds ten thousand.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// Time between two looks at all clocks.
const ANCHOR: Duration = Duration::from_mins(1);

pub(super) type Sink = Writer<Box<dyn Write>>;

pub(super) fn run(args: &RecordArgs) -> anyhow::Result<Status> {
    if args.source.include_iova && !args.source.wants_calls() {
        let usage = "--include-iova is about single calls; give --calls-every or --slower too";
        return Err(Usage(usage.to_owned()).into());
    }
    let logs = if args.verbose { LogLevel::Trace } else { LogLevel::Off };
    if args.verbose {
        super::log_to_stderr();
    }
    let started = source::start(&args.source, logs)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(record(args, started))
}

async fn record(args: &RecordArgs, started: Started) -> anyhow::Result<Status> {
    // Before the first byte is written: who sees the file may ask for its end at once.
    let mut signals = Signals::new()?;
    let (out, name) = destination(args.output.as_deref())?;
    let Started { mut source, abi, declined, shares } = started;
    if !args.quiet {
        tell_backend(&source.source, &declined);
    }
    let first = source.sample()?.sample;
    let tags = args.tags.iter().cloned().collect();
    let header = Header { shares, tags, ..header(args.interval, &source.source, declined, abi, first.at) };
    let mut sink = match begin(out, &name, &header) {
        Err(error) if super::input::reader_left(&error) => return Ok(Status::Ok),
        other => other?,
    };
    let mut logs = source.source.logs()?;
    let mut child = spawn(&args.command)?;
    let ended = tokio::select! {
        ended = sample_until_done(args, &mut source, &mut sink, child.as_mut(), &mut signals) => {
            ended.or_else(Ended::of_writing)?
        }
        error = async {
            match &mut logs {
                Some(logs) => logs.forward().await,
                None => std::future::pending().await,
            }
        } => return Err(error.into()),
    };
    if let (Ended::Unwritable(_), Some(child)) = (&ended, &mut child) {
        // The user's command is not ours to end because our disk is full.
        child.wait().await.context("cannot wait for the command")?;
    }
    let last = source.source.finish(GRACE)?;
    let losses = Losses::of(&last);
    let unwritten = Unwritten::of(&sink, &last);
    let written = match ended {
        Ended::Unwritable(error) => return unwritten.tell(error),
        Ended::Duration | Ended::Signal | Ended::Command(_) => finish(sink, last, ended.reason()),
    };
    let written = match written {
        Ok(written) => written,
        Err(error) => return unwritten.tell(error),
    };
    if !args.quiet {
        let mut err = io::stderr().lock();
        // Telling is a courtesy; the recording is complete without it.
        let _ = writeln!(err, "iovascope: {} written to {name}; {losses}", probe_model::unit::bytes(written));
    }
    match ended {
        Ended::Command(status) if !status.success() => bail!("the command ended with {status}"),
        _ if args.strict && !losses.is_none() => Ok(Status::Incomplete),
        _ => Ok(Status::Ok),
    }
}

pub(super) fn begin(out: Box<dyn Write>, name: &str, header: &Header) -> anyhow::Result<Sink> {
    let mut sink = Writer::begin(out, name.to_owned(), header)?;
    sink.anchor(&clock::anchor())?;
    Ok(sink)
}

/// Which backend counts, where a better one does not.
fn tell_backend(source: &KernelSource, declined: &[Declined]) {
    let mut err = io::stderr().lock();
    for Declined { backend, why } in declined {
        // Telling is a courtesy; the recording holds it too.
        let _ = writeln!(err, "iovascope: by {}, not by {backend}: {why}", source.backend().name());
    }
}

/// Another backend counts from here on, or none could.
pub(super) fn tell_turn(turn: &Turn) {
    // Telling is a courtesy; the recording holds it too.
    let _ = writeln!(io::stderr().lock(), "iovascope: {}", turn.mark.text);
}

pub(super) fn write_turn(sink: &mut Sink, turn: Turn) -> Result<(), recording::RecordingError> {
    if let Some(sample) = turn.sample {
        sink.sample(sample)?;
    }
    sink.mark(&turn.mark)
}

/// Says when the probes are found dead, and when they are back; and who else works on our functions, once.
struct PulseTeller {
    quiet: bool,
    last: Canary,
    is_dark: bool,
    company: BTreeSet<String>,
}

impl PulseTeller {
    fn new(quiet: bool) -> Self {
        Self { quiet, last: Canary::default(), is_dark: false, company: BTreeSet::new() }
    }

    fn tell(&mut self, sample: &Sample) {
        let now = &sample.counters.canary;
        let is_dark = now.since(&self.last).is_dead();
        let what = match (self.is_dark, is_dark) {
            (false, true) => {
                "the probes see nothing: a call of our own was not counted; the gap is in the recording \
                 (are kprobes switched off in /sys/kernel/debug/kprobes/enabled, or is iommufd unloaded?)"
            }
            (true, false) => "the probes are alive again",
            _ => "",
        };
        if !what.is_empty() && !self.quiet {
            // Telling is a courtesy; the recording holds it too.
            let _ = writeln!(io::stderr().lock(), "iovascope: {what}");
        }
        self.is_dark = is_dark;
        self.last.clone_from(now);
        for who in sample.counters.company.visible().names() {
            if self.company.contains(&who) {
                continue;
            }
            if !self.quiet {
                // As above.
                let _ = writeln!(io::stderr().lock(), "iovascope: company: {who}: inside the latencies");
            }
            self.company.insert(who);
        }
    }
}

/// What was counted and is not in the recording, because it could not be written.
struct Unwritten {
    windows: u64,
    calls: u64,
}

impl Unwritten {
    fn of(sink: &Sink, last: &Final) -> Self {
        let later = last.sample.counters.since(&sink.last().counters);
        let calls = later.balances().values().map(|balance| balance.calls).sum();
        Self { windows: sink.windows(), calls }
    }

    fn tell(self, error: anyhow::Error) -> anyhow::Result<Status> {
        if super::input::reader_left(&error) {
            // The reader of the stream has seen enough.
            return Ok(Status::Ok);
        }
        let [windows, calls] = [self.windows, self.calls].map(probe_model::unit::count);
        Err(error.context(format!(
            "the recording ends early: {windows} windows are in it and can be read; {calls} calls counted after \
             them are not"
        )))
    }
}

/// How it came to an end.
enum Ended {
    Duration,
    Signal,
    Command(ExitStatus),
    /// The recording cannot be written any more.
    Unwritable(anyhow::Error),
}

impl Ended {
    /// An error of the recording is an end like others; what was counted is still summed up.
    fn of_writing(error: anyhow::Error) -> anyhow::Result<Self> {
        if error.downcast_ref::<recording::RecordingError>().is_some() {
            Ok(Self::Unwritable(error))
        } else {
            Err(error)
        }
    }

    fn reason(&self) -> EndReason {
        match self {
            Self::Duration => EndReason::Duration,
            Self::Signal | Self::Unwritable(_) => EndReason::Signal,
            Self::Command(_) => EndReason::Command,
        }
    }
}

async fn sample_until_done(
    args: &RecordArgs,
    source: &mut Watched,
    sink: &mut Sink,
    mut child: Option<&mut Child>,
    signals: &mut Signals,
) -> anyhow::Result<Ended> {
    let begin = Instant::now();
    let mut ticks = interval_at(begin + args.interval, args.interval);
    let mut polls = interval_at(begin + POLL, POLL);
    // Samples are cumulative: a late one is one longer window, and nothing is lost.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pulse = PulseTeller::new(args.quiet);
    let mut marks = signal(SignalKind::user_defined1())?;
    // A file that may not grow is an error of writing, not the end of the process.
    let _too_large = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    let mut anchors = interval_at(begin + ANCHOR, ANCHOR);
    anchors.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Where the kernel does not tell of steps at once, the next sample finds them.
    let mut wall_clock = WallClock::new().ok();
    let mut watch = Watch::begin();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let Step { sample, turn } = source.sample()?;
                pulse.tell(&sample);
                sink.sample(sample)?;
                tell_clock(&mut watch, sink)?;
                if let Some(turn) = turn {
                    if !args.quiet {
                        tell_turn(&turn);
                    }
                    write_turn(sink, turn)?;
                }
            }
            _ = polls.tick(), if args.source.wants_calls() => sink.calls(&source.source.calls())?,
            status = async {
                match &mut child {
                    Some(child) => child.wait().await,
                    None => std::future::pending().await,
                }
            } => return Ok(Ended::Command(status.context("cannot wait for the command")?)),
            _ = anchors.tick() => sink.anchor(&clock::anchor())?,
            changed = async {
                match &wall_clock {
                    Some(wall_clock) => wall_clock.changed().await,
                    None => std::future::pending().await,
                }
            } => {
                if changed.is_err() {
                    wall_clock = None;
                }
                tell_clock(&mut watch, sink)?;
            }
            _ = marks.recv() => {
                sink.mark(&Mark { at: clock::now(), text: "SIGUSR1".to_owned(), ..Mark::default() })?;
            }
            () = signals.any() => return Ok(Ended::Signal),
            () = async {
                match args.duration {
                    Some(duration) => sleep_until(begin + duration).await,
                    None => std::future::pending().await,
                }
            } => return Ok(Ended::Duration),
        }
    }
}

/// What the clocks did since the last look: anchors around a jump, a mark where their source is another one.
fn tell_clock(watch: &mut Watch, sink: &mut Sink) -> anyhow::Result<()> {
    let news = watch.look();
    for anchor in &news.anchors {
        sink.anchor(anchor)?;
    }
    if let Some(mark) = &news.mark {
        sink.mark(mark)?;
    }
    Ok(())
}

/// The signals that ask for an orderly end.
pub(super) struct Signals([Signal; 3]);

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let [interrupt, terminate, hangup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    pub(super) async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

fn destination(output: Option<&Path>) -> anyhow::Result<(Box<dyn Write>, String)> {
    match output {
        Some(path) if path == Path::new("-") => Ok((Box::new(io::stdout()), "stdout".to_owned())),
        Some(path) => create(path),
        None => {
            let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
            create(Path::new(&format!("iovascope-{now}.iova")))
        }
    }
}

pub(super) fn create(path: &Path) -> anyhow::Result<(Box<dyn Write>, String)> {
    let file: File = recording::create(path)?;
    Ok((Box::new(file), path.display().to_string()))
}

/// What is recorded, where, how; tags and the probes' share are the caller's.
pub(super) fn header(
    interval: Duration,
    source: &KernelSource,
    declined: Vec<Declined>,
    abi: Abi,
    started: probe_model::sample::Instant,
) -> Header {
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    Header {
        format: recording::FORMAT,
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: text(uname.release()),
        machine: text(uname.machine()),
        abi: abi.describe().to_owned(),
        length_is_cap: abi.cap(1).is_some(),
        backend: source.backend().name().to_owned(),
        declined,
        page_size: rustix::param::page_size() as u64,
        cpus: source.cpus(),
        sites: probe_common::site::SITES
            .iter()
            .map(|site| (site.name.to_owned(), site.symbol.to_owned()))
            .collect(),
        started,
        interval: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX),
        tags: BTreeMap::new(),
        host: host::facts(),
        requires: Vec::new(),
        shares: Shares::default(),
    }
}

fn spawn(command: &[String]) -> anyhow::Result<Option<Child>> {
    let Some((program, arguments)) = command.split_first() else { return Ok(None) };
    let child = Command::new(program)
        .args(arguments)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    Ok(Some(child))
}

pub(super) fn finish(mut sink: Sink, last: Final, reason: EndReason) -> anyhow::Result<u64> {
    sink.calls(&last.calls)?;
    sink.sample(last.sample)?;
    sink.anchor(&clock::anchor())?;
    let open_calls = last.open_calls.iter().map(|(site, open)| (site.name.to_owned(), *open)).collect();
    Ok(sink.end(&End { reason, open_calls, doubt: last.doubt })?)
}

/// What to say of losses at the end.
struct Losses {
    calls: u64,
    lost: u64,
    /// Calls chosen for a record of their own and lost.
    dropped: u64,
    /// The probes were dead for a time.
    dark: bool,
    /// Every call that began was measured.
    complete: bool,
}

impl Losses {
    fn is_none(&self) -> bool {
        self.complete && !self.dark && self.dropped == 0
    }

    fn of(last: &Final) -> Self {
        let balances: Vec<_> = last.sample.counters.balances().into_values().collect();
        Self {
            calls: balances.iter().map(|balance| balance.calls).sum(),
            lost: balances.iter().map(Balance::lost_calls).sum(),
            dropped: last.sample.counters.taken.dropped,
            dark: last.sample.counters.canary.pulse() == Pulse::Dark,
            complete: last.doubt == 0 && balances.iter().all(Balance::is_complete),
        }
    }
}

impl std::fmt::Display for Losses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use probe_model::unit::count;
        match self.lost {
            0 => write!(f, "{} calls, none lost", count(self.calls)),
            lost => write!(f, "{} calls, {} lost: see `iovascope report`", count(self.calls), count(lost)),
        }?;
        if self.dropped > 0 {
            write!(f, "; {} single calls had no room in the ring", count(self.dropped))?;
        }
        if self.dark {
            write!(f, "; the probes were dead for a time")?;
        }
        Ok(())
    }
}
