//! One short file per mode: a source wired to sinks.

use std::io::Write as _;

use crate::cli::{Cli, Command};
use crate::exit::Status;

mod auto;
mod beside;
mod canary;
mod courier;
mod dashboard;
mod diff;
mod doctor;
mod export;
pub mod fuzz;
mod input;
mod load;
mod record;
mod replay;
mod report;
mod serve;
mod source;
mod top;

/// Run the chosen mode.
pub fn run(cli: Cli) -> anyhow::Result<Status> {
    match cli.command {
        Command::Top(args) => top::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Record(args) => record::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Beside(args) => beside::follow(&args),
    }
}

/// Let the `log` crate's lines go to stderr, one a line.
fn log_to_stderr() {
    struct Stderr;
    impl log::Log for Stderr {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            // Nothing is left to tell when stderr itself is gone.
            let _ =
                writeln!(std::io::stderr(), "{} {}", record.level().as_str().to_lowercase(), record.args());
        }
        fn flush(&self) {}
    }
    // A second call finds the same logger in place.
    let _ = log::set_logger(&Stderr);
    log::set_max_level(log::LevelFilter::Trace);
}
