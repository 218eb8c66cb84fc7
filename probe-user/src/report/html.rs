//! The report as one page: no script, nothing fetched (its own policy forbids both), light and dark, on a
//! phone and on paper. Plots hold what tables hold, for the eye; pointing at a part of one names it.

use std::fmt::Write as _;
use std::io::{self, Write};

use probe_common::bucket::LATENCY;
use probe_model::canary::Pulse;
use probe_model::figures::Figures;
use probe_model::histogram::Histogram;
use probe_model::sample::Counters;
use probe_model::series;
use probe_model::unit;
use probe_model::window::Window;

use super::markdown::{latencies, missed, scan_length};
use super::{Report, ScanLength};
use crate::plot::{self, Bar, Column, Line, Values, bars, escaped, heatmap, percentiles};

const STYLE: &str = include_str!("page.css");

/// Most columns of a heatmap. When there are more, neighbours are joined, so an hour takes no more memory than a
/// minute.
const MOST_COLUMNS: usize = 240;

/// How many times longer two neighbours alike may be than two of which one is idle, to be joined before them.
const APART: u64 = 8;

/// What happened when, gathered window by window.
pub struct Timeline {
    started: u64,
    columns: Vec<Column>,
}

impl Timeline {
    /// An empty one of a recording that began at `started`, monotonic ns.
    pub fn new(started: u64) -> Self {
        Self { started, columns: Vec::new() }
    }

    /// Take in the next window: latency of GET_PA where there is any, of all scans else. One without calls is a
    /// column too: it stands for time in which nothing was called.
    pub fn add(&mut self, window: &Window) {
        let get_pa = window.counters.dispatch.get("IOAS_NOIOMMU_GET_PA").map(|calls| calls.ok.clone());
        let scans = || window.counters.get_phys.as_ref().and_then(probe_model::sample::Scans::latency);
        let since = |at: u64| at.saturating_sub(self.started);
        self.columns.push(Column {
            from: since(window.from.monotonic),
            to: since(window.to.monotonic),
            histogram: get_pa.or_else(scans).unwrap_or_else(|| Histogram::new(LATENCY)),
            dark: window.counters.canary.pulse() == Pulse::Dark,
        });
        if self.columns.len() > MOST_COLUMNS {
            self.join_two();
        }
    }

    /// Join the two neighbours that take the least time together, so that columns stay about equally long however
    /// long the windows were. Idle time is joined to calls only where nothing much shorter can be.
    fn join_two(&mut self) {
        let cost = |pair: &[Column]| {
            let nanos: u64 = pair.iter().map(|column| column.to.saturating_sub(column.from)).sum();
            let differ = pair[0].is_idle() != pair[1].is_idle() || pair[0].dark != pair[1].dark;
            nanos.saturating_mul(if differ { APART } else { 1 })
        };
        let pairs = self.columns.windows(2).enumerate();
        let Some(first) = pairs.min_by_key(|(_, pair)| cost(pair)).map(|(index, _)| index) else { return };
        let second = self.columns.remove(first + 1);
        let joined = &mut self.columns[first];
        joined.to = second.to;
        joined.dark |= second.dark;
        joined.histogram.merge(&second.histogram);
    }
}

/// Writing to a string does not fail.
macro_rules! put {
    ($text:expr, $($part:tt)*) => {{ let _ = write!($text, $($part)*); }};
}

/// Write the page.
pub fn write(
    report: &Report,
    counters: &Counters,
    timeline: &Timeline,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut page = String::new();
    let kernel = escaped(&report.header.kernel);
    put!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>iovascope: {} on Linux {kernel}</title><style>{STYLE}{}</style></head><body><main>",
        unit::nanos(report.duration),
        plot::STYLE
    );
    put!(page, "<h1>GET_PA on Linux {kernel}</h1>");
    completeness(&mut page, report);
    plots(&mut page, report, counters, timeline);
    table(&mut page, "Latency", "calls", &latencies(report), unit::nanos);
    probes(&mut page, report);
    if let Some(scans) = &report.get_phys {
        let rows: Vec<_> =
            scans.by_scan_length.iter().map(|class| (scan_length(class), &class.latency)).collect();
        table(&mut page, "Latency by scan length", "scans", &rows, unit::nanos);
        scan_cost(&mut page, report);
        let rows: Vec<_> = scans.runs.iter().map(|(stop, figures)| (stop.clone(), figures)).collect();
        table(&mut page, "Run length by what ended the scan", "runs", &rows, unit::bytes);
    }
    let rows: Vec<_> = report.locks.iter().map(|(name, figures)| (name.clone(), figures)).collect();
    table(&mut page, "Waiting", "calls", &rows, unit::nanos);
    errors(&mut page, report);
    processes(&mut page, report);
    put!(page, "<h2>Where and how</h2><table><tbody>");
    for (name, value) in super::facts(report) {
        put!(page, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escaped(&name), escaped(&value));
    }
    page.push_str("</tbody></table></main></body></html>\n");
    out.write_all(page.as_bytes())
}

fn completeness(page: &mut String, report: &Report) {
    let (class, headline) = if report.complete {
        ("good", "Every call is in these figures")
    } else {
        ("bad", "Not every call is in these figures")
    };
    put!(page, "<section class=\"{class}\"><h2>{headline}</h2><ul>");
    if let Some(why) = report.unclean {
        put!(page, "<li>The recording was cut off: {}</li>", escaped(why));
    }
    for (site, balance) in &report.balance {
        put!(page, "<li><b>{}</b> missed {}</li>", escaped(site), escaped(&missed(balance)));
    }
    page.push_str("</ul></section>");
}

