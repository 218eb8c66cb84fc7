//! Findings: what a window says that a person should not have to find in the figures.
//!
//! Each is a value with its evidence in numbers, a sentence, and what to do.

use crate::canary::Pulse;
use crate::contiguity;
use crate::errno;
use crate::loss::SESSION;
use crate::sample::Scans;
use crate::scan_cost::{Conditions, Linearity, ScanCost};
use crate::unit;
use crate::window::Window;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The figures themselves are not what they seem.
    Untrue,
    /// Something that costs.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Untrue => "DATA",
            Self::Warning => "WARN",
            Self::Note => "NOTE",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What is so, with the number that shows it.
    pub what: String,
    /// What to do, or why it matters.
    pub advice: &'static str,
}

/// A scan of this many ns held the locks for longer than a scheduling tick at 250 Hz.
const LONG_SCAN: u64 = 4_000_000;
/// A tail is worth a word from this ratio of p99.9 to the median on.
const TAIL: u64 = 100;
/// Fewer calls have no tail.
const ENOUGH: u64 = 1000;

/// What a window says, most important first; `backend` recorded it under `conditions`.
pub fn of(window: &Window, conditions: Conditions, backend: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    trust(window, backend, &mut found);
    scans(window, conditions, &mut found);
    errors(window, &mut found);
    found.sort_by_key(|finding| finding.severity);
    found
}

fn add(found: &mut Vec<Finding>, severity: Severity, what: String, advice: &'static str) {
    found.push(Finding { severity, what, advice });
}

fn trust(window: &Window, backend: &str, found: &mut Vec<Finding>) {
    let counters = &window.counters;
    if counters.canary.pulse() == Pulse::Dark {
        let dark = unit::nanos(counters.canary.dark);
        add(
            found,
            Severity::Untrue,
            format!("the probes were dead for at most {dark}: our own heartbeat calls were not counted"),
            "Nothing in that time is known. Was the module reloaded, or the probes removed?",
        );
    }
    for (site, balance) in counters.balances() {
        if balance.lost_calls() > 0 {
            let (lost, calls) = (unit::count(balance.lost_calls()), unit::count(balance.calls));
            let most = balance.lost.iter().max_by_key(|(_, calls)| calls);
            let advice = match most.and_then(|(cause, _)| cause.measured_by(backend)) {
                _ if balance.is_biased() => {
                    "The lost calls are the slow ones, so percentiles are too low. Use --backend kprobe-session."
                }
                Some(SESSION) => {
                    "The figures leave these calls out. --backend kprobe-session would have them, at a higher cost."
                }
                Some(_) => "The figures leave these calls out. --backend fsession or fentry would have them.",
                None => "The figures leave these calls out. The view Loss & cost says why.",
            };
            add(
                found,
                Severity::Untrue,
                format!("{site}: {lost} of {calls} calls were not measured"),
                advice,
            );
        }
        if balance.unexplained != 0 {
            let what = format!("{site}: {} calls are unaccounted for", balance.unexplained);
            add(found, Severity::Untrue, what, "The laws of loss do not hold. Please report this.");
        }
    }
    let saturated: u64 = counters.dispatch.values().map(|calls| calls.ok.saturated).sum();
    if saturated > 0 {
        add(
            found,
            Severity::Untrue,
            format!("{} calls took longer than any bucket", unit::count(saturated)),
            "Percentiles among them are lower bounds.",
        );
    }
    if counters.taken.dropped > 0 {
        let what = format!("{} single calls found the ring full", unit::count(counters.taken.dropped));
        add(found, Severity::Note, what, "Counters hold every call; only the list of single calls has gaps.");
    }
}

fn scans(window: &Window, conditions: Conditions, found: &mut Vec<Finding>) {
    let Some(scans) = &window.counters.get_phys else { return };
    if let Some(latency) = scans.latency() {
        if let Some(longest) = latency.largest().upper().filter(|&longest| longest > LONG_SCAN) {
            add(
                found,
                Severity::Warning,
                format!("one scan took {}", unit::nanos(longest)),
                "A scan does not reschedule and holds two locks. A smaller length asks for shorter scans.",
            );
        }
        let tail = latency.quantile(0.5).upper().zip(latency.quantile(0.999).upper());
        if let Some((median, tail)) =
            tail.filter(|&(median, tail)| latency.count >= ENOUGH && median > 0 && tail / median >= TAIL)
        {
            let what = format!("p99.9 is {} times the median", unit::count(tail / median));
            add(
                found,
                Severity::Warning,
                what,
                "Scan lengths differ, or calls wait for each other: see Scan.",
            );
        }
    }
    if let Some(unmapped) = scans.runs.get("unmapped").filter(|runs| runs.count > 0) {
        let what = format!("{} calls succeeded with physical address 0", unit::count(unmapped.count));
        add(found, Severity::Warning, what, "The first page was not mapped: callers must check for 0.");
    }
    cost(scans, conditions, found);
    let capped = scans.runs.get("cap").map_or(0, |runs| runs.count);
    let all: u64 = scans.runs.values().map(|runs| runs.count).sum();
    if all >= ENOUGH && capped * 100 >= all * 95 {
        add(
            found,
            Severity::Note,
            format!("{:.0} % of the scans end at the length asked for", 100.0 * capped as f64 / all as f64),
            "Runs may be longer: a larger length would need fewer calls.",
        );
    }
    if let Some(memory) = contiguity::of(scans).filter(|memory| memory.runs >= ENOUGH && capped * 2 < all)
        && memory.huge_share < 0.5
    {
        let what = format!("{:.0} % of the bytes lie in runs of 2 MiB and more", 100.0 * memory.huge_share);
        add(found, Severity::Note, what, "Huge pages would make runs longer and lookups fewer.");
    }
}

