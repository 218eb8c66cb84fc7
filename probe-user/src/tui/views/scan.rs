//! Scan: what a page costs. Latency against scan length, the fitted cost, why scans end, and what was
//! walked for what came back.

use probe_model::figures::{Figures, scan_lengths};
use probe_model::rescan;
use probe_model::scan_cost;
use probe_model::slice::BANDS;
use probe_model::unit;
use ratatui::layout::Rect;

use super::{View, axis, rate, shown};
use crate::tui::app::App;
use crate::tui::canvas::{Canvas, FILL, columns, rows};
use crate::tui::shown::Shown;
use crate::tui::text;
use crate::tui::tone::Tone;
use crate::tui::widgets::{chart, facts, facts::Fact, heat};

pub(super) struct Scan;

impl View for Scan {
    fn name(&self) -> &'static str {
        "Scan"
    }

    fn draw(&self, app: &App, canvas: &mut Canvas<'_>, area: Rect) {
        let Some(now) = &app.shown else { return };
        if now.scans.is_none() {
            let text = "No scan in this window: nobody asked for a physical address. Start a driver, or `iovascope load`.";
            facts::wrapped(canvas, area, text, Tone::Dim);
            return;
        }
        if area.height < 14 || area.width < 60 {
            facts::draw(canvas, area, 11, &cost(app, now));
            return;
        }
        let [left, right] = columns(area, [FILL, if area.width >= 100 { 46 } else { 34 }]);
        let inner = canvas.panel(left, "latency by pages scanned", Tone::Scan);
        by_length(app, now, canvas, inner);
        let stops = u16::try_from(now.scans.as_ref().map_or(0, |scans| scans.runs.len())).unwrap_or(4) + 2;
        let [above, middle, below] = rows(right, [FILL, stops.min(7), 8]);
        let inner = canvas.panel(above, "cost of a scan", Tone::Scan);
        facts::draw(canvas, inner, 11, &cost(app, now));
        let inner = canvas.panel(middle, "why scans stop", Tone::Scan);
        stop_bars(app, now, canvas, inner);
        let inner = canvas.panel(below, "walked and returned", Tone::Scan);
        facts::draw(canvas, inner, 11, &walked(app, now));
    }
}

fn cost(app: &App, now: &Shown) -> Vec<Fact> {
    let scans = now.scans.as_ref();
    let ok = scans.and_then(|scans| scans.ok.as_ref());
    let mut lines = Vec::new();
    if let Some(cost) = &now.cost {
        if let Some((fixed, further)) = cost.parts() {
            lines.push(Fact::toned("each page", further.to_string(), Tone::Head));
            lines.push(Fact::toned("fixed", fixed.to_string(), Tone::Head));
        }
        lines.push(Fact::toned(
            "cost",
            cost.known(),
            if cost.parts().is_some() { Tone::Dim } else { Tone::Head },
        ));
        if let Some(pages) = cost.break_even() {
            lines.push(Fact::new("half pages", format!("from {pages:.1} pages on")));
        }
    }
    if let Some(ok) = ok {
        lines.push(Fact::new("p50", shown(app, ok.p50)));
        lines.push(Fact::new("p99", shown(app, ok.p99)));
        lines.push(Fact::new("max", shown(app, ok.max)));
    }
    if let Some(locks) = &now.window.counters.locks {
        for (part, waits) in &locks.get_phys {
            let share = waits.sum as f64 / locks.get_phys.values().map(|h| h.sum).sum::<u64>().max(1) as f64;
            let p99 = shown(app, Figures::of_latency(waits).p99);
            let part = text::cells(part.as_bytes());
            lines.push(Fact::new(part, format!("{:.1} % of the time, p99 {p99}", 100.0 * share)));
        }
    }
    lines
}

fn by_length(app: &App, now: &Shown, canvas: &mut Canvas<'_>, area: Rect) {
    let Some(scans) = &now.window.counters.get_phys else { return };
    if scans.ok.is_empty() || area.height < 4 {
        canvas.put(area.x, area.y, area.width, "no successful scan in this window", Tone::Dim);
        return;
    }
    let classes = usize::try_from(*scans.ok.keys().max().unwrap_or(&0)).unwrap_or(0).clamp(3, 15) + 1;
    let mut cells = vec![vec![0.0f64; BANDS.len()]; classes];
    for (&class, histogram) in &scans.ok {
        let column = &mut cells[(class as usize).min(classes - 1)];
        for (&bucket, &count) in &histogram.buckets {
            let band = BANDS.index(histogram.scheme().lowest(bucket as usize)).min(BANDS.len() - 1);
            column[band] += count as f64;
        }
    }
    let used = |band: &usize| cells.iter().any(|column| column[*band] > 0.0);
    let low = (0..BANDS.len()).find(used).unwrap_or(0);
    let high = (0..BANDS.len()).rev().find(used).unwrap_or(0);
    let (low, high) = spread(low, high, heat::places(canvas, Rect { height: area.height - 2, ..area }));
    let grid = Rect::new(area.x + 7, area.y, area.width.saturating_sub(7), area.height - 2);
    let each = (usize::from(grid.width) / classes).max(1);
    // Each column on its own scale: the shape of a class, however many scans it has.
    let most: Vec<f64> = cells.iter().map(|column| column.iter().copied().fold(0.0, f64::max)).collect();
    heat::draw(canvas, grid, high - low + 1, |column, row| {
        let class = column / each;
        if class >= classes || (each > 2 && column % each == each - 1) {
            return 0.0;
        }
        let count = cells[class][(low + row).min(BANDS.len() - 1)];
        if count > 0.0 { 0.15 + 0.85 * (count / most[class]).sqrt() } else { 0.0 }
    });
    latency_axis(canvas, Rect { width: 6, ..Rect { height: area.height - 2, ..area } }, low, high);
    for (class, label) in (0..classes)
        .filter(|class| each >= 5 || class % (5 / each + 1) == 0)
        .map(|class| (class, short(scan_lengths(u32::try_from(class).unwrap_or(0)).0)))
    {
        let x = grid.x + u16::try_from(class * each).unwrap_or(0);
        canvas.put(x, area.bottom() - 2, 5, &label, Tone::Dim);
    }
    let legend = "pages from this on, to the next; each column on its own scale";
    canvas.put(grid.x, area.bottom() - 1, grid.width, legend, Tone::Dim);
    let _ = app;
}

