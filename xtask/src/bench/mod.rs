//! `cargo xtask bench`: measurements whose results are kept in `docs/`.

mod completeness;
mod driver;
mod newest;
mod overhead;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::Chore;

/// Measure: what the probes cost, what tools miss, and what the workload driver costs.
#[derive(Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Driver(driver::Driver),
    Overhead(overhead::Overhead),
    Completeness(completeness::Completeness),
}

impl Chore for Bench {
    fn run(self) -> Result<ExitCode> {
        match self.what {
            What::Driver(driver) => driver.run(),
            What::Overhead(overhead) => overhead.run(),
            What::Completeness(completeness) => completeness.run(),
        }
    }
}
