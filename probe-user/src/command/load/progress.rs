//! What `load` shows while it runs: one line that renews itself on a terminal, or JSON for a program.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use probe_model::figures::Figures;
use probe_model::unit;

use crate::cli::load::ProgressChoice;
use crate::workload::progress::{JobProgress, Progress};

/// Between two snapshots of a program.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// Between two of a terminal.
const EVERY_LINE: Duration = Duration::from_millis(250);

/// Where snapshots go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meter {
    Line,
    Ndjson,
}

impl Meter {
    /// `None`: nothing is shown, and nothing is looked at.
    pub(super) fn new(choice: ProgressChoice) -> Option<Self> {
        match choice {
            ProgressChoice::Ndjson => Some(Self::Ndjson),
            ProgressChoice::Auto if io::stderr().is_terminal() => Some(Self::Line),
            ProgressChoice::Auto | ProgressChoice::Never => None,
        }
    }

    pub(super) fn every(self) -> Duration {
        match self {
            Self::Line => EVERY_LINE,
            Self::Ndjson => EVERY,
        }
    }

    pub(super) fn show(self, now: &Progress) {
        let mut err = io::stderr().lock();
        // Progress is a courtesy: the result does not depend on it.
        let _ = match self {
            // Back to the start, and what the last line had more is cleared.
            Self::Line => write!(err, "\r{}\x1b[K", line(now)).and_then(|()| err.flush()),
            Self::Ndjson => {
                serde_json::to_string(now).map_err(io::Error::other).and_then(|text| writeln!(err, "{text}"))
            }
        };
    }

    /// Leave the terminal to the result.
    pub(super) fn end(self) {
        if self == Self::Line {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

/// `2/3 churn: 12,345 calls, 4,000/s of 5,000/s, p99 12.3 µs, 5 failed, 3 s left`
fn line(now: &Progress) -> String {
    let stage = if now.stages > 1 { format!("{}/{} ", now.stage, now.stages) } else { String::new() };
    let jobs: Vec<String> = now.jobs.iter().map(job).collect();
    format!("{stage}{}", jobs.join(" | "))
}

fn job(job: &JobProgress) -> String {
    if job.warming_up {
        return format!("{}: warming up", job.label);
    }
    let mut parts = vec![format!("{}: {} calls", job.label, unit::count(job.calls))];
    parts.push(match job.intended_per_second {
        None => format!("{:.0}/s", job.achieved_per_second),
        Some(intended) => format!("{:.0}/s of {intended:.0}/s", job.achieved_per_second),
    });
    for (name, times) in [("p99", Some(&job.service_ns)), ("response p99", job.response_ns.as_ref())] {
        if let Some(p99) = times.and_then(|times| Figures::of_latency(&times.ok).p99) {
            parts.push(format!("{name} {}", probe_model::clock::shown(p99, 1)));
        }
    }
    if job.failed > 0 {
        parts.push(format!("{} failed", unit::count(job.failed)));
    }
    if let Some(left) = job.left_ns {
        parts.push(format!("{:.0} s left", left as f64 / 1e9));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use probe_common::bucket::{LATENCY, LATENCY_FAILED};
    use probe_model::histogram::Histogram;

    use super::*;
    use crate::workload::board::Times;

    fn progress(warming_up: bool) -> Progress {
        let mut ok = Histogram::new(LATENCY);
        ok.record(100);
        let times = Times { ok, failed: Histogram::new(LATENCY_FAILED) };
        let job = JobProgress {
            label: "fill".to_owned(),
            via: "get-pa",
            warming_up,
            elapsed_ns: 1_000_000_000,
            left_ns: Some(2_600_000_000),
            calls: 12_345,
            failed: 5,
            intended_per_second: Some(5000.0),
            achieved_per_second: 4000.4,
            behind_ns: 0,
            service_ns: times.clone(),
            response_ns: Some(times),
        };
        Progress { at_ns: 0, stage: 1, stages: 2, jobs: vec![job] }
    }

    #[test]
    fn the_line_says_rate_latency_errors_and_what_is_left() {
        let text = line(&progress(false));
        let expected =
            "1/2 fill: 12,345 calls, 4000/s of 5000/s, p99 100 ns, response p99 100 ns, 5 failed, 3 s left";
        assert_eq!(text, expected);
        assert_eq!(line(&progress(true)), "1/2 fill: warming up");
    }
}
