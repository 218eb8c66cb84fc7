//! Facts about the compiler that builds the workspace, asked of the compiler itself.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::tool;

pub(crate) struct Rustc {
    /// `rustc -vV`, whole: it identifies the compiler.
    pub(crate) identity: String,
    /// As `1.95.0`.
    pub(crate) release: String,
    /// The host's target triple.
    pub(crate) host: String,
    pub(crate) llvm_major: u32,
    pub(crate) sysroot: PathBuf,
}

impl Rustc {
    pub(crate) fn query() -> Result<Self> {
        let program = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let identity = tool::output(Command::new(&program).arg("-vV"))?;
        let sysroot = tool::output(Command::new(&program).args(["--print", "sysroot"]))?;
        let field = |name: &str| {
            let line = identity.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.map(str::to_owned).ok_or_else(|| anyhow!("rustc -vV has no line {name:?}"))
        };
        let llvm = field("LLVM version")?;
        let major = llvm.split('.').next().unwrap_or_default();
        Ok(Self {
            release: field("release")?,
            host: field("host")?,
            llvm_major: major.parse().with_context(|| format!("rustc -vV: LLVM version {llvm:?}"))?,
            sysroot: PathBuf::from(sysroot.trim()),
            identity,
        })
    }

    /// Where the compiler's own shared libraries are.
    pub(crate) fn libraries(&self) -> PathBuf {
        self.sysroot.join("lib")
    }

    /// The shared LLVM that rustc itself runs on.
    pub(crate) fn llvm(&self) -> Result<PathBuf> {
        let dir = self.libraries();
        let entries = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
        entries
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with("libLLVM.so."))
            .map(|entry| entry.path())
            .ok_or_else(|| {
                anyhow!(
                    "{} holds no libLLVM.so: bpf-linker is built against rustc's own LLVM, which a \
                     toolchain installed by rustup has; install Rust through rustup",
                    dir.display()
                )
            })
    }
}
