//! A suite is run: its output read as it comes, counted, judged, and what failed looked at once more.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

use super::tally::Tally;
use crate::ui;

/// How the output of a command is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judge {
    /// By its exit status: one check.
    Status,
    /// By the harness's own counts; skips are counted.
    Harness,
    /// By the harness's own counts; a skip is a failure, and so is a run without a test.
    Guest,
}

/// Some tests behind one command.
pub(super) struct Suite {
    pub(super) name: String,
    pub(super) command: Command,
    pub(super) judge: Judge,
    /// How some of its tests are run once more, by their names.
    pub(super) again: Option<Again>,
}

pub(super) type Again = Box<dyn Fn(&[String]) -> Result<Command>>;

/// A suite with more failures than this has something wrong with it, and is not asked again.
const SECOND_LOOKS: usize = 3;
/// How Rust's test harness ends, and cargo and the lab after it, where tests failed and nothing else did.
const TESTS_FAILED: i32 = 101;

impl Suite {
    /// Run it; its output goes to ours as it comes. A few tests that failed are run once more, alone: emulated
    /// machines on a busy host are at times slower than any patience. What then passes is named as unsteady.
    pub(super) fn run(&mut self) -> Result<Tally> {
        let (tally, status) = tally_of(&mut self.command, &self.name)?;
        let some = (1..=SECOND_LOOKS).contains(&tally.failures.len());
        // Any other bad end has another reason, such as trouble of a guest's kernel.
        let tests_failed = status.code() == Some(TESTS_FAILED) && tally.is_whole();
        let again = self.again.as_ref().filter(|_| some && tests_failed);
        let Some(again) = again else { return Ok(self.judge(tally, status.success())) };
        ui::say(format!("[test] {}: once more, alone: {}", self.name, tally.failures.join(" ")));
        // A second run in which all tests pass may still end badly: the kernel may have complained.
        let (second, status) = tally_of(&mut again(&tally.failures)?, &self.name)?;
        Ok(self.judge(tally.after(&second), status.success()))
    }

    fn judge(&self, mut tally: Tally, good: bool) -> Tally {
        match self.judge {
            Judge::Status => return Tally::check(&self.name, good),
            Judge::Harness => {}
            Judge::Guest => {
                if tally.passed + tally.failed == 0 {
                    tally.fail(format!("{}: no test was run", self.name));
                }
                for _ in 0..std::mem::take(&mut tally.skipped) {
                    tally.fail(format!("{}: a test was skipped", self.name));
                }
            }
        }
        if !good && tally.failed == 0 {
            tally.fail(format!("{} did not end well", self.name));
        }
        tally
    }
}

