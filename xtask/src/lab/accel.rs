//! Whether this machine's KVM boots the lab. The presence of `/dev/kvm` says nothing; a real boot does.
//!
//! The answer is kept until the machine reboots.

use std::fs::{self, OpenOptions};
use std::io;
use std::time::Duration;

use anyhow::{Context, Result};
use lab_init::spec::Mode;

use super::guest::{self, Job, Sinks};
use super::qemu::Accel;
use super::scratch::Scratch;
use super::stage::{Kernel, Stage};
use crate::ui::Step;

/// A boot under a KVM that works takes two seconds.
const PATIENCE: Duration = Duration::from_secs(12);

/// The fastest accelerator that works here.
pub(super) fn best(stage: &Stage<'_>, kernel: &Kernel) -> Result<Accel> {
    if OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(Accel::Tcg);
    }
    let boot =
        fs::read_to_string("/proc/sys/kernel/random/boot_id").context("cannot tell which boot this is")?;
    let answer = stage.cache.folder("kvm")?.join(boot.trim());
    let works = match fs::read_to_string(&answer).as_deref() {
        Ok("works") => true,
        Ok(_) => false,
        Err(_) => {
            let _lock = stage.cache.lock("kvm")?;
            let works = try_boot(stage, kernel)?;
            let word = if works { "works" } else { "does not boot" };
            fs::write(&answer, word).with_context(|| format!("cannot write {}", answer.display()))?;
            works
        }
    };
    Ok(if works { Accel::Kvm } else { Accel::Tcg })
}

fn try_boot(stage: &Stage<'_>, kernel: &Kernel) -> Result<bool> {
    let step = Step::begin("kvm", "does a guest boot under this machine's KVM?");
    let scratch = Scratch::new(stage.cache)?;
    let out = scratch.path().join("out");
    fs::create_dir(&out).context("cannot make a folder for the trial")?;
    let job = Job {
        arguments: vec!["true".to_owned()],
        environment: Vec::new(),
        programs: Vec::new(),
        shares: Vec::new(),
        out,
        cpus: 2,
        memory: "1G".to_owned(),
        append: String::new(),
        limit: PATIENCE,
        mode: Mode::Run,
    };
    let sinks = Sinks { stdout: &mut io::sink(), stderr: &mut io::sink() };
    let outcome = guest::run(&scratch, kernel, Accel::Kvm, &job, sinks)?;
    let works = outcome.status() == 0;
    step.note(if works { "yes" } else { "no; the lab runs on QEMU's translator" });
    step.done();
    Ok(works)
}
