//! Parse, run, and turn an error into the documented exit status.

use std::process::ExitCode;

use clap::Parser;
use iovascope::cli::Cli;
use iovascope::exit;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match iovascope::command::run(cli) {
        Ok(status) => status.into(),
        Err(error) => exit::complain(&error),
    }
}
