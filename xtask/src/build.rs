//! `cargo xtask build`: the BPF object, then the static binary that embeds it.
//!
//! Also the place other chores get these from. Refuses to need a nightly: the only unstable feature used is
//! `-Zbuild-std`, for the one target that ships no `core`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde::Deserialize;

use crate::cache::Cache;
use crate::debian::Mirror;
use crate::toolchain::{self, Rustc};
use crate::{Chore, ui, workspace};

pub(crate) const BPF_TARGET: &str = "bpfel-unknown-none";
/// The Cargo profile of everything that runs in the guest.
const PROFILE: &str = "guest";
/// Tells probe-user's build script which object to embed.
pub(crate) const OBJECT_VARIABLE: &str = "IOVASCOPE_BPF_OBJECT";
/// Name of the calibration's BPF object.
const REHEARSAL_OBJECT: &str = "rehearsal.bpf.o";
/// Separates flags in `CARGO_ENCODED_RUSTFLAGS`.
const FLAG_SEPARATOR: &str = "\u{1f}";

/// Build the BPF object and the static `iovascope` binary.
#[derive(Args)]
pub(crate) struct Build {
    /// Stop after the BPF object.
    #[arg(long)]
    bpf_only: bool,
    #[command(flatten)]
    mirror: Mirror,
}

impl Chore for Build {
    fn run(self) -> Result<ExitCode> {
        let object = bpf_object(&self.mirror)?;
        let made = if self.bpf_only { object } else { binary_with(&object)? };
        ui::answer(made.display().to_string());
        Ok(ExitCode::SUCCESS)
    }
}

/// Builds the BPF objects; returns `target/bpf/iovascope.bpf.o`, whose time changes only with its content. The
/// calibration's is beside it.
pub(crate) fn bpf_object(mirror: &Mirror) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let (_, linker) = toolchain::ensure(&cache, mirror)?;
    let mut linker_flag = OsString::from("linker=");
    linker_flag.push(linker.program());
    let flags: [&OsStr; 8] = [
        "-C".as_ref(),
        "debuginfo=2".as_ref(),
        "-C".as_ref(),
        "link-arg=--btf".as_ref(),
        "-C".as_ref(),
        // Compare-and-swap and 32-bit registers: any kernel since 5.12.
        "target-cpu=v3".as_ref(),
        "-C".as_ref(),
        &linker_flag,
    ];
    let library_path = linker.library_path()?;
    let object = workspace::target().join("bpf/iovascope.bpf.o");
    // The second one is known to probe-user's build script by its place beside the first.
    for (features, to) in [("", object.clone()), ("rehearsal", object.with_file_name(REHEARSAL_OBJECT))] {
        let mut cargo = cargo("build", &flags);
        cargo
            .args(["--package", "probe-ebpf", "--release", "--target", BPF_TARGET, "-Zbuild-std=core"])
            .args(["--features", features])
            .env("RUSTC_BOOTSTRAP", "1")
            .env("LD_LIBRARY_PATH", &library_path)
            .env("CARGO_TARGET_DIR", bpf_target_dir());
        let built = artifact(&mut cargo, |artifact| artifact.target.kind == ["bin"])
            .context("cannot build the BPF object (package probe-ebpf)")?;
        copy_if_changed(&built, &to)?;
    }
    Ok(object)
}

/// Cargo's output folder for the BPF side: its `core` is nobody else's.
pub(crate) fn bpf_target_dir() -> PathBuf {
    workspace::target().join("bpf-build")
}

/// Builds the static `iovascope` with the BPF object inside.
pub(crate) fn binary(mirror: &Mirror) -> Result<PathBuf> {
    binary_with(&bpf_object(mirror)?)
}

/// Where [`binary`] leaves its result.
pub(crate) fn binary_path() -> Result<PathBuf> {
    Ok(workspace::target().join(Rustc::query()?.host).join(PROFILE).join("iovascope"))
}

