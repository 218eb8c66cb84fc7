//! The report as text, under 80 columns.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::io::{self, Write};

use probe_model::backends::{Change, Slip};
use probe_model::canary::Pulse;
use probe_model::loss::Cause;
use probe_model::text::broken;
use probe_model::unit;

use super::backends::Share;
use super::{BackendReport, BalanceReport, CallsReport, Figures, Report, ScansReport};

/// Write `report` for people.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut text = String::new();
    heading(&mut text, report);
    latencies(&mut text, report);
    probes(&mut text, report);
    backends(&mut text, report);
    errors(&mut text, report);
    if let Some(scans) = &report.get_phys {
        scan_lengths(&mut text, scans);
        scan_cost(&mut text, report);
        runs(&mut text, scans, report.header.length_is_cap);
    }
    locks(&mut text, report);
    processes(&mut text, report);
    missed(&mut text, report);
    out.write_all(text.as_bytes())
}

/// Writing to a string does not fail.
macro_rules! line {
    ($text:expr) => { $text.push('\n') };
    ($text:expr, $($part:tt)*) => {{ let _ = writeln!($text, $($part)*); }};
}

fn heading(text: &mut String, report: &Report) {
    let header = &report.header;
    let took = unit::nanos(report.duration);
    line!(
        text,
        "iovascope {} · Linux {} {} · {} CPUs",
        header.tool,
        header.kernel,
        header.machine,
        header.cpus
    );
    line!(text, "recorded   {} for {took}", utc(header.started.realtime));
    line!(text, "backend    {}; pages of {}", header.backend, unit::bytes(header.page_size));
    for (mark, change) in report.marks.iter().filter_map(|mark| Some((mark, mark.change.as_ref()?))) {
        let at = unit::nanos(mark.at.monotonic.saturating_sub(header.started.monotonic));
        line!(text, "           from {at} on {}; {}", change.to, slips(change));
    }
    for declined in &header.declined {
        // A verifier's words follow on lines of their own; JSON has them.
        let why = declined.why.lines().next().unwrap_or_default();
        line!(text, "           not by {}: {why}", declined.backend);
    }
    line!(text, "GET_PA     {}", header.abi);
    let company = super::company(report);
    for (place, part) in company.iter().flat_map(|line| wrapped(line)).enumerate() {
        line!(text, "{:<11}{part}", if place == 0 { "company" } else { "" });
    }
    for (name, value) in &header.tags {
        line!(text, "tag        {name}={value}");
    }
    if report.is_part() {
        let (from, to) = (unit::nanos(report.from), unit::nanos(report.to));
        line!(text, "part       from {from} to {to} of the recording");
    }
    line!(text, "clock      {}", super::clock_of(report));
    for (name, line) in super::clock_lines(report) {
        line!(text, "{name:<11}{line}");
    }
    for mark in report.marks.iter().filter(|mark| mark.change.is_none()) {
        line!(text, "mark       {}", super::mark_of(report, mark));
    }
    if let Some(why) = report.unclean {
        line!(text, "unclean    {why}");
        line!(text, "           what was written before is shown");
    }
}

/// What a change of backends itself did, of both sites.
fn slips(change: &Change) -> String {
    let sum = |of: fn(&Slip) -> u64| unit::count(change.slips.values().map(of).fold(0, u64::saturating_add));
    match change.doubt() {
        0 => "the change missed no call".to_owned(),
        _ => format!(
            "the change missed at most {}, counted {} twice",
            sum(|slip| slip.missed),
            sum(|slip| slip.twice)
        ),
    }
}

pub(super) fn utc(realtime: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(realtime)).map_or_else(
        |_| "at an unknown time".to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}

