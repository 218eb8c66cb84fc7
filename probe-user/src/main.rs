//! Parse, run, and turn an error into the documented exit status.

use std::process::ExitCode;

use iovascope::cli::Cli;
use iovascope::exit;

fn main() -> ExitCode {
    let cli = Cli::of_process();
    match iovascope::command::run(cli) {
        Ok(status) => status.into(),
        Err(error) => exit::complain(&error),
    }
}
