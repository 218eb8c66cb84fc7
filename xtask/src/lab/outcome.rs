//! How a run of the lab ended, and what that means as an exit status.

use std::time::Duration;

use super::console::Finding;
use crate::tool;

/// The time limit, as timeout(1) has it.
pub(crate) const STATUS_TIMEOUT: u8 = 124;
/// The lab failed, or the guest's kernel was in trouble: the command's own status says nothing then.
pub(crate) const STATUS_LAB: u8 = 125;

/// Lines of the console that a failed run shows.
const TAIL: usize = 25;

#[derive(Debug)]
pub(super) enum Ending {
    /// The command ran to its end.
    Status(u8),
    /// The guest was not ready, or could not start the command.
    NotReady(String),
    /// The guest ended without a verdict.
    Died,
    TimedOut(Duration),
    /// The user ended it.
    Stopped,
}

/// A finished run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(super) ending: Ending,
    /// Trouble of the guest's kernel.
    pub(super) findings: Vec<Finding>,
    /// The kernel's log.
    pub(super) console: String,
    /// What QEMU said, if anything.
    pub(super) qemu: String,
}

impl Outcome {
    /// The command's own status, or one of [`STATUS_TIMEOUT`] and [`STATUS_LAB`].
    pub(crate) fn status(&self) -> u8 {
        match self.ending {
            Ending::TimedOut(_) => STATUS_TIMEOUT,
            Ending::Status(status) if self.findings.is_empty() => status,
            _ => STATUS_LAB,
        }
    }

    /// What to tell the user: nothing, for a command that ran to its end on a healthy kernel.
    pub(crate) fn explain(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match &self.ending {
            Ending::Status(_) => {}
            Ending::NotReady(reason) => lines.push(format!("lab: the guest failed: {reason}")),
            Ending::Stopped => lines.push("lab: the guest was stopped by Ctrl-]".to_owned()),
            Ending::Died => lines.push("lab: the guest ended without a verdict".to_owned()),
            Ending::TimedOut(limit) => {
                lines.push(format!(
                    "lab: the time limit of {} s is over; the guest was stopped",
                    limit.as_secs()
                ));
            }
        }
        if !self.findings.is_empty() {
            let what = match self.ending {
                Ending::Status(status) => format!("the command ended with {status}, but "),
                _ => String::new(),
            };
            lines.push(format!("lab: {what}the guest's kernel was in trouble:"));
            lines.extend(self.findings.iter().map(|finding| format!("  {finding}")));
        }
        if !matches!(self.ending, Ending::Status(_) | Ending::Stopped) {
            lines.extend(self.qemu.lines().map(|line| format!("  qemu: {line}")));
            lines.push(format!("lab: the last {TAIL} lines of the guest's console:"));
            lines.extend(
                tool::tail(&self.console, TAIL).iter().map(|line| format!("  | {}", line.trim_end())),
            );
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::console;
    use super::*;

    fn outcome(ending: Ending, console: &str) -> Outcome {
        Outcome {
            ending,
            findings: console::judge(console),
            console: console.to_owned(),
            qemu: String::new(),
        }
    }

    #[test]
    fn a_healthy_run_passes_its_status_on_and_says_nothing() {
        for status in [0, 7, 255] {
            let run = outcome(Ending::Status(status), "[ 1.0] fine\n");
            assert_eq!((run.status(), run.explain()), (status, vec![]));
        }
    }

    #[test]
    fn trouble_beats_success() {
        let run = outcome(Ending::Status(0), "[ 1.0] WARNING: CPU: 0\n");
        assert_eq!(run.status(), STATUS_LAB);
        assert!(run.explain()[0].contains("ended with 0, but"));
    }

    #[test]
    fn no_verdict_and_no_time_are_told_apart() {
        let died = outcome(Ending::Died, "[ 1.0] Kernel panic - not syncing: x\n");
        let late = outcome(Ending::TimedOut(Duration::from_secs(9)), "[ 1.0] still here\n");
        assert_eq!((died.status(), late.status()), (STATUS_LAB, STATUS_TIMEOUT));
        assert!(late.explain().iter().any(|line| line.contains("still here")));
    }
}