fn latencies(text: &mut String, report: &Report) {
    line!(text);
    line!(text, "LATENCY{:>26}{:>9}{:>9}{:>9}{:>9}{:>9}", "calls", "p50", "p90", "p99", "p99.9", "max");
    let total: u64 = report.dispatch.values().map(|calls| calls.calls).sum();
    line!(text, "dispatch {:>24}", unit::count(total));
    for (name, calls) in &report.dispatch {
        command(text, name, calls);
    }
    biased(text, report, "dispatch");
    let Some(scans) = &report.get_phys else {
        line!(text, "get_phys {:>24}", "0");
        return;
    };
    line!(text, "get_phys {:>24}", unit::count(scans.calls));
    if let Some(ok) = &scans.ok {
        row(text, "scans", ok, unit::nanos);
    }
    row(text, "failed", &scans.failed, unit::nanos);
    biased(text, report, "get_phys");
}

/// Percentiles over two backends are of a mixture: each one's own.
fn backends(text: &mut String, report: &Report) {
    if report.backends.is_empty() {
        return;
    }
    line!(text);
    line!(text, "BY BACKEND{:>23}{:>9}{:>9}{:>9}{:>9}{:>9}", "calls", "p50", "p90", "p99", "p99.9", "max");
    for (name, of) in [("GET_PA", 0), ("scans", 1)] {
        line!(text, "{name}");
        for backend in &report.backends {
            if let Some(figures) = [&backend.get_pa, &backend.scans][of] {
                row(text, &backend.backend, figures, unit::nanos);
            }
        }
    }
    line!(text, "  The percentiles above are over both, whose probes add different times to a call.");
}

/// Said where the percentiles stand: that they are too low.
fn biased(text: &mut String, report: &Report, site: &str) {
    if let Some(balance) = report.balance.get(site).filter(|balance| balance.biased) {
        let lost = unit::count(balance.lost.values().sum());
        line!(text, "  ! {lost} slow calls are missing: every percentile of {site} is a lower bound");
    }
}

fn command(text: &mut String, name: &str, calls: &CallsReport) {
    row(text, name, &calls.ok, unit::nanos);
    row(text, "  failed", &calls.failed, unit::nanos);
}

/// One line of a distribution; none for an empty one.
fn row(text: &mut String, name: impl Display, figures: &Figures, unit: fn(u64) -> String) {
    if figures.count == 0 {
        return;
    }
    let name = name.to_string();
    let _ = write!(text, "  {name:<20}{:>11}", unit::count(figures.count));
    for quantile in [figures.p50, figures.p90, figures.p99, figures.p999, figures.max] {
        let _ = write!(text, "{:>9}", figures.shown(quantile, unit).unwrap_or_else(|| "-".to_owned()));
    }
    line!(text);
    if figures.saturated > 0 {
        let beyond = unit::count(figures.saturated);
        line!(text, "{:33} {beyond} beyond the range: percentiles are at least", "");
    }
}

/// What the probes add, and the medians without it.
fn probes(text: &mut String, report: &Report) {
    let (rows, notes) = (super::share::rows(report), super::share::notes(report));
    if rows.is_empty() && notes.is_empty() {
        return;
    }
    line!(text);
    if rows.is_empty() {
        line!(text, "PROBES");
    } else {
        line!(text, "{:<29}{:>9}{:>9}{:>10}{:>20}", "PROBES add", "inside", "outside", "p50", "p50 without");
    }
    for row in &rows {
        let [inside, outside, measured, without] = super::share::cells(row);
        line!(text, "  {:<27}{inside:>9}{outside:>9}{measured:>10}{without:>20}", row.name);
    }
    for part in notes.iter().flat_map(|note| wrapped(note)) {
        line!(text, "  {part}");
    }
}

fn errors(text: &mut String, report: &Report) {
    let by_command = report.dispatch.iter().map(|(name, calls)| (name.as_str(), &calls.errors));
    let by_site = report.get_phys.iter().map(|scans| ("get_phys", &scans.errors));
    let all: Vec<_> = by_command.chain(by_site).filter(|(_, errors)| !errors.is_empty()).collect();
    line!(text);
    if all.is_empty() {
        line!(text, "ERRORS     none");
        return;
    }
    line!(text, "ERRORS");
    for (name, errors) in all {
        for (errno, &count) in errors {
            line!(text, "  {name:<20}{:>11}  {errno}", unit::count(count));
        }
    }
}