/// Builds test target `name` of probe-user, without running it.
pub(crate) fn test_binary(mirror: &Mirror, name: &str, features: &[&str]) -> Result<PathBuf> {
    let object = bpf_object(mirror)?;
    let mut cargo = guest_cargo("test")?;
    cargo.args(["--no-run", "--package", "probe-user", "--test", name]);
    cargo.args(["--features", &features.join(",")]).env(OBJECT_VARIABLE, object);
    artifact(&mut cargo, |artifact| artifact.target.kind == ["test"] && artifact.target.name == name)
        .with_context(|| format!("cannot build the test {name} of package probe-user"))
}

/// Builds the guest's PID 1.
pub(crate) fn guest_init() -> Result<PathBuf> {
    let mut cargo = guest_cargo("build")?;
    cargo.args(["--package", "lab-init", "--bin", "lab-init"]);
    artifact(&mut cargo, |artifact| artifact.target.kind == ["bin"])
        .context("cannot build the package lab-init")
}

/// Builds example `name` of probe-user, for a guest. It embeds no BPF object.
pub(crate) fn example(name: &str) -> Result<PathBuf> {
    let mut cargo = guest_cargo("build")?;
    cargo.args(["--package", "probe-user", "--example", name]);
    artifact(&mut cargo, |artifact| artifact.target.kind == ["example"] && artifact.target.name == name)
        .with_context(|| format!("cannot build the example {name} of package probe-user"))
}

fn binary_with(object: &Path) -> Result<PathBuf> {
    let mut cargo = guest_cargo("build")?;
    cargo.args(["--package", "probe-user", "--bin", "iovascope"]).env(OBJECT_VARIABLE, object);
    artifact(&mut cargo, |artifact| artifact.target.kind == ["bin"])
        .context("cannot build the package probe-user")
}

/// A cargo whose results run in any root of this architecture.
fn guest_cargo(command: &str) -> Result<Command> {
    let flags: [&OsStr; 2] = ["-C".as_ref(), "target-feature=+crt-static".as_ref()];
    let mut cargo = cargo(command, &flags);
    cargo.args(["--profile", PROFILE, "--target", &Rustc::query()?.host]);
    Ok(cargo)
}

fn cargo(command: &str, flags: &[&OsStr]) -> Command {
    let mut cargo = Command::new(workspace::cargo());
    cargo
        .arg(command)
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace::root())
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsStr::new(FLAG_SEPARATOR)))
        .env_remove("RUSTFLAGS");
    cargo
}

/// Puts `from` at `to`; leaves an equal `to` alone, so that nothing is rebuilt for its time stamp.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    fs::write(to, new).with_context(|| format!("cannot write {}", to.display()))
}

/// The part of Cargo's JSON messages that is read here.
#[derive(Deserialize)]
struct Artifact {
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Runs cargo and returns the executable that `wanted` accepts. Quiet when there was nothing to do.
fn artifact(cargo: &mut Command, wanted: impl Fn(&Artifact) -> bool) -> Result<PathBuf> {
    if io::stderr().is_terminal() {
        cargo.args(["--color", "always"]);
    }
    let spawned = cargo.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.context("cannot start cargo")?;
    let stderr = child.stderr.take().map(|pipe| thread::spawn(move || forward(pipe)));
    let mut found = None;
    for line in child.stdout.take().into_iter().flat_map(|pipe| BufReader::new(pipe).lines()) {
        let line = line.context("cannot read cargo's messages")?;
        // Other kinds of messages have no `executable` and fail to parse as this one.
        if let Ok(artifact) = serde_json::from_str::<Artifact>(&line)
            && wanted(&artifact)
        {
            found = artifact.executable.or(found);
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if let Some(forwarder) = stderr {
        let _ = forwarder.join();
    }
    if !status.success() {
        bail!("cargo ended with {status}; what it said is above");
    }
    found.ok_or_else(|| anyhow!("cargo built it but named no executable"))
}

/// Passes on what cargo says, but for its closing line.
fn forward(pipe: impl Read) {
    for line in BufReader::new(pipe).lines().map_while(Result::ok) {
        if !["Finished", "Executable"].iter().any(|word| line.contains(word)) {
            ui::say(line);
        }
    }
}
