//! One guest's life: start it, carry its bytes, wait for its verdict or the time limit, judge its kernel.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab_init::port;
use lab_init::spec::{Mode, Spec};
use lab_init::verdict::Verdict;

use super::console;
use super::outcome::{Ending, Outcome};
use super::qemu::{Accel, Connections, Machine};
use super::scratch::Scratch;
use super::stage::Kernel;
use super::terminal::Raw;

/// How long a guest may take from its verdict to the end of QEMU.
const POWER_OFF: Duration = Duration::from_secs(20);

/// What to run in a guest, and on what.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) arguments: Vec<String>,
    /// `NAME=value`.
    pub(crate) environment: Vec<String>,
    /// Files to put on the command's PATH, by name.
    pub(crate) programs: Vec<(String, PathBuf)>,
    /// Read-only folders, by name.
    pub(crate) shares: Vec<(String, PathBuf)>,
    /// The folder that the guest writes to; exists.
    pub(crate) out: PathBuf,
    pub(crate) cpus: u32,
    pub(crate) memory: String,
    pub(crate) append: String,
    pub(crate) limit: Duration,
    pub(crate) mode: Mode,
}

/// Where a command's output goes.
pub(crate) struct Sinks<'a> {
    pub(crate) stdout: &'a mut (dyn Write + Send),
    pub(crate) stderr: &'a mut (dyn Write + Send),
}

/// What the threads that listen to the guest have to tell.
enum Event {
    Stdout(u64),
    Stderr(u64),
    Verdict(Option<Verdict>),
    /// The guest is gone: the verdict port has ended.
    Gone,
    /// The user wants it to end.
    Stop,
}

/// Runs `job` on `kernel`. An error means that there was no guest; everything else is an outcome.
pub(super) fn run(
    scratch: &Scratch,
    kernel: &Kernel,
    accel: Accel,
    job: &Job,
    sinks: Sinks<'_>,
) -> Result<Outcome> {
    let inward = scratch.path().join("in");
    let shares = [kernel.shares.as_slice(), &job.shares].concat();
    provide(&inward, kernel, job, &shares)?;
    let log = scratch.path().join("console.log");
    let said = scratch.path().join("qemu.log");
    let machine = Machine {
        kernel,
        accel,
        cpus: if accel == Accel::Icount { 1 } else { job.cpus },
        memory: &job.memory,
        append: &job.append,
        log: &log,
        inward: &inward,
        outward: &job.out,
        shares: &shares,
    };
    let (ours, theirs) = connect(job.mode)?;
    let raw = matches!(job.mode, Mode::Shell { .. }).then(Raw::enter).transpose()?;
    let mut qemu = start(machine.command(&theirs).context("cannot connect QEMU")?, &said)?;
    // Only QEMU may hold the other ends now, or their end would never be seen.
    drop(theirs);
    let (ending, taint) = attend(&mut qemu, ours, job.limit, sinks)?;
    drop(raw);
    let console = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    keep(&console, &job.out.join("console.log"))?;
    let mut findings = console::judge(&console);
    findings.extend(console::judge_taint(taint));
    let qemu = fs::read_to_string(&said).unwrap_or_default();
    Ok(Outcome { ending, findings, console, qemu })
}

/// Writes the log into the folder that the guest wrote to: whatever it put under that name, a link to
/// another place of this host for one, is removed and never followed.
fn keep(console: &str, place: &Path) -> Result<()> {
    let _ = fs::remove_file(place);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(place)
        .and_then(|mut file| file.write_all(console.as_bytes()))
        .with_context(|| format!("cannot write {}", place.display()))
}

/// Fills the folder that this run brings into the guest.
fn provide(inward: &Path, kernel: &Kernel, job: &Job, shares: &[(String, PathBuf)]) -> Result<()> {
    let bin = inward.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
    for (name, file) in &job.programs {
        // A link where the file systems allow it: these files are large.
        let place = bin.join(name);
        fs::hard_link(file, &place)
            .or_else(|_| fs::copy(file, &place).map(drop))
            .with_context(|| format!("cannot bring {} into the guest", file.display()))?;
    }
    let spec = Spec {
        variant: kernel.variant.name.clone(),
        mode: job.mode,
        arguments: job.arguments.clone(),
        environment: job.environment.clone(),
        modules: kernel.load.clone(),
        noiommu_device: kernel.variant.noiommu_device,
        present: kernel.variant.present.clone(),
        absent: kernel.variant.absent.clone(),
        shares: shares.iter().map(|(name, _)| name.clone()).collect(),
    };
    fs::write(inward.join("spec"), spec.encode()).context("cannot write the run's spec")
}