fn scan_lengths(text: &mut String, scans: &ScansReport) {
    if scans.by_scan_length.is_empty() {
        return;
    }
    line!(text);
    line!(text, "SCAN LENGTH{:>22}{:>9}{:>9}{:>9}{:>9}{:>9}", "scans", "p50", "p90", "p99", "p99.9", "max");
    for class in &scans.by_scan_length {
        let name = match class.to {
            Some(to) if to == class.from => format!("{} page", class.from),
            Some(to) => format!("{} to {} pages", unit::count(class.from), unit::count(to)),
            None => format!("{} pages and more", unit::count(class.from)),
        };
        row(text, name, &class.latency, unit::nanos);
    }
    line!(text, "  {:<20}{:>11}", "pages in all", unit::count(scans.pages));
}

fn scan_cost(text: &mut String, report: &Report) {
    let rows = super::pages::rows(report);
    if rows.is_empty() {
        return;
    }
    line!(text);
    line!(text, "COST OF A SCAN, 95 % sure");
    for (name, value) in rows {
        // A long name has its value behind it.
        if name.chars().count() > 20 {
            line!(text, "  {name}: {value}");
            continue;
        }
        for (place, part) in broken(&value, 55).into_iter().enumerate() {
            line!(text, "  {:<20}  {part}", if place == 0 { name } else { "" });
        }
    }
}

fn runs(text: &mut String, scans: &ScansReport, length_is_cap: bool) {
    if scans.runs.is_empty() {
        return;
    }
    line!(text);
    line!(text, "RUN by stop{:>22}{:>9}{:>9}{:>9}{:>9}{:>9}", "scans", "p50", "p90", "p99", "p99.9", "max");
    for (stop, figures) in &scans.runs {
        row(text, stop, figures, unit::bytes);
    }
    if !length_is_cap {
        line!(text, "  This GET_PA has no cap, or none that can be told: no stop is called `cap`.");
    }
}

fn locks(text: &mut String, report: &Report) {
    if report.locks.is_empty() {
        return;
    }
    line!(text);
    line!(text, "WAITING{:>26}{:>9}{:>9}{:>9}{:>9}{:>9}", "calls", "p50", "p90", "p99", "p99.9", "max");
    for (name, figures) in &report.locks {
        row(text, name.trim_start_matches("lock."), figures, unit::nanos);
    }
}

/// Processes that are shown; JSON has all.
const MOST_PROCESSES: usize = 10;

fn processes(text: &mut String, report: &Report) {
    if report.processes.is_empty() {
        return;
    }
    line!(text);
    let ioases = super::telling_ioases(&report.processes);
    let site = if ioases.iter().any(Option::is_some) { "site, IOAS" } else { "site" };
    line!(text, "PROCESS{:>26}{:>9}{:>9}{:>12}  {site}", "calls", "failed", "time", "pages");
    for (process, ioas) in report.processes.iter().zip(ioases).take(MOST_PROCESSES) {
        let name = match (&process.process, process.pid) {
            (Some(name), Some(pid)) => format!("{name} {pid}"),
            _ => "other".to_owned(),
        };
        let name: String = name.chars().take(20).collect();
        let (calls, failed) = (unit::count(process.calls), unit::count(process.failed));
        let (time, pages) = (unit::nanos(process.nanos), unit::count(process.pages));
        let ioas = ioas.map(|ioas| format!(", {ioas}")).unwrap_or_default();
        line!(text, "  {name:<20}{calls:>11}{failed:>9}{time:>9}{pages:>12}  {}{ioas}", process.site);
    }
    if report.processes.len() > MOST_PROCESSES {
        line!(text, "  and {} more: see JSON", report.processes.len() - MOST_PROCESSES);
    }
    if let Some(note) = super::note_on_names(&report.processes) {
        line!(text, "  {note}");
    }
}

