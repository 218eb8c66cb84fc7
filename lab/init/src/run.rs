//! Runs the one command, carries its output to the host, and counts every byte of it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use lab_init::path;
use lab_init::spec::{Mode, Spec};
use lab_init::verdict::Verdict;
use rustix::termios::{Winsize, tcsetwinsize};

use crate::Failure;
use crate::ports::Ports;

/// The terminal that QEMU's `virtconsole` gives the guest.
const CONSOLE: &str = "/dev/hvc0";
/// A child that the command left behind may hold its output open; it is not waited for longer.
const DRAIN: Duration = Duration::from_secs(3);

pub(crate) fn command(spec: &Spec, ports: &Ports) -> Result<Verdict, Failure> {
    match spec.mode {
        Mode::Run => run(spec, ports),
        Mode::Shell { rows, columns } => shell(spec, rows, columns),
    }
}

fn run(spec: &Spec, ports: &Ports) -> Result<Verdict, Failure> {
    let (program, arguments) = spec.arguments.split_first().ok_or("the spec has no command")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    prepare(&mut command, spec);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Err(format!("start {program}: {error}")),
    };
    let stdout = child.stdout.take().map(|from| Pump::start(from, &ports.stdout)).transpose()?;
    let stderr = child.stderr.take().map(|from| Pump::start(from, &ports.stderr)).transpose()?;
    let status = child.wait().map_err(|e| format!("wait for {program}: {e}"))?;
    Ok(ended(status, stdout.map_or(0, Pump::finish), stderr.map_or(0, Pump::finish)))
}

/// `setsid --ctty` makes the console the controlling terminal, so that job control and Ctrl-C work.
fn shell(spec: &Spec, rows: u16, columns: u16) -> Result<Verdict, Failure> {
    let console = OpenOptions::new().read(true).write(true).open(CONSOLE);
    let console = console.map_err(|e| format!("open {CONSOLE}: {e}"))?;
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&console, size).map_err(|e| format!("set the size of {CONSOLE}: {e}"))?;
    let again = || console.try_clone().map_err(|e| format!("share {CONSOLE}: {e}"));
    let mut command = Command::new("/usr/bin/setsid");
    command.args(["--ctty", "--wait"]).args(&spec.arguments);
    command.stdin(again()?).stdout(again()?).stderr(again()?);
    prepare(&mut command, spec);
    let status = command.status().map_err(|e| format!("start {}: {e}", spec.arguments.join(" ")))?;
    Ok(ended(status, 0, 0))
}

fn prepare(command: &mut Command, spec: &Spec) {
    let search = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", path::BIN);
    command
        .current_dir(path::OUT)
        .env_clear()
        .env("PATH", search)
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .env("LAB_OUT", path::OUT)
        .env("LAB_VARIANT", &spec.variant);
    command.envs(spec.environment.iter().filter_map(|pair| pair.split_once('=')));
}

fn ended(status: ExitStatus, stdout: u64, stderr: u64) -> Verdict {
    let taint = fs::read_to_string("/proc/sys/kernel/tainted").unwrap_or_default();
    Verdict::Ended {
        status: code(status),
        stdout,
        stderr,
        // A mask that cannot be read counts as every taint there is.
        taint: taint.trim().parse().unwrap_or(u64::MAX),
    }
}

fn code(status: ExitStatus) -> u8 {
    let signal = status.signal().map(|n| n + 128);
    status.code().or(signal).and_then(|n| u8::try_from(n).ok()).unwrap_or(u8::MAX)
}

/// Copies one pipe to one port until the pipe ends.
struct Pump {
    sent: Arc<AtomicU64>,
    ended: Receiver<()>,
}

impl Pump {
    fn start(mut from: impl Read + Send + 'static, port: &File) -> Result<Self, Failure> {
        let mut port = port.try_clone().map_err(|e| format!("share a port: {e}"))?;
        let sent = Arc::new(AtomicU64::new(0));
        let (done, ended) = mpsc::channel();
        let counter = Arc::clone(&sent);
        thread::spawn(move || {
            let mut buffer = vec![0; 32 * 1024];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if port.write_all(&buffer[..count]).is_err() {
                    break;
                }
                counter.fetch_add(count as u64, Ordering::Release);
            }
            let _ = done.send(());
        });
        Ok(Self { sent, ended })
    }

    /// Bytes that went to the port.
    fn finish(self) -> u64 {
        let _ = self.ended.recv_timeout(DRAIN);
        self.sent.load(Ordering::Acquire)
    }
}
