//! The project's chores: `cargo xtask <command>`.
//!
//! To add a command: one file that implements [`Chore`], and one row in [`commands!`].

mod bench;
mod build;
mod cache;
mod debian;
mod demo;
mod fuzz;
mod judges;
mod lab;
mod setup;
mod test;
mod tool;
mod toolchain;
mod ui;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// One command of `cargo xtask`.
trait Chore {
    /// Does it. An exit status other than success is for commands that pass another program's status on.
    fn run(self) -> anyhow::Result<ExitCode>;
}

macro_rules! commands {
    ($($name:ident($args:ty)),+ $(,)?) => {
        #[derive(Subcommand)]
        enum Command {
            $($name($args),)+
        }

        impl Chore for Command {
            fn run(self) -> anyhow::Result<ExitCode> {
                match self {
                    $(Self::$name(chore) => chore.run(),)+
                }
            }
        }
    };
}

commands! {
    Setup(setup::Setup),
    Build(build::Build),
    Lab(lab::Lab),
    Demo(demo::Demo),
    Test(test::Test),
    Bench(bench::Bench),
    Fuzz(fuzz::Fuzz),
}

/// Chores of the iovascope workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    match Arguments::parse().command.run() {
        Ok(code) => code,
        Err(error) => {
            ui::error(&error);
            ExitCode::FAILURE
        }
    }
}
