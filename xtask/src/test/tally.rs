//! Counts of tests, read from what the test harness of Rust prints.

use std::fmt;

/// Counts, and the names of what failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// What the harness said that it would run.
    pub(crate) announced: u64,
    pub(crate) failures: Vec<String>,
    /// What failed once and passed when it was run again; counted as passed.
    pub(crate) unsteady: Vec<String>,
}

impl Tally {
    /// One check that is no Rust test.
    pub(crate) fn check(name: &str, good: bool) -> Self {
        let mut tally = Self::default();
        if good {
            tally.passed = 1;
        } else {
            tally.fail(name.to_owned());
        }
        tally
    }

    /// Take a line of a harness's output into account.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            for part in result.split(['.', ';']) {
                match part.trim().split_once(' ') {
                    Some((count, "passed")) => self.passed += count.parse().unwrap_or(0),
                    Some((count, "failed")) => self.failed += count.parse().unwrap_or(0),
                    Some((count, "ignored")) => self.skipped += count.parse().unwrap_or(0),
                    _ => {}
                }
            }
        } else if let Some(tests) = line.strip_prefix("running ") {
            self.announced += tests.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
    }

    /// Count a failure that no harness counted.
    pub(crate) fn fail(&mut self, name: String) {
        self.failed += 1;
        self.failures.push(name);
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
        self.unsteady.extend(other.unsteady);
    }

    /// Every test that was announced came to an end, and every failure has a name.
    pub(crate) fn is_whole(&self) -> bool {
        self.announced == self.passed + self.failed + self.skipped
            && self.failures.len() as u64 == self.failed
    }

    /// With what became of the failures when they, and nothing else, were run again. A second run that did not
    /// run each of them to its end changes nothing.
    pub(crate) fn after(mut self, again: &Self) -> Self {
        if again.passed + again.failed < self.failed || !again.is_whole() {
            return self;
        }
        let (failures, unsteady) = self.failures.drain(..).partition(|name| again.failures.contains(name));
        (self.failures, self.unsteady) = (failures, unsteady);
        let better = self.unsteady.len() as u64;
        self.passed += better;
        self.failed -= better;
        self
    }

    /// Nothing failed, and there was something to pass.
    pub(crate) fn is_good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harness_is_counted() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test a::d ... ignored",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.10s",
        ] {
            tally.read(line);
        }
        assert_eq!((tally.passed, tally.failed, tally.skipped), (1, 1, 1));
        assert_eq!(tally.failures, ["a::c"]);
        assert!(tally.is_whole());
        tally.read("running 2 tests");
        assert!(!tally.is_whole(), "a harness that crashed");
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn nothing_run_is_not_good() {
        assert!(!Tally::default().is_good());
        assert!(Tally::check("x", true).is_good());
        assert!(!Tally::check("x", false).is_good());
    }
}
