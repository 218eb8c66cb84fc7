//! The virtio-serial ports to the host: finds them by name, and holds the closing conversation.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use lab_init::port;
use lab_init::verdict::Verdict;

use crate::Failure;

/// The host names ports over a control queue, a few milliseconds after the driver's start.
const APPEAR: Duration = Duration::from_secs(10);
/// How long the host may take to drain what was sent.
const ACKNOWLEDGE: Duration = Duration::from_secs(30);

pub(crate) struct Ports {
    pub(crate) stdout: File,
    pub(crate) stderr: File,
    verdict: File,
}

impl Ports {
    pub(crate) fn open() -> Result<Self, Failure> {
        Ok(Self { stdout: open(port::STDOUT)?, stderr: open(port::STDERR)?, verdict: open(port::VERDICT)? })
    }

    /// Sends the verdict and waits until the host has it, so that powering off cannot cut anything short.
    pub(crate) fn conclude(&mut self, verdict: &Verdict) {
        // A host that is gone cannot be told so: both failures leave nothing to do but to power off.
        let Ok(mut answers) = self.verdict.try_clone() else {
            return;
        };
        if self.verdict.write_all(verdict.encode().as_bytes()).is_err() {
            return;
        }
        let (done, acknowledged) = mpsc::channel();
        thread::spawn(move || {
            let mut answer = [0; port::ACK.len()];
            drop(answers.read_exact(&mut answer));
            let _ = done.send(());
        });
        let _ = acknowledged.recv_timeout(ACKNOWLEDGE);
    }
}

fn open(name: &str) -> Result<File, Failure> {
    let deadline = Instant::now() + APPEAR;
    loop {
        if let Some(node) = find(name) {
            return OpenOptions::new()
                .read(true)
                .write(true)
                .open(&node)
                .map_err(|e| format!("open port {name} at {node}: {e}"));
        }
        if Instant::now() >= deadline {
            return Err(format!("no virtio port is named {name}"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn find(name: &str) -> Option<String> {
    fs::read_dir("/sys/class/virtio-ports").ok()?.flatten().find_map(|entry| {
        let found = fs::read_to_string(entry.path().join("name")).ok()?;
        (found.trim() == name).then(|| format!("/dev/{}", entry.file_name().to_string_lossy()))
    })
}
