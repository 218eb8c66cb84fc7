//! `cargo xtask demo`: the main job in one command. Driver and recorder together on the real kernel
//! function, then the report, with the recording kept.

use std::env;
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::thread;

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
/// On a terminal the calls are watched live, in the dashboard, before the report; q leaves it.
///
/// Runs in the lab's VM unless this host can do it itself and `--on host` is given.
#[derive(Args)]
pub(crate) struct Demo {
    /// Where to run.
    #[arg(long, value_enum, default_value = "auto")]
    on: Place,
    /// Do not open the dashboard on a terminal.
    #[arg(long)]
    no_dashboard: bool,
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
        let live = !self.no_dashboard && io::stdin().is_terminal() && io::stdout().is_terminal();
        if host_can(&binary) {
            step.note("on this host, which has a no-IOMMU device");
            let script = on_host(&binary, &out, live);
            finish(script, live, &binary, &out)?;
        } else if self.on == Place::Host {
            bail!("this host cannot run the demo: `{} doctor` says why", binary.display());
        } else {
            step.note("in the lab");
            let lab = in_lab(&out, live);
            finish(lab, live, &binary, &out)?;
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

/// Arguments of the script: a recording beside it, or one on stdout that lasts long enough to be watched.
fn script_arguments(live: bool) -> [&'static str; 2] {
    if live { ["-", "20"] } else { [RECORDING, "1"] }
}

fn on_host(binary: &Path, out: &Path, live: bool) -> Command {
    let folder = binary.parent().unwrap_or(Path::new("."));
    let mut path = folder.as_os_str().to_owned();
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let mut script = Command::new("sh");
    script.arg(workspace::root().join(SCRIPT)).args(script_arguments(live));
    script.current_dir(out).env("PATH", path);
    script
}

fn in_lab(out: &Path, live: bool) -> Command {
    let mut lab = tool::this();
    let mut share = std::ffi::OsString::from("lab=");
    share.push(workspace::root().join("lab"));
    lab.args(["lab", "run", "--no-build", "--out"]).arg(out).arg("--share").arg(share);
    // Huge pages are the guest's own: it is thrown away.
    let script = "echo 40 > /proc/sys/vm/nr_hugepages; exec sh /lab/share/lab/demo.sh \"$@\"";
    lab.args(["--", "sh", "-c", script, "demo"]).args(script_arguments(live));
    lab
}

/// Let it run, watched or not; afterwards the recording is there.
fn finish(mut command: Command, live: bool, binary: &Path, out: &Path) -> Result<()> {
    if live { watched(&mut command, binary, out) } else { run(&mut command, "the demo") }
}

/// The recording streams through the dashboard on this terminal, and into its file. What the machine says
/// goes to a log, so that it cannot draw over the dashboard.
fn watched(command: &mut Command, binary: &Path, out: &Path) -> Result<()> {
    let log_path = out.join("demo.log");
    let log = File::create(&log_path).with_context(|| format!("cannot make {}", log_path.display()))?;
    let mut recorder = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("cannot start the demo")?;
    let mut dashboard = Command::new(binary)
        .args(["replay", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start the dashboard")?;
    let (Some(from), Some(to)) = (recorder.stdout.take(), dashboard.stdin.take()) else {
        bail!("the recorder and the dashboard have no pipes");
    };
    let file = File::create_new(out.join(RECORDING)).context("cannot make the recording")?;
    let copying = thread::spawn(move || tee(from, to, file));
    dashboard.wait().context("cannot wait for the dashboard")?;
    if !copying.is_finished() {
        ui::say("the calls go on until the recording is complete");
    }
    copying
        .join()
        .map_err(|_| anyhow::anyhow!("the copying ended badly"))?
        .context("cannot keep the recording")?;
    let status = recorder.wait().context("cannot wait for the demo")?;
    if !status.success() {
        bail!("the demo ended with {status}: {} says more", shown(&log_path).display());
    }
    Ok(())
}

/// Into the file to the end, to the dashboard as long as it is there.
fn tee(mut from: ChildStdout, to: ChildStdin, mut file: File) -> io::Result<()> {
    let mut to = Some(to);
    let mut bytes = vec![0; 1 << 16];
    loop {
        let count = from.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        file.write_all(&bytes[..count])?;
        // Quitting the dashboard ends watching, not recording.
        to = to.and_then(|mut to| to.write_all(&bytes[..count]).is_ok().then_some(to));
    }
}

fn run(command: &mut Command, what: &str) -> Result<()> {
    // Standard output is the report's.
    let status = command.stdin(Stdio::null()).stdout(io::stderr()).status();
    let status = status.with_context(|| format!("cannot start {what}"))?;
    if !status.success() {
        bail!("{what} ended with {status}; what it said is above");
    }
    Ok(())
}

/// The recorder never overwrites; the demo replaces its own recording only.
fn clear(recording: &Path) -> Result<()> {
    match fs::remove_file(recording) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
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
