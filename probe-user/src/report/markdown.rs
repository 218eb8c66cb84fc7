//! The report as markdown tables, for issues and wikis.

use std::fmt::Write as _;
use std::io::{self, Write};

use probe_model::figures::Figures;
use probe_model::unit;

use super::{BalanceReport, Report, ScanLength};

/// Writing to a string does not fail.
macro_rules! line {
    ($text:expr) => { $text.push('\n') };
    ($text:expr, $($part:tt)*) => {{ let _ = writeln!($text, $($part)*); }};
}

/// Write `report` as markdown.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut text = String::new();
    let header = &report.header;
    line!(text, "# iovascope: {} on Linux {}", unit::nanos(report.duration), cell(&header.kernel));
    line!(text);
    for (name, value) in super::facts(report) {
        line!(text, "* {name}: {}", cell(&value));
    }
    figures(&mut text, "Latency", "calls", &latencies(report), unit::nanos);
    probes(&mut text, report);
    errors(&mut text, report);
    if let Some(scans) = &report.get_phys {
        let lengths: Vec<_> =
            scans.by_scan_length.iter().map(|class| (scan_length(class), &class.latency)).collect();
        figures(&mut text, "Scan length", "scans", &lengths, unit::nanos);
        scan_cost(&mut text, report);
        let runs: Vec<_> = scans.runs.iter().map(|(stop, figures)| (stop.clone(), figures)).collect();
        figures(&mut text, "Run by stop", "runs", &runs, unit::bytes);
    }
    let locks: Vec<_> = report.locks.iter().map(|(name, figures)| (name.clone(), figures)).collect();
    figures(&mut text, "Waiting", "calls", &locks, unit::nanos);
    processes(&mut text, report);
    line!(text);
    line!(text, "## Missed");
    line!(text);
    for (site, balance) in &report.balance {
        line!(text, "* {site}: {}", missed(balance));
    }
    out.write_all(text.as_bytes())
}

/// The latencies that are shown first.
pub(super) fn latencies(report: &Report) -> Vec<(String, &Figures)> {
    let mut rows = Vec::new();
    for (name, calls) in &report.dispatch {
        rows.push((name.clone(), &calls.ok));
        rows.push((format!("{name}, failed"), &calls.failed));
    }
    if let Some(scans) = &report.get_phys {
        rows.extend(scans.ok.iter().map(|ok| ("scans".to_owned(), ok)));
        rows.push(("scans, failed".to_owned(), &scans.failed));
    }
    rows.retain(|(_, figures)| figures.count > 0);
    rows
}

/// A class of scan lengths, for people.
pub(super) fn scan_length(class: &ScanLength) -> String {
    match class.to {
        Some(to) if to == class.from => format!("{} page", class.from),
        Some(to) => format!("{} to {} pages", unit::count(class.from), unit::count(to)),
        None => format!("{} pages and more", unit::count(class.from)),
    }
}

/// What a site missed, in one sentence.
pub(super) fn missed(balance: &BalanceReport) -> String {
    let (calls, measured) = (unit::count(balance.calls), unit::count(balance.measured));
    let mut text = if balance.complete {
        format!("nothing: {calls} calls began, {measured} measured, none in flight")
    } else {
        format!("{calls} calls began, {measured} measured, {} in flight", unit::count(balance.in_flight))
    };
    for (cause, &count) in &balance.lost {
        let _ = write!(text, "; {} {}", unit::count(count), cause.describe());
    }
    if balance.unexplained != 0 {
        let _ = write!(text, "; {} unexplained: please report this", balance.unexplained);
    }
    if balance.biased {
        text.push_str("; slow calls are among the lost, so the percentiles are too low");
    }
    text
}

fn figures(text: &mut String, name: &str, what: &str, rows: &[(String, &Figures)], show: fn(u64) -> String) {
    if rows.is_empty() {
        return;
    }
    line!(text);
    line!(text, "| {name} | {what} | p50 | p90 | p99 | p99.9 | max |");
    line!(text, "|---|--:|--:|--:|--:|--:|--:|");
    for (name, figures) in rows {
        let _ = write!(text, "| {} | {} |", cell(name), unit::count(figures.count));
        for value in [figures.p50, figures.p90, figures.p99, figures.p999, figures.max] {
            let _ = write!(text, " {} |", figures.shown(value, show).unwrap_or_else(|| "–".to_owned()));
        }
        line!(text);
    }
}

fn scan_cost(text: &mut String, report: &Report) {
    let rows = super::pages::rows(report);
    if rows.is_empty() {
        return;
    }
    line!(text);
    line!(text, "| Cost of a scan | 95 % sure |");
    line!(text, "|---|---|");
    for (name, value) in rows {
        line!(text, "| {} | {} |", cell(name), cell(&value));
    }
}

fn probes(text: &mut String, report: &Report) {
    let rows = super::share::rows(report);
    if !rows.is_empty() {
        line!(text);
        line!(text, "| Probes add | inside | outside | p50 measured | p50 without them |");
        line!(text, "|---|--:|--:|--:|--:|");
    }
    for row in &rows {
        let [inside, outside, measured, without] = super::share::cells(row);
        line!(text, "| {} | {inside} | {outside} | {measured} | {without} |", cell(&row.name));
    }
    let notes = super::share::notes(report);
    if !notes.is_empty() {
        line!(text);
    }
    for note in notes {
        line!(text, "* {}", cell(&note));
    }
}

fn errors(text: &mut String, report: &Report) {
    let rows = super::errors(report);
    if rows.is_empty() {
        return;
    }
    line!(text);
    line!(text, "| Failed | errno | calls |");
    line!(text, "|---|---|--:|");
    for (name, errno, count) in rows {
        line!(text, "| {} | {} | {} |", cell(name), cell(errno), unit::count(count));
    }
}

fn processes(text: &mut String, report: &Report) {
    if report.processes.is_empty() {
        return;
    }
    line!(text);
    line!(text, "| Process | site | calls | failed | time | pages |");
    line!(text, "|---|---|--:|--:|--:|--:|");
    for (row, ioas) in report.processes.iter().zip(super::telling_ioases(&report.processes)) {
        let name = row.process.as_deref().unwrap_or("other");
        let pid = row.pid.map(|pid| format!(" {pid}")).unwrap_or_default();
        let ioas = ioas.map(|ioas| format!(" IOAS {ioas}")).unwrap_or_default();
        line!(
            text,
            "| {}{pid} | {}{ioas} | {} | {} | {} | {} |",
            cell(name),
            cell(&row.site),
            unit::count(row.calls),
            unit::count(row.failed),
            unit::nanos(row.nanos),
            unit::count(row.pages)
        );
    }
    if let Some(note) = super::note_on_names(&report.processes) {
        line!(text);
        line!(text, "{note}");
    }
}

/// What markdown and the HTML in it give a meaning to, escaped.
fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '|' | '\\' | '`' | '*' | '[' | ']' | '#' | '!' => out.extend(['\\', c]),
            '\n' | '\r' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_cell() {
        assert_eq!(cell("a|b<script>\n`x`"), "a\\|b&lt;script> \\`x\\`");
    }
}