fn plots(page: &mut String, report: &Report, counters: &Counters, timeline: &Timeline) {
    let latencies = Values::latencies(report.clock_step);
    let all = series::of(counters);
    let usual = ["dispatch.IOAS_NOIOMMU_GET_PA.ok", "dispatch.IOAS_NOIOMMU_GET_PA.failed", "get_phys.ok"];
    let lines: Vec<_> = all
        .iter()
        .filter(|series| usual.contains(&series.name.as_str()))
        .map(|series| Line { name: &series.name, histogram: &series.histogram })
        .collect();
    let mut figure = |svg: String| put!(page, "<figure>{svg}</figure>");
    if !lines.is_empty() {
        figure(percentiles("Latency by percentile", latencies, &lines));
    }
    if timeline.columns.iter().any(|column| !column.is_idle()) {
        figure(heatmap("Latency over time", latencies, &timeline.columns));
    }
    let Some(scans) = &counters.get_phys else { return };
    let named = |name: String, histogram| Bar { name, histogram };
    let classes = report.get_phys.iter().flat_map(|scans| &scans.by_scan_length);
    let lengths: Vec<Bar<'_>> = classes
        .zip(scans.ok.values())
        .map(|(class, histogram): (&ScanLength, &Histogram)| named(scan_length(class), histogram))
        .collect();
    if !lengths.is_empty() {
        figure(bars("Latency by scan length", latencies, &lengths));
    }
    let runs: Vec<_> = scans.runs.iter().map(|(stop, runs)| named(stop.clone(), runs)).collect();
    if !runs.is_empty() {
        figure(bars("Run length by what ended the scan", Values::lengths(), &runs));
    }
}

fn table(page: &mut String, title: &str, what: &str, rows: &[(String, &Figures)], show: fn(u64) -> String) {
    if rows.is_empty() {
        return;
    }
    put!(page, "<h2>{}</h2><div class=\"wide\"><table><thead><tr><th></th><th>{what}</th>", escaped(title));
    page.push_str("<th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th></tr></thead><tbody>");
    for (name, figures) in rows {
        put!(page, "<tr><th scope=\"row\">{}</th><td>{}</td>", escaped(name), unit::count(figures.count));
        for value in [figures.p50, figures.p90, figures.p99, figures.p999, figures.max] {
            put!(page, "<td>{}</td>", escaped(&figures.shown(value, show).unwrap_or_else(|| "–".to_owned())));
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>");
}

fn scan_cost(page: &mut String, report: &Report) {
    let rows = super::pages::rows(report);
    if rows.is_empty() {
        return;
    }
    put!(page, "<h2>Cost of a scan, 95 % sure</h2><div class=\"wide\"><table><tbody>");
    for (name, value) in rows {
        put!(page, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escaped(name), escaped(&value));
    }
    put!(page, "</tbody></table></div>");
}

fn probes(page: &mut String, report: &Report) {
    let (rows, notes) = (super::share::rows(report), super::share::notes(report));
    if rows.is_empty() && notes.is_empty() {
        return;
    }
    put!(page, "<h2>What the probes add</h2>");
    if !rows.is_empty() {
        page.push_str("<div class=\"wide\"><table><thead><tr><th></th><th>inside</th><th>outside</th>");
        page.push_str("<th>p50 measured</th><th>p50 without them</th></tr></thead><tbody>");
        for row in &rows {
            put!(page, "<tr><th scope=\"row\">{}</th>", escaped(&row.name));
            for cell in super::share::cells(row) {
                put!(page, "<td>{}</td>", escaped(&cell));
            }
            page.push_str("</tr>");
        }
        page.push_str("</tbody></table></div>");
    }
    for note in notes {
        put!(page, "<p>{}</p>", escaped(&note));
    }
}

fn errors(page: &mut String, report: &Report) {
    let rows = super::errors(report);
    put!(page, "<h2>Errors</h2>");
    if rows.is_empty() {
        put!(page, "<p>None.</p>");
        return;
    }
    put!(page, "<table><thead><tr><th></th><th>errno</th><th>calls</th></tr></thead><tbody>");
    for (name, errno, count) in rows {
        let (name, errno, count) = (escaped(name), escaped(errno), unit::count(count));
        put!(page, "<tr><th scope=\"row\">{name}</th><td>{errno}</td><td>{count}</td></tr>");
    }
    put!(page, "</tbody></table>");
}

fn processes(page: &mut String, report: &Report) {
    if report.processes.is_empty() {
        return;
    }
    put!(
        page,
        "<h2>Processes</h2><div class=\"wide\"><table><thead><tr><th></th><th>site</th><th>calls</th>"
    );
    put!(page, "<th>failed</th><th>time</th><th>pages</th></tr></thead><tbody>");
    for (row, ioas) in report.processes.iter().zip(super::telling_ioases(&report.processes)) {
        let ioas = ioas.map(|ioas| format!(" IOAS {ioas}")).unwrap_or_default();
        let name = escaped(row.process.as_deref().unwrap_or("other"));
        let pid = row.pid.map(|pid| format!(" {pid}")).unwrap_or_default();
        let (calls, failed) = (unit::count(row.calls), unit::count(row.failed));
        let (time, pages) = (unit::nanos(row.nanos), unit::count(row.pages));
        put!(page, "<tr><th scope=\"row\">{name}{pid}</th><td>{}{ioas}</td>", escaped(&row.site));
        put!(page, "<td>{calls}</td><td>{failed}</td><td>{time}</td><td>{pages}</td></tr>");
    }
    put!(page, "</tbody></table></div>");
    if let Some(note) = super::note_on_names(&report.processes) {
        put!(page, "<p>{}</p>", escaped(note));
    }
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
