//! The sources of the standard library, from which `core` is built for the BPF target.
//!
//! rustup's component is the normal way. Where its server cannot be reached, Debian ships the same
//! sources as the package `rust-src`; one of the compiler's own version is linked into the sysroot.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::Rustc;
use crate::cache::{Cache, Key};
use crate::debian::{Apt, Mirror};
use crate::tool;
use crate::ui::Step;

/// Set to anything, it makes the fallback be used without asking rustup: for trying the fallback.
const SKIP_RUSTUP: &str = "IOVASCOPE_NO_RUSTUP";

pub(super) fn ensure(cache: &Cache, rustc: &Rustc, mirror: &Mirror) -> Result<()> {
    let link = rustc.sysroot.join("lib/rustlib/src/rust");
    if present(&link) {
        // A link into the cache counts as a use of what it points to.
        let _ = cache.get("rust-src", &key(rustc));
        return Ok(());
    }
    let _lock = cache.lock("rust-src-link")?;
    if present(&link) {
        return Ok(());
    }
    let step = Step::begin("rust-src", format!("sources of core for Rust {}", rustc.release));
    if let Err(refused) = by_rustup(cache, &link) {
        step.note(format!("not by rustup ({}); taking Debian's package", brief(&refused)));
        by_debian(cache, rustc, mirror, &link).with_context(|| {
            format!(
                "the sources of core for Rust {} could be had neither from rustup nor from Debian; \
                 `rustup component add rust-src` where rustup's server can be reached would do",
                rustc.release
            )
        })?;
    }
    step.done();
    Ok(())
}

fn present(link: &Path) -> bool {
    link.join("library/core/src/lib.rs").is_file()
}

fn brief(error: &anyhow::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().chars().take(120).collect()
}

fn by_rustup(cache: &Cache, link: &Path) -> Result<()> {
    if env::var_os(SKIP_RUSTUP).is_some() {
        bail!("{SKIP_RUSTUP} is set");
    }
    tool::logged(Command::new("rustup").args(["component", "add", "rust-src"]), &cache.log("rustup"))?;
    if present(link) { Ok(()) } else { bail!("rustup added it to another toolchain") }
}

fn key(rustc: &Rustc) -> Key {
    Key::default().with("release", &rustc.release)
}

fn by_debian(cache: &Cache, rustc: &Rustc, mirror: &Mirror, link: &Path) -> Result<()> {
    let entry = cache.entry("rust-src", &key(rustc), |dir| {
        let apt = Apt::open(cache, mirror)?;
        apt.update()?;
        let upstream = format!("{}+", rustc.release);
        let version = apt.versions("rust-src")?.into_iter().find(|v| v.starts_with(&upstream));
        let version = version.ok_or_else(|| anyhow!("Debian has no rust-src {}", rustc.release))?;
        let package = apt.download(&format!("rust-src={version}"), dir)?;
        tool::logged(Command::new("dpkg-deb").arg("-x").args([&package, dir]), &cache.log("rust-src"))?;
        fs::remove_file(&package).with_context(|| format!("cannot remove {}", package.display()))
    })?;
    let sources = sources_in(&entry)?;
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    // Only a link, which dangles, can be here: `present` was false, and nothing of rustup's is touched.
    if link.is_symlink() {
        fs::remove_file(link).with_context(|| format!("cannot replace {}", link.display()))?;
    }
    symlink(&sources, link).with_context(|| format!("cannot link {} into the toolchain", link.display()))
}

fn sources_in(entry: &Path) -> Result<PathBuf> {
    let dir = entry.join("usr/src");
    let found = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut found = found.flatten().map(|e| e.path()).filter(|path| present(path));
    found.next().ok_or_else(|| anyhow!("the package rust-src does not hold library/core"))
}
