//! bpf-linker, compiled against the LLVM that rustc brings, so no other LLVM is needed.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Rustc;
use crate::cache::{Cache, Key};
use crate::ui::Step;
use crate::{tool, workspace};

const VERSION: &str = "0.13.0";
/// Changes when the recipe below does, so that older results are not taken for its own.
const RECIPE: &str = "debug profile, locked, 1";

pub(crate) struct BpfLinker {
    program: PathBuf,
    libraries: PathBuf,
}

impl BpfLinker {
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// `LD_LIBRARY_PATH` under which the program finds rustc's LLVM.
    pub(crate) fn library_path(&self) -> Result<OsString> {
        library_path(&self.libraries)
    }
}

pub(super) fn ensure(cache: &Cache, rustc: &Rustc) -> Result<BpfLinker> {
    let key = Key::default().with("version", VERSION).with("rustc", &rustc.identity).with("recipe", RECIPE);
    let entry = cache.entry("bpf-linker", &key, |dir| compile(cache, rustc, dir))?;
    Ok(BpfLinker { program: entry.join("bin/bpf-linker"), libraries: rustc.libraries() })
}

fn compile(cache: &Cache, rustc: &Rustc, dir: &Path) -> Result<()> {
    let what = format!("compiling {VERSION} for rustc's LLVM {} (about a minute)", rustc.llvm_major);
    let step = Step::begin("bpf-linker", what);
    let prefix = dir.join("llvm");
    link_llvm(&rustc.llvm()?, &prefix)?;
    // The linker's own speed does not matter, LLVM does the work: a debug build takes a quarter of the time.
    let feature = format!("llvm-{}", rustc.llvm_major);
    let mut install = Command::new(workspace::cargo());
    install
        .args(["install", "bpf-linker", "--version", VERSION, "--locked", "--debug"])
        .args(["--no-default-features", "--features", &feature, "--root"])
        .arg(dir)
        .current_dir(dir)
        .env("LLVM_PREFIX", &prefix)
        .env("CARGO_TARGET_DIR", dir.join("build"))
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    tool::logged(&mut install, &cache.log("bpf-linker"))
        .with_context(|| format!("cannot compile bpf-linker {VERSION}"))?;
    let mut trial = Command::new(dir.join("bin/bpf-linker"));
    trial.arg("--version").env("LD_LIBRARY_PATH", library_path(&rustc.libraries())?);
    tool::output(&mut trial).context("bpf-linker was compiled but does not run")?;
    let build = dir.join("build");
    fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))?;
    step.done();
    Ok(())
}

/// The layout that bpf-linker's build looks for under `LLVM_PREFIX`.
fn link_llvm(library: &Path, prefix: &Path) -> Result<()> {
    let name = library.file_name().unwrap_or_default().to_os_string();
    for link in [Path::new("lib/libLLVM.so"), Path::new("lib64/libLLVM.so"), &Path::new("lib64").join(name)] {
        let link = prefix.join(link);
        if let Some(parent) = link.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        symlink(library, &link).with_context(|| format!("cannot link {}", link.display()))?;
    }
    Ok(())
}

fn library_path(first: &Path) -> Result<OsString> {
    let inherited = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let rest = env::split_paths(&inherited).filter(|path| !path.as_os_str().is_empty());
    env::join_paths(std::iter::once(first.to_path_buf()).chain(rest)).context("cannot form LD_LIBRARY_PATH")
}
