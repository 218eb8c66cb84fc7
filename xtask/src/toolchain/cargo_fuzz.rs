//! cargo-fuzz, which builds the targets in `fuzz/` with coverage and a sanitizer.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::Rustc;
use crate::cache::{Cache, Key};
use crate::ui::Step;
use crate::{tool, workspace};

const VERSION: &str = "0.13.1";

/// The program `cargo-fuzz`.
pub(super) fn ensure(cache: &Cache, rustc: &Rustc) -> Result<PathBuf> {
    let key = Key::default().with("version", VERSION).with("rustc", &rustc.identity);
    let entry = cache.entry("cargo-fuzz", &key, |dir| {
        let step = Step::begin("cargo-fuzz", format!("compiling {VERSION}"));
        let mut install = Command::new(workspace::cargo());
        install
            .args(["install", "cargo-fuzz", "--version", VERSION, "--locked", "--debug", "--root"])
            .arg(dir)
            .current_dir(dir)
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        tool::logged(&mut install, &cache.log("cargo-fuzz"))
            .with_context(|| format!("cannot compile cargo-fuzz {VERSION}"))?;
        step.done();
        Ok(())
    })?;
    Ok(entry.join("bin/cargo-fuzz"))
}