fn connect(mode: Mode) -> Result<(Connections, Connections)> {
    let pair = || UnixStream::pair().context("cannot make a socket");
    let (stdout, verdict, stderr) = (pair()?, pair()?, pair()?);
    let (ours, theirs) = match mode {
        Mode::Run => (None, None),
        Mode::Shell { .. } => pair().map(|(ours, theirs)| (Some(ours), Some(theirs)))?,
    };
    let ours = Connections { stdout: stdout.0, stderr: stderr.0, verdict: verdict.0, console: ours };
    let theirs = Connections { stdout: stdout.1, stderr: stderr.1, verdict: verdict.1, console: theirs };
    Ok((ours, theirs))
}

fn start(mut command: Command, said: &Path) -> Result<Child> {
    let log = fs::File::create(said).with_context(|| format!("cannot write {}", said.display()))?;
    let twin = log.try_clone().context("cannot share QEMU's log")?;
    command.stdin(Stdio::null()).stdout(log).stderr(twin);
    command.spawn().context("cannot start QEMU")
}

/// Carries the guest's bytes until it is over. Returns how it ended, and the kernel's taint where known.
fn attend(qemu: &mut Child, ours: Connections, limit: Duration, sinks: Sinks<'_>) -> Result<(Ending, u64)> {
    let deadline = Instant::now() + limit;
    let (tell, events) = mpsc::channel();
    let answer = ours.verdict.try_clone().context("cannot share the verdict port")?;
    if let Some(console) = ours.console {
        let stop = tell.clone();
        Raw::connect(console, move || drop(stop.send(Event::Stop)))?;
    }
    let (stdout, stderr, verdict) = (ours.stdout, ours.stderr, ours.verdict);
    thread::scope(|scope| {
        let (out, err) = (tell.clone(), tell.clone());
        scope.spawn(move || carry(stdout, sinks.stdout, &out, Event::Stdout));
        scope.spawn(move || carry(stderr, sinks.stderr, &err, Event::Stderr));
        scope.spawn(move || listen(verdict, &tell));
        let ended = follow(&events, answer, deadline, limit);
        // Whatever is still alive is stopped, so the threads above see the end of their streams.
        let _ = qemu.kill();
        qemu.wait().context("cannot wait for QEMU")?;
        Ok(ended)
    })
}

/// Waits for the verdict and for every byte that it counts, then lets the guest power off.
fn follow(
    events: &Receiver<Event>,
    mut answer: UnixStream,
    deadline: Instant,
    limit: Duration,
) -> (Ending, u64) {
    let (mut stdout, mut stderr) = (0, 0);
    let mut verdict = None;
    loop {
        match &verdict {
            Some(Verdict::Failed(_)) => break,
            Some(Verdict::Ended { stdout: out, stderr: err, .. }) if stdout >= *out && stderr >= *err => {
                break;
            }
            _ => {}
        }
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Stdout(count)) => stdout += count,
            Ok(Event::Stderr(count)) => stderr += count,
            Ok(Event::Verdict(Some(told))) => verdict = Some(told),
            Ok(Event::Verdict(None) | Event::Gone) => return (Ending::Died, 0),
            Ok(Event::Stop) => return (Ending::Stopped, 0),
            Err(_) => return (Ending::TimedOut(limit), 0),
        }
    }
    let _ = answer.write_all(port::ACK);
    let patience = Instant::now() + POWER_OFF;
    while let Ok(event) = events.recv_timeout(patience.saturating_duration_since(Instant::now())) {
        if matches!(event, Event::Gone) {
            break;
        }
    }
    match verdict {
        Some(Verdict::Ended { status, taint, .. }) => (Ending::Status(status), taint),
        Some(Verdict::Failed(reason)) => (Ending::NotReady(reason), 0),
        None => (Ending::Died, 0),
    }
}

/// Copies a stream to a sink. A sink that is closed stops receiving; the guest goes on.
fn carry(mut stream: UnixStream, sink: &mut dyn Write, tell: &Sender<Event>, event: fn(u64) -> Event) {
    let mut open = true;
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        open = open && sink.write_all(&buffer[..count]).and_then(|()| sink.flush()).is_ok();
        let _ = tell.send(event(count as u64));
    }
}

fn listen(stream: UnixStream, tell: &Sender<Event>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let told = reader.read_line(&mut line).ok().and_then(|_| Verdict::decode(&line));
    let _ = tell.send(Event::Verdict(told));
    let _ = reader.read_to_string(&mut line);
    let _ = tell.send(Event::Gone);
}