/// Walking pages is worth a word from this share of the time in scans on.
const WALKING: f64 = 0.8;

fn cost(scans: &Scans, conditions: Conditions, found: &mut Vec<Finding>) {
    let cost = ScanCost::of(scans, conditions);
    let (is, advice) = match cost.linearity {
        Linearity::NotLinear { .. } => {
            ("is ", "No cost of a page holds here: see the latencies by scan length.")
        }
        Linearity::DoesNotGrow { .. } => {
            ("", "The shorter scans may have waited, or other work differs: see Scan.")
        }
        _ => {
            let Some((fixed, further)) = cost.parts() else { return };
            let ok: u64 = scans.ok.values().map(|latency| latency.count).sum();
            let (calls, pages) = (fixed.nanos * ok as f64, further.nanos * scans.pages as f64);
            let share = pages / (calls + pages);
            if share >= WALKING {
                let mean = scans.pages as f64 / ok.max(1) as f64;
                let what = format!(
                    "{:.0} % of a scan's cost is walking pages, {mean:.0} of them on average; a further page \
                     costs {further}",
                    100.0 * share.min(1.0)
                );
                let advice = "Ask for no more than is used, and go on where the run ended.";
                add(found, Severity::Note, what, advice);
            }
            return;
        }
    };
    add(found, Severity::Note, format!("the cost of a scan {is}{}", cost.known()), advice);
}

fn errors(window: &Window, found: &mut Vec<Finding>) {
    for (command, calls) in &window.counters.dispatch {
        let failed = calls.failed.count;
        let most = calls.errors.iter().max_by_key(|&(_, count)| *count);
        if let Some((&number, _)) = most.filter(|_| failed * 100 >= calls.count()) {
            let share = 100.0 * failed as f64 / calls.count().max(1) as f64;
            let what = format!("{share:.1} % of {command} fail, most with {}", errno::name(number));
            add(found, Severity::Warning, what, "Failed calls are in distributions of their own.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::Canary;
    use crate::histogram::Histogram;
    use crate::loss::Flow;
    use crate::sample::{Calls, Counters, Instant};
    use probe_common::bucket::{LATENCY, LATENCY_FAILED};

    const PLAIN: Conditions = Conditions { page_size: 4096, clock_step: 1 };

    fn window(counters: Counters) -> Window {
        Window { from: Instant::default(), to: Instant { monotonic: 9, realtime: 9 }, counters }
    }

    #[test]
    fn what_makes_figures_untrue_comes_first() {
        let mut failed = Histogram::new(LATENCY_FAILED);
        failed.record(5);
        let calls = Calls { ok: Histogram::new(LATENCY), failed, errors: [(22, 1)].into() };
        let lossy = Flow { entered: 640, exited: 600, return_missed: 40, ..Flow::default() };
        let found = of(
            &window(Counters {
                dispatch: [("IOAS_MAP".to_owned(), calls)].into(),
                flow: [("get_phys".to_owned(), lossy)].into(),
                canary: Canary { sent: 2, unseen: [("get_phys".to_owned(), 1)].into(), dark: 7, failed: 0 },
                ..Counters::default()
            }),
            PLAIN,
            "fsession",
        );
        let severities: Vec<_> = found.iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, [Severity::Untrue, Severity::Untrue, Severity::Warning]);
        assert!(found[1].what.contains("40 of 640") && found[1].advice.contains("too low"));
        let skipped = Flow { entered: 640, exited: 639, session_missed: 1, ..Flow::default() };
        let whole = Flow { entered: 639, exited: 639, call_missed: 1, ..Flow::default() };
        let inside = Flow { entered: 639, exited: 639, entry_missed: 1, ..Flow::default() };
        for (flow, backend, advised) in [
            (lossy, "kprobe", "--backend kprobe-session"),
            (skipped, "fsession", "--backend kprobe-session"),
            (inside, "fentry", "--backend kprobe-session"),
            (inside, "kprobe", "--backend fsession or fentry"),
            (whole, "kprobe-session", "--backend fsession or fentry"),
        ] {
            let flow = [("get_phys".to_owned(), flow)].into();
            let found = of(&window(Counters { flow, ..Counters::default() }), PLAIN, backend);
            assert!(found[0].advice.contains(advised), "{backend}: {found:?}");
        }
        assert!(found[2].what.contains("100.0 % of IOAS_MAP fail, most with EINVAL"));
    }

    #[test]
    fn a_quiet_window_says_nothing() {
        assert_eq!(of(&window(Counters::default()), PLAIN, "kprobe"), []);
    }
}
