//! `cargo xtask bench`: measurements whose results are kept in `docs/`.

mod overhead;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::Chore;

/// Measure: what the probes cost.
#[derive(Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Overhead(overhead::Overhead),
}

impl Chore for Bench {
    fn run(self) -> Result<ExitCode> {
        match self.what {
            What::Overhead(overhead) => overhead.run(),
        }
    }
}
