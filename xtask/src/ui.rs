//! Everything xtask says. Owns standard error; standard output belongs to what a chore carries or yields.
//!
//! A terminal that is gone is no reason to stop a build, so failed writes are dropped here and only here.

use std::io::{self, Write};
use std::time::Instant;

/// A line of plain words.
pub(crate) fn say(line: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", line.as_ref());
}

/// A line that is the result asked for, on standard output.
pub(crate) fn answer(line: impl AsRef<str>) {
    let _ = writeln!(io::stdout(), "{}", line.as_ref());
}

/// The last words of a failed chore: what failed, then why, from the outside in.
pub(crate) fn error(error: &anyhow::Error) {
    say(format!("error: {error}"));
    for cause in error.chain().skip(1) {
        say(format!("  because: {cause}"));
    }
}

/// A piece of work that takes seconds or more. Prints its name at the start and its time at the end.
#[must_use = "a step ends with `done`"]
pub(crate) struct Step {
    name: String,
    start: Instant,
}

impl Step {
    pub(crate) fn begin(name: &str, what: impl AsRef<str>) -> Self {
        say(format!("[{name}] {}", what.as_ref()));
        Self { name: name.to_owned(), start: Instant::now() }
    }

    /// A line about what is going on inside.
    pub(crate) fn note(&self, line: impl AsRef<str>) {
        say(format!("[{}] {}", self.name, line.as_ref()));
    }

    pub(crate) fn done(self) {
        say(format!("[{}] done in {:.1} s", self.name, self.start.elapsed().as_secs_f64()));
    }
}