/// Bands that fill the height, and some air.
pub(super) fn spread(low: usize, high: usize, places: usize) -> (usize, usize) {
    let (mut low, mut high) = (low.saturating_sub(1), (high + 1).min(BANDS.len() - 1));
    while high - low + 1 < places.min(BANDS.len()) {
        high = (high + 1).min(BANDS.len() - 1);
        if high - low + 1 < places {
            low = low.saturating_sub(1);
        }
        if low == 0 && high == BANDS.len() - 1 {
            break;
        }
    }
    (low, high)
}

/// Labels of a latency axis from band `low` at the bottom to `high` at the top.
pub(super) fn latency_axis(canvas: &mut Canvas<'_>, area: Rect, low: usize, high: usize) {
    let bands = high - low + 1;
    let mut free = 0;
    for up in 0..usize::from(area.height) {
        let band = low + up * bands / usize::from(area.height).max(1);
        if up >= free {
            let y = area.bottom() - 1 - u16::try_from(up).unwrap_or(0);
            canvas.put_right(area.x, y, area.width, &axis(BANDS.lowest(band) as f64), Tone::Dim);
            free = up + 3;
        }
    }
}

fn short(pages: u64) -> String {
    if pages >= 1024 { format!("{}k", pages / 1024) } else { pages.to_string() }
}

fn stop_bars(app: &App, now: &Shown, canvas: &mut Canvas<'_>, area: Rect) {
    let Some(scans) = &now.scans else { return };
    let all: u64 = scans.runs.iter().map(|(_, runs)| runs.count).sum();
    for (y, (stop, runs)) in (area.top()..area.bottom()).zip(&scans.runs) {
        let share = runs.count as f64 / all.max(1) as f64;
        let tone = if stop == "unmapped" { Tone::Warn } else { Tone::Scan };
        canvas.put(area.x, y, 9, stop, Tone::Text);
        canvas.put_right(area.x + 9, y, 10, &unit::count(runs.count), Tone::Text);
        canvas.put_right(area.x + 19, y, 7, &format!("{:.1} %", 100.0 * share), Tone::Dim);
        chart::bar(canvas, area.x + 27, y, area.width.saturating_sub(27), share, tone);
    }
    let _ = app;
}

fn walked(app: &App, now: &Shown) -> Vec<Fact> {
    let Some(scans) = &now.scans else { return Vec::new() };
    let bytes: u64 = scans.runs.iter().map(|(_, runs)| runs.sum).fold(0, u64::saturating_add);
    let ok = scans.ok.as_ref().map_or(0, |ok| ok.count);
    let per_call = scans.pages.checked_div(ok);
    let mut lines = vec![
        Fact::new("pages", format!("{}  {}", unit::count(scans.pages), rate(now.window.rate(scans.pages)))),
        Fact::new(
            "a call",
            per_call.map_or_else(|| "-".to_owned(), |pages| format!("{} pages", unit::count(pages))),
        ),
        Fact::new("returned", unit::bytes(bytes)),
    ];
    let mean = now.window.counters.get_phys.as_ref().and_then(scan_cost::mean_per_page);
    lines.extend(mean.map(|nanos| Fact::new("mean page", format!("{nanos:.1} ns, fixed cost shared out"))));
    let window = now.window.from.monotonic..=now.window.to.monotonic;
    let calls = app.calls.in_order().filter(|call| window.contains(&call.at));
    // A sample of the calls has gaps between neighbours: only all of them can tell.
    let again = rescan::of(calls, app.page_size()).filter(|again| again.calls >= ok);
    lines.push(match again.and_then(|again| again.share()) {
        Some(share) => Fact::toned(
            "again",
            format!("{:.1} % of the pages", 100.0 * share),
            if share > 0.1 { Tone::Warn } else { Tone::Text },
        ),
        None => Fact::toned("again", "needs --calls-every 1 --include-iova", Tone::Dim),
    });
    lines
}
