//! One short file per mode: a source wired to sinks.

use crate::cli::{Cli, Command};
use crate::exit::Status;

mod doctor;
mod load;

/// Run the chosen mode.
pub fn run(cli: Cli) -> anyhow::Result<Status> {
    match cli.command {
        Command::Load(args) => load::run(args),
        Command::Doctor(args) => doctor::run(args),
    }
}
