//! Embeds the BPF object that `cargo xtask build` made.
//!
//! Without one the user side still builds, with any stable toolchain: such a binary reads and shows
//! recordings, and says what is missing when it is asked to record.

use std::path::PathBuf;
use std::{env, fs, io};

/// Where `cargo xtask build` puts the object, from the workspace root.
const DEFAULT: &str = "target/bpf/iovascope.bpf.o";
const VARIABLE: &str = "IOVASCOPE_BPF_OBJECT";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let object = env::var_os(VARIABLE).map_or_else(|| manifest.join("..").join(DEFAULT), PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("iovascope.bpf.o");
    match fs::read(&object) {
        Ok(bytes) => fs::write(out, bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound && env::var_os(VARIABLE).is_none() => {
            println!(
                "cargo::warning=no BPF object at {DEFAULT}: this binary cannot record; run `cargo xtask build`"
            );
            fs::write(out, [])
        }
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", object.display()))),
    }
}
