//! Exit statuses (README, "Exit status") and the errors that choose them.
//!
//! Refuses to know any command: a command returns a [`Status`] or an error; `main` maps both.

use std::io::Write as _;
use std::process::ExitCode;

/// How a command that ran to its end may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok,
    /// What was asked for was done, and the answer is "no" (a failed workload, a difference found).
    Failed,
    /// This machine cannot do what was asked; the remedy was printed.
    CannotRun,
    /// Data are incomplete and `--strict` was given.
    Incomplete,
    /// `diff` found a regression beyond the threshold.
    Regression,
}

impl Status {
    /// The process exit status.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::CannotRun => 3,
            Self::Incomplete => 4,
            Self::Regression => 5,
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.code())
    }
}

/// An error that means "not on this machine": `main` ends with 3 and prints the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{what}\n  why: {why}\n  what to do: {remedy}")]
pub struct CannotRun {
    /// What was tried.
    pub what: String,
    /// What is missing.
    pub why: String,
    /// What the user can do about it.
    pub remedy: String,
}

/// An error in how the command line was put together that clap cannot see: `main` ends with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Print `error` with its causes to stderr and choose the exit status.
pub fn complain(error: &anyhow::Error) -> ExitCode {
    // Nothing is left to tell when stderr itself is gone.
    let _ = writeln!(std::io::stderr(), "iovascope: {error:#}");
    let code = if error.downcast_ref::<CannotRun>().is_some() {
        Status::CannotRun.code()
    } else if error.downcast_ref::<Usage>().is_some() {
        2
    } else {
        Status::Failed.code()
    };
    ExitCode::from(code)
}
