//! What building the BPF object needs beside a stable Rust: the sources of `core`, and bpf-linker. And cargo-fuzz.

mod bpf_linker;
mod cargo_fuzz;
mod rust_src;
mod rustc;

pub(crate) use bpf_linker::BpfLinker;
pub(crate) use rustc::Rustc;

use std::path::PathBuf;

use anyhow::Result;

use crate::cache::Cache;
use crate::debian::Mirror;

/// Everything `cargo xtask build` needs; made if it is missing.
pub(crate) fn ensure(cache: &Cache, mirror: &Mirror) -> Result<(Rustc, BpfLinker)> {
    let rustc = Rustc::query()?;
    rust_src::ensure(cache, &rustc, mirror)?;
    let linker = bpf_linker::ensure(cache, &rustc)?;
    Ok((rustc, linker))
}

/// The program `cargo-fuzz`; compiled if it is missing.
pub(crate) fn cargo_fuzz(cache: &Cache) -> Result<PathBuf> {
    cargo_fuzz::ensure(cache, &Rustc::query()?)
}
