//! A recording summed up: one value, shown as text or as JSON.
//!
//! Percentiles are computed here and stand in no recording. Every latency and length is an integer in
//! its base unit (ns, pages, bytes); text rounds for people.

mod text;

use std::collections::BTreeMap;

use probe_model::errno;
use probe_model::figures::{Figures, scan_lengths};
use probe_model::histogram::Histogram;
use probe_model::loss::{Balance, Cause, Flow};
use probe_model::origin::{End, Header, Recording};
use probe_model::sample::{Calls, Scans};
use serde::Serialize;

pub use text::write as write_text;

/// Name and version of the JSON form.
pub const FORMAT: &str = "iovascope-report-1";

/// Everything a report shows.
#[derive(Debug, Serialize)]
pub struct Report {
    pub format: &'static str,
    pub header: Header,
    /// Length of the recording, ns by the monotonic clock.
    pub duration: u64,
    /// Windows that the recording holds.
    pub windows: u64,
    /// Whether the recording ended in order; if not, why not.
    pub unclean: Option<&'static str>,
    pub end: Option<End>,
    /// The dispatch site by command.
    pub dispatch: BTreeMap<String, CallsReport>,
    /// The `get_phys` site.
    pub get_phys: Option<ScansReport>,
    /// What became of the calls, by site.
    pub balance: BTreeMap<String, BalanceReport>,
    /// Every call of every site is in the figures.
    pub complete: bool,
}

/// Calls of one command: latencies in ns.
#[derive(Debug, Serialize)]
pub struct CallsReport {
    pub calls: u64,
    pub ok: Figures,
    pub failed: Figures,
    /// Failed calls by errno name.
    pub errors: BTreeMap<String, u64>,
}

/// Calls of `iopt_get_phys`: latencies in ns.
#[derive(Debug, Serialize)]
pub struct ScansReport {
    pub calls: u64,
    pub ok: Option<Figures>,
    pub failed: Figures,
    pub errors: BTreeMap<String, u64>,
    /// Sum of the pages that the returned runs touch.
    pub pages: u64,
    /// Latency by scan length.
    pub by_scan_length: Vec<ScanLength>,
    /// Run length in bytes, by stop.
    pub runs: BTreeMap<String, Figures>,
}

/// Latency of scans of `from` to `to` pages.
#[derive(Debug, Serialize)]
pub struct ScanLength {
    pub from: u64,
    /// `None`: and longer.
    pub to: Option<u64>,
    pub latency: Figures,
}

/// What became of the calls of one site.
#[derive(Debug, Serialize)]
pub struct BalanceReport {
    pub calls: u64,
    pub measured: u64,
    pub lost: BTreeMap<Cause, u64>,
    pub in_flight: u64,
    pub unmatched: u64,
    /// What the laws of loss leave unexplained; 0 when they hold.
    pub unexplained: i128,
    pub complete: bool,
    /// Percentiles are biased low, because returns of slow calls were lost.
    pub biased: bool,
    /// The counters behind it.
    pub flow: Flow,
}

impl Report {
    /// Sum up a recording.
    pub fn of(recording: Recording) -> Self {
        let counters = &recording.window.counters;
        let balance: BTreeMap<_, _> =
            counters.flow.iter().map(|(site, flow)| (site.clone(), balance(*flow))).collect();
        let complete = recording.is_complete();
        Self {
            format: FORMAT,
            duration: u64::try_from(recording.window.duration().as_nanos()).unwrap_or(u64::MAX),
            windows: recording.windows,
            unclean: recording.unclean,
            dispatch: counters.dispatch.iter().map(|(name, calls)| (name.clone(), calls_of(calls))).collect(),
            get_phys: counters.get_phys.as_ref().map(scans_of),
            balance,
            complete,
            header: recording.header,
            end: recording.end,
        }
    }
}

fn calls_of(calls: &Calls) -> CallsReport {
    CallsReport {
        calls: calls.count(),
        ok: Figures::of_latency(&calls.ok),
        failed: Figures::of_latency(&calls.failed),
        errors: named(&calls.errors),
    }
}

fn scans_of(scans: &Scans) -> ScansReport {
    let class = |(&class, histogram): (&u32, &Histogram)| {
        let (from, to) = scan_lengths(class);
        ScanLength { from, to, latency: Figures::of_latency(histogram) }
    };
    ScansReport {
        calls: scans.count(),
        ok: scans.latency().as_ref().map(Figures::of_latency),
        failed: Figures::of_latency(&scans.failed),
        errors: named(&scans.errors),
        pages: scans.pages,
        by_scan_length: scans.ok.iter().map(class).collect(),
        runs: scans.runs.iter().map(|(stop, runs)| (stop.clone(), Figures::of_length(runs))).collect(),
    }
}

fn balance(flow: Flow) -> BalanceReport {
    let Balance { calls, measured, ref lost, in_flight, unmatched, unexplained } = flow.balance();
    let whole = flow.balance();
    BalanceReport {
        calls,
        measured,
        lost: lost.iter().copied().collect(),
        in_flight,
        unmatched,
        unexplained,
        complete: whole.is_complete(),
        biased: whole.is_biased(),
        flow,
    }
}

fn named(errors: &BTreeMap<u32, u64>) -> BTreeMap<String, u64> {
    errors.iter().map(|(&number, &count)| (errno::name(number), count)).collect()
}
