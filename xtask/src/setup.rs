//! `cargo xtask setup`: everything the other chores need, once, and only what is missing.
//!
//! The parts that do not need each other run side by side: one compiles, the other downloads.

use std::process::ExitCode;
use std::thread;

use anyhow::{Result, anyhow};
use clap::Args;

use crate::cache::Cache;
use crate::debian::{self, Mirror};
use crate::lab::Stage;
use crate::ui::Step;
use crate::{Chore, toolchain};

/// Install what the project needs: host packages, the BPF toolchain, the lab.
#[derive(Args)]
pub(crate) struct Setup {
    /// Kernel variants of the lab to build.
    #[arg(long = "variant", value_name = "NAME", default_values = ["mainline"])]
    variants: Vec<String>,
    #[command(flatten)]
    mirror: Mirror,
}

impl Chore for Setup {
    fn run(self) -> Result<ExitCode> {
        let step = Step::begin("setup", "host packages, BPF toolchain, lab");
        let names: Vec<&str> = self.variants.iter().map(String::as_str).collect();
        ensure(&self.mirror, &names)?;
        step.done();
        Ok(ExitCode::SUCCESS)
    }
}

/// Sets up everything, with the lab's `variants`.
pub(crate) fn ensure(mirror: &Mirror, variants: &[&str]) -> Result<()> {
    let cache = Cache::open()?;
    debian::ensure_host_packages(&cache)?;
    let stage = Stage::new(&cache, mirror);
    thread::scope(|scope| {
        let tools = scope.spawn(|| toolchain::ensure(&cache, mirror));
        let lab = variants.iter().try_for_each(|name| stage.variant(name).map(drop));
        let tools = tools.join().map_err(|_| anyhow!("setting up the toolchain panicked"))?;
        lab.and(tools.map(drop))
    })
}
