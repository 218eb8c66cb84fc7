//! `cargo xtask bench`: measurements whose results are kept in `docs/`.

mod completeness;
mod overhead;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::Chore;

/// Measure: what the probes cost, and what tools miss.
#[derive(Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Overhead(overhead::Overhead),
    Completeness(completeness::Completeness),
}

impl Chore for Bench {
    fn run(self) -> Result<ExitCode> {
        match self.what {
            What::Overhead(overhead) => overhead.run(),
            What::Completeness(completeness) => completeness.run(),
        }
    }
}
