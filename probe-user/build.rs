//! Embeds the BPF objects that `cargo xtask build` made: the recording's, and beside it the calibration's.
//!
//! Without one the user side still builds, with any stable toolchain: such a binary reads and shows
//! recordings, and says what is missing when it is asked to record.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Where `cargo xtask build` puts the object, from the workspace root.
const DEFAULT: &str = "target/bpf/iovascope.bpf.o";
/// The calibration's, beside it.
const REHEARSAL: &str = "rehearsal.bpf.o";
const VARIABLE: &str = "IOVASCOPE_BPF_OBJECT";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let object = env::var_os(VARIABLE).map_or_else(|| manifest.join("..").join(DEFAULT), PathBuf::from);
    embed(&object, "iovascope.bpf.o")?;
    embed(&object.with_file_name(REHEARSAL), REHEARSAL)
}

fn embed(object: &Path, name: &str) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", object.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join(name);
    match fs::read(object) {
        Ok(bytes) => fs::write(out, bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound && env::var_os(VARIABLE).is_none() => {
            println!(
                "cargo::warning=no BPF object {name}: this binary cannot record; run `cargo xtask build`"
            );
            fs::write(out, [])
        }
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", object.display()))),
    }
}