/// A line as several that leave room for a label.
fn wrapped(line: &str) -> Vec<String> {
    const WIDTH: usize = 68;
    let mut parts: Vec<String> = Vec::new();
    for word in line.split(' ') {
        match parts.last_mut() {
            Some(part) if part.chars().count() + 1 + word.chars().count() <= WIDTH => {
                part.push(' ');
                part.push_str(word);
            }
            _ => parts.push(word.chars().take(WIDTH).collect()),
        }
    }
    parts
}

fn missed(text: &mut String, report: &Report) {
    line!(text);
    line!(text, "MISSED");
    for (site, balance) in &report.balance {
        let share = |backend: &'_ BackendReport| -> Option<(String, Share)> {
            Some((backend.backend.clone(), backend.calls.get(site)?.clone()))
        };
        let shares: Vec<_> = report.backends.iter().filter_map(share).collect();
        site_balance(text, site, balance, &shares);
    }
    let mut measured_by: BTreeMap<&str, u64> = BTreeMap::new();
    let mut add = |backend: &str, lost: &BTreeMap<Cause, u64>| {
        for (cause, calls) in lost {
            if let Some(other) = cause.measured_by(backend) {
                *measured_by.entry(other).or_default() += calls;
            }
        }
    };
    if report.backends.is_empty() {
        report.balance.values().for_each(|balance| add(&report.header.backend, &balance.lost));
    }
    for backend in &report.backends {
        backend.calls.values().for_each(|share| add(&backend.backend, &share.lost));
    }
    for (other, calls) in measured_by {
        line!(text, "  --backend {other} would have measured {} of these", unit::count(calls));
    }
    if report.canary.pulse() == Pulse::Dark {
        line!(
            text,
            "  the probes were dead for at most {}: what is not here may have",
            unit::nanos(report.canary.dark)
        );
        line!(text, "  happened all the same");
    }
    if let Some(end) = report.end.as_ref().filter(|_| !report.is_part()) {
        if end.doubt > 0 {
            line!(text, "  losses may be off by {}: the kernel missed calls while counting", end.doubt);
            line!(text, "  began, ended or changed its backend");
        }
        for (site, &open) in &end.open_calls {
            let counted = report.balance.get(site).map_or(0, |balance| balance.flow.open());
            if counted != i128::from(open) {
                line!(text, "  {site}: {open} open calls found, {counted} counted: please report this");
            }
        }
    }
}

fn site_balance(text: &mut String, site: &str, balance: &BalanceReport, shares: &[(String, Share)]) {
    let (calls, measured) = (unit::count(balance.calls), unit::count(balance.measured));
    if balance.complete {
        line!(text, "  {site:<10}nothing: {calls} calls began, {measured} measured, none in flight");
    } else {
        let in_flight = unit::count(balance.in_flight);
        line!(text, "  {site:<10}{calls} calls began, {measured} measured, {in_flight} in flight");
    }
    for (cause, &count) in &balance.lost {
        line!(text, "  {:<10}{:>12} {}", "", unit::count(count), cause.describe());
    }
    for (backend, share) in shares {
        let (measured, lost) = (unit::count(share.measured), unit::count(share.lost.values().sum()));
        line!(text, "  {:<10}{measured:>12} measured by {backend}, which lost {lost}", "");
    }
    if balance.unmatched > 0 {
        let unmatched = unit::count(balance.unmatched);
        line!(text, "  {:<10}{unmatched:>12} returns of calls begun before, or lost above", "");
    }
    if balance.unexplained != 0 {
        line!(text, "  {:<10}{:>12} unexplained: please report this", "", balance.unexplained);
    }
    if balance.biased {
        line!(text, "  {:<10}returns are lost when many calls wait at once: the slow ones.", "");
        line!(text, "  {:<10}The percentiles of {site} are therefore too low.", "");
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