/// What a command's output says, and how it ended.
fn tally_of(command: &mut Command, name: &str) -> Result<(Tally, ExitStatus)> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("cannot start {name}"))?;
    let mut tally = Tally::default();
    for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).split(b'\n')) {
        let line = line.with_context(|| format!("cannot read what {name} prints"))?;
        let line = String::from_utf8_lossy(&line);
        tally.read(line.trim_end());
        ui::say(line);
    }
    let status = child.wait().with_context(|| format!("cannot wait for {name}"))?;
    Ok((tally, status))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prints what a harness would, and ends so.
    fn harness_that_ends(lines: &str, status: i32) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "printf \"$1\"; exit $2", "sh", lines, &status.to_string()]);
        command
    }

    fn harness(lines: &str) -> Command {
        harness_that_ends(lines, if lines.contains("FAILED") { TESTS_FAILED } else { 0 })
    }

    fn suite(judge: Judge) -> Suite {
        Suite { name: "made up".to_owned(), command: Command::new("true"), judge, again: None }
    }

    fn tally(passed: u64, failed: u64, skipped: u64) -> Tally {
        Tally { passed, failed, skipped, ..Tally::default() }
    }

    /// A suite of three tests, of which `a` and `b` fail, and what they do when they are run again.
    fn after(again: &'static str) -> Tally {
        let first = "running 3 tests\ntest a ... FAILED\ntest b ... FAILED\ntest result: FAILED. 1 passed; 2 failed\n";
        let again: Again = Box::new(move |names| {
            assert_eq!(names, ["a", "b"]);
            Ok(harness(again))
        });
        Suite { command: harness(first), again: Some(again), ..suite(Judge::Guest) }.run().unwrap()
    }

    #[test]
    fn what_fails_twice_has_failed() {
        let tally = after(
            "running 2 tests\ntest a ... FAILED\ntest b ... ok\ntest result: FAILED. 1 passed; 1 failed\n",
        );
        assert_eq!((tally.passed, tally.failed), (2, 1));
        assert_eq!((tally.failures, tally.unsteady), (vec!["a".to_owned()], vec!["b".to_owned()]));
        let tally = after("running 2 tests\ntest result: ok. 2 passed; 0 failed\n");
        assert_eq!((tally.passed, tally.failed, tally.unsteady.len()), (3, 0, 2));
    }

    #[test]
    fn a_second_look_that_saw_nothing_changes_nothing() {
        for again in [
            "",
            "running 2 tests\n",
            "running 0 tests\ntest result: ok. 0 passed; 0 failed\n",
            "running 2 tests\ntest result: ok. 1 passed; 0 failed\n",
        ] {
            let tally = after(again);
            assert_eq!((tally.passed, tally.failed, tally.unsteady.len()), (1, 2, 0), "{again:?}");
        }
    }

    #[test]
    fn a_second_look_that_ends_badly_is_a_failure() {
        let again: Again =
            Box::new(|_| Ok(harness_that_ends("running 1 test\ntest result: ok. 1 passed; 0 failed\n", 125)));
        let first = "running 1 test\ntest a ... FAILED\ntest result: FAILED. 0 passed; 1 failed\n";
        let mut suite = Suite { command: harness(first), again: Some(again), ..suite(Judge::Guest) };
        let tally = suite.run().unwrap();
        assert_eq!((tally.failed, tally.unsteady.len()), (1, 1));
    }

    #[test]
    fn trouble_beside_failed_tests_gets_no_second_look() {
        let lines = "running 1 test\ntest a ... FAILED\ntest result: FAILED. 0 passed; 1 failed\n";
        let again: Again = Box::new(|_| unreachable!("nobody asks"));
        let command = harness_that_ends(lines, 125);
        let mut suite = Suite { command, again: Some(again), ..suite(Judge::Guest) };
        assert_eq!(suite.run().unwrap().failed, 1);
    }

    #[test]
    fn a_harness_that_crashed_gets_no_second_look() {
        let lines = "running 3 tests\ntest a ... FAILED\ntest result: FAILED. 0 passed; 1 failed\n";
        let again: Again = Box::new(|_| unreachable!("nobody asks"));
        let mut suite = Suite { command: harness(lines), again: Some(again), ..suite(Judge::Guest) };
        assert_eq!(suite.run().unwrap().failed, 1);
    }

    #[test]
    fn many_failures_get_no_second_look() {
        let lines = "running 13 tests\ntest a ... FAILED\ntest b ... FAILED\ntest c ... FAILED\ntest d ... FAILED\n\
                     test result: FAILED. 9 passed; 4 failed\n";
        let again: Again = Box::new(|_| unreachable!("nobody asks"));
        let mut suite = Suite { command: harness(lines), again: Some(again), ..suite(Judge::Guest) };
        assert_eq!(suite.run().unwrap().failed, 4);
    }

    #[test]
    fn a_bad_end_is_a_failure_whatever_was_counted() {
        for judge in [Judge::Status, Judge::Harness, Judge::Guest] {
            assert_eq!(suite(judge).judge(tally(3, 0, 0), false).failed, 1, "{judge:?}");
            assert!(suite(judge).judge(tally(3, 0, 0), true).is_good(), "{judge:?}");
        }
    }

    #[test]
    fn in_a_guest_skips_and_empty_runs_are_failures() {
        assert_eq!(suite(Judge::Guest).judge(tally(3, 0, 2), true).failed, 2);
        assert_eq!(suite(Judge::Guest).judge(tally(0, 0, 0), true).failed, 1);
        assert_eq!(suite(Judge::Harness).judge(tally(3, 0, 2), true).skipped, 2);
    }
}
