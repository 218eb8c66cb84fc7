//! `cargo xtask demo`: the main job in one command. Driver and recorder together on the real kernel
//! function, then the report, with the recording kept.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::debian::Mirror;
use crate::ui::Step;
use crate::{Chore, build, setup, tool, ui, workspace};

/// What runs: the commands of a user, in a shell.
const SCRIPT: &str = "lab/demo.sh";
const RECORDING: &str = "demo.iova";

/// Set up, drive and record real GET_PA calls, and print the report.
///
/// Runs in the lab's VM unless this host can do it itself and `--on host` is given.
#[derive(Args)]
pub(crate) struct Demo {
    /// Where to run.
    #[arg(long, value_enum, default_value = "auto")]
    on: Place,
    #[command(flatten)]
    mirror: Mirror,
}

/// A machine for the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Place {
    /// The host, where it has a no-IOMMU device and the rights; else the lab.
    Auto,
    /// A VM.
    Lab,
    /// This machine.
    Host,
}

impl Chore for Demo {
    fn run(self) -> Result<ExitCode> {
        let step = Step::begin("demo", "drive and record GET_PA on a real kernel");
        let host_can = |binary: &Path| self.on != Place::Lab && able(binary);
        let out = workspace::root().join("out/demo");
        fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
        let recording = out.join(RECORDING);
        clear(&recording)?;
        // The user side builds while the lab is made, but a host that can needs no lab.
        let variants: &[&str] = if self.on == Place::Host { &[] } else { &["mainline"] };
        setup::ensure(&self.mirror, variants)?;
        let binary = build::binary(&self.mirror)?;
        if host_can(&binary) {
            step.note("on this host, which has a no-IOMMU device");
            on_host(&binary, &out)?;
        } else if self.on == Place::Host {
            bail!("this host cannot run the demo: `{} doctor` says why", binary.display());
        } else {
            step.note("in the lab");
            in_lab(&out)?;
        }
        let report = Command::new(&binary).arg("report").arg(&recording).status();
        let reported = report.context("cannot start iovascope report")?.success();
        ui::say(format!("\nrecording: {}", shown(&recording).display()));
        ui::say(format!("again:     {} report {}", shown(&binary).display(), shown(&recording).display()));
        step.done();
        Ok(if reported { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Whether this host has everything that recording and driving need.
fn able(binary: &Path) -> bool {
    let looked = Command::new(binary).args(["doctor", "--json"]).stderr(Stdio::null()).output();
    let Ok(output) = looked else { return false };
    serde_json::from_slice::<serde_json::Value>(&output.stdout)
        .is_ok_and(|found| found["record"]["able"] == true && found["load"]["able"] == true)
}

fn on_host(binary: &Path, out: &Path) -> Result<()> {
    let folder = binary.parent().unwrap_or(Path::new("."));
    let mut path = folder.as_os_str().to_owned();
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let mut script = Command::new("sh");
    script.arg(workspace::root().join(SCRIPT)).current_dir(out).env("PATH", path);
    run(&mut script, "the demo on this host")
}

fn in_lab(out: &Path) -> Result<()> {
    let mut lab = tool::this();
    let mut share = std::ffi::OsString::from("lab=");
    share.push(workspace::root().join("lab"));
    lab.args(["lab", "run", "--no-build", "--out"]).arg(out).arg("--share").arg(share);
    // Huge pages are the guest's own: it is thrown away.
    lab.args(["--", "sh", "-c", "echo 40 > /proc/sys/vm/nr_hugepages; exec sh /lab/share/lab/demo.sh"]);
    run(&mut lab, "the demo in the lab")
}

fn run(command: &mut Command, what: &str) -> Result<()> {
    // Standard output is the report's.
    let status = command.stdin(Stdio::null()).stdout(std::io::stderr()).status();
    let status = status.with_context(|| format!("cannot start {what}"))?;
    if !status.success() {
        bail!("{what} ended with {status}; what it said is above");
    }
    Ok(())
}

/// The recorder never overwrites; the demo replaces its own recording only.
fn clear(recording: &Path) -> Result<()> {
    match fs::remove_file(recording) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", recording.display()))
        }
        _ => Ok(()),
    }
}

/// A path as the user would type it here.
fn shown(path: &Path) -> PathBuf {
    let here = env::current_dir().unwrap_or_default();
    path.strip_prefix(here).map_or_else(|_| path.to_owned(), Path::to_owned)
}
