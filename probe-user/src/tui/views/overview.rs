//! Overview: how much, how fast, how healthy; its course; and what the numbers say.

use probe_model::figures::Figures;
use probe_model::finding::Severity;
use probe_model::unit;
use ratatui::layout::Rect;

use super::{View, axis, rate, shown};
use crate::tui::app::App;
use crate::tui::canvas::{Canvas, FILL, columns, rows};
use crate::tui::course::Course;
use crate::tui::shown::Shown;
use crate::tui::tone::Tone;
use crate::tui::widgets::{chart, facts};

pub(super) struct Overview;

impl View for Overview {
    fn name(&self) -> &'static str {
        "Overview"
    }

    fn draw(&self, app: &App, canvas: &mut Canvas<'_>, area: Rect) {
        let Some(now) = &app.shown else { return };
        if area.height < 12 || area.width < 60 {
            return brief(app, now, canvas, area);
        }
        let findings = u16::try_from(now.findings.len().clamp(1, 8)).unwrap_or(8);
        let per = if area.width >= 150 { 1 } else { 2 };
        let below = (findings * per + 2).min(area.height / 3).max(3);
        let [tiles, charts, below] = rows(area, [8, FILL, below]);
        let four = area.width >= 112;
        if four {
            let [a, b, c, d] = columns(tiles, [FILL, FILL, FILL, FILL]);
            latency_tile(app, now, canvas, a, false);
            latency_tile(app, now, canvas, b, true);
            memory_tile(now, canvas, c);
            health_tile(app, now, canvas, d);
        } else {
            let [a, b, c] = columns(tiles, [FILL, FILL, FILL]);
            latency_tile(app, now, canvas, a, false);
            latency_tile(app, now, canvas, b, true);
            health_tile(app, now, canvas, c);
        }
        // A tall screen has room for the heatmap too.
        let map = if charts.height >= 26 { charts.height / 2 } else { 0 };
        let [charts, map] = rows(charts, [FILL, map]);
        if charts.height >= 5 {
            courses(app, canvas, charts);
        }
        if map.height > 0 {
            let inner = canvas.panel(map, "heatmap", Tone::Head);
            super::heatmap::Heatmap.draw(app, canvas, inner);
        }
        let inner = canvas.panel(below, "What it says", Tone::Head);
        findings_list(now, canvas, inner);
    }
}

fn figures(now: &Shown, scans: bool) -> (u64, u64, Option<&Figures>) {
    if scans {
        let scans = now.scans.as_ref();
        let failed = scans.map_or(0, |scans| scans.failed.count);
        (scans.map_or(0, |scans| scans.calls), failed, scans.and_then(|scans| scans.ok.as_ref()))
    } else {
        (now.dispatch_calls, now.dispatch_failed, now.dispatch.as_ref())
    }
}

/// For small terminals: the same in lines.
fn brief(app: &App, now: &Shown, canvas: &mut Canvas<'_>, area: Rect) {
    let mut lines = Vec::new();
    for (name, tone, scans) in [("dispatch", Tone::Dispatch, false), ("get_phys", Tone::Scan, true)] {
        let (calls, failed, ok) = figures(now, scans);
        let speed = rate(now.window.rate(calls));
        lines.push((
            if area.width < 30 {
                format!("{name} {speed}")
            } else {
                format!("{name}  {} calls  {speed}", unit::count(calls))
            },
            tone,
        ));
        if let Some(ok) = ok {
            lines.push((format!("  p50 {}", shown(app, ok.p50)), Tone::Text));
            let tail = format!("  p99 {}", shown(app, ok.p99));
            lines.push((
                if area.width < 30 { tail } else { format!("{tail}  max {}", shown(app, ok.max)) },
                Tone::Text,
            ));
        }
        if failed > 0 && area.height > 6 {
            lines.push((format!("  failed {}", unit::count(failed)), Tone::Warn));
        }
    }
    let (word, tone) = health(app, now);
    // Whether the figures can be trusted always has its line.
    let room = usize::from(area.height.saturating_sub(1));
    lines.truncate(room);
    lines.push((word, tone));
    for (y, (line, tone)) in (area.top()..area.bottom()).zip(&lines) {
        canvas.put(area.x, y, area.width, line, *tone);
    }
    let used = u16::try_from(lines.len()).unwrap_or(area.height);
    if area.height > used + 1 {
        let rest = Rect::new(area.x, area.y + used + 1, area.width, area.height - used - 1);
        findings_list(now, canvas, rest);
    }
}

fn health(app: &App, now: &Shown) -> (String, Tone) {
    use probe_model::canary::Pulse;
    match now.window.counters.canary.pulse() {
        Pulse::Dark => return ("✗ DARK: nothing was seen".to_owned(), Tone::Bad),
        Pulse::Alive | Pulse::Unknown => {}
    }
    if now.lost() > 0 {
        return (format!("✗ {} calls LOST", unit::count(now.lost())), Tone::Bad);
    }
    if now.balances.values().any(|(_, balance)| balance.unexplained != 0) {
        return ("✗ UNEXPLAINED calls".to_owned(), Tone::Bad);
    }
    let _ = app;
    ("✓ nothing missed".to_owned(), Tone::Good)
}

fn latency_tile(app: &App, now: &Shown, canvas: &mut Canvas<'_>, area: Rect, scans: bool) {
    let (name, tone) = if scans { ("get_phys", Tone::Scan) } else { ("dispatch", Tone::Dispatch) };
    let inner = canvas.panel(area, name, tone);
    let (calls, failed, ok) = figures(now, scans);
    let speed = rate(now.window.rate(calls));
    canvas.put(inner.x + 1, inner.y, inner.width, &speed, tone);
    canvas.put_right(inner.x, inner.y, inner.width.saturating_sub(1), &unit::count(calls), Tone::Dim);
    let pick = |of: fn(&Figures) -> Option<u64>| shown(app, ok.and_then(of));
    let lines = [
        ("p50", pick(|f| f.p50), Tone::Text),
        ("p99", pick(|f| f.p99), Tone::Text),
        ("p99.9", pick(|f| f.p999), Tone::Text),
        ("max", pick(|f| f.max), Tone::Text),
        ("failed", unit::count(failed), if failed > 0 { Tone::Warn } else { Tone::Dim }),
    ];
    for (y, (name, value, tone)) in (inner.y + 1..inner.bottom()).zip(lines) {
        canvas.put(inner.x + 1, y, inner.width, name, Tone::Dim);
        canvas.put_right(inner.x, y, inner.width.saturating_sub(1), &value, tone);
    }
}

fn memory_tile(now: &Shown, canvas: &mut Canvas<'_>, area: Rect) {
    let inner = canvas.panel(area, "memory", Tone::Head);
    let Some(memory) = &now.contiguity else {
        canvas.put(inner.x + 1, inner.y, inner.width, "no runs yet", Tone::Dim);
        return;
    };
    let mean = memory.bytes / memory.runs.max(1);
    let width = inner.width.saturating_sub(2);
    canvas.put(inner.x + 1, inner.y, width, &format!("{:.1} %", 100.0 * memory.huge_share), Tone::Head);
    canvas.put_right(inner.x + 1, inner.y, width, "in runs ≥ 2 MiB", Tone::Dim);
    chart::bar(canvas, inner.x + 1, inner.y + 1, width, memory.huge_share, Tone::Good);
    let lines = [
        ("runs", unit::count(memory.runs)),
        ("mean run", unit::bytes(mean)),
        ("returned", unit::bytes(memory.bytes)),
        (
            "a page",
            now.cost
                .as_ref()
                .and_then(|cost| cost.further_page)
                .map_or_else(|| "-".to_owned(), |page| page.to_string()),
        ),
    ];
    for (y, (name, value)) in (inner.y + 2..inner.bottom()).zip(lines) {
        canvas.put(inner.x + 1, y, width, name, Tone::Dim);
        canvas.put_right(inner.x + 1, y, width, &value, Tone::Text);
    }
}

fn health_tile(app: &App, now: &Shown, canvas: &mut Canvas<'_>, area: Rect) {
    use probe_model::canary::Pulse;
    let inner = canvas.panel(area, "health", Tone::Head);
    let (word, tone) = health(app, now);
    canvas.put(inner.x + 1, inner.y, inner.width.saturating_sub(1), &word, tone);
    let calls: u64 = now.balances.values().map(|(_, balance)| balance.calls).sum();
    let measured: u64 = now.balances.values().map(|(_, balance)| balance.measured).sum();
    let (pulse, tone) = match now.window.counters.canary.pulse() {
        Pulse::Alive => ("heartbeat seen", Tone::Good),
        Pulse::Dark => ("heartbeat NOT seen", Tone::Bad),
        Pulse::Unknown => ("no heartbeat sent", Tone::Dim),
    };
    let lines = [
        ("began", unit::count(calls), Tone::Text),
        ("measured", unit::count(measured), Tone::Text),
        ("lost", unit::count(now.lost()), if now.lost() > 0 { Tone::Bad } else { Tone::Text }),
        ("in flight", unit::count(now.in_flight()), Tone::Text),
        ("probes", pulse.to_owned(), tone),
    ];
    for (y, (name, value, tone)) in (inner.y + 1..inner.bottom()).zip(lines) {
        canvas.put(inner.x + 1, y, inner.width, name, Tone::Dim);
        canvas.put_right(inner.x, y, inner.width.saturating_sub(1), &value, tone);
    }
}

fn courses(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    let [left, right] = columns(area, [FILL, FILL]);
    let site = if app.scans_first { "get_phys" } else { "dispatch" };
    let tone = if app.scans_first { Tone::Scan } else { Tone::Dispatch };
    let calls = canvas.panel(left, &format!("{site}: calls a second"), tone);
    let times = canvas.panel(right, &format!("{site}: p50 • and p99 ▲"), tone);
    if let Some(course) = Course::of(app, calls.width) {
        let values: Vec<_> =
            course.bins.iter().map(|bin| bin.rate(bin.site(app.scans_first).calls)).collect();
        let (shares, most) = chart::shares(&values);
        chart::fill(canvas, calls, &shares, tone);
        canvas.put_right(calls.x, calls.y, calls.width, &format!(" {} ", rate(Some(most))), Tone::Dim);
        let dark = |bin: &crate::tui::course::Bin| bin.dark.then_some(0.0);
        let dark: Vec<_> = course.bins.iter().map(dark).collect();
        chart::dots(canvas, Rect { y: calls.y, height: 1, ..calls }, &dark, '✗', Tone::Bad);
    }
    if let Some(course) = Course::of(app, times.width) {
        let at =
            |q| -> Vec<_> { course.bins.iter().map(|bin| bin.site(app.scans_first).quantile(q)).collect() };
        let (median, tail) = (at(0.5), at(0.99));
        let most = tail.iter().flatten().copied().fold(0.0, f64::max);
        let lowest = median.iter().flatten().copied().fold(f64::MAX, f64::min);
        if most > 0.0 {
            let (low, high) = (lowest / 2.0, most * 1.2);
            chart::dots(canvas, times, &chart::log_shares(&tail, low, high), '▲', Tone::Warn);
            chart::dots(canvas, times, &chart::log_shares(&median, low, high), '•', tone);
            canvas.put_right(times.x, times.y, times.width, &format!(" {} ", axis(high)), Tone::Dim);
            let y = times.bottom() - 1;
            canvas.put_right(times.x, y, times.width, &format!(" {} ", axis(low)), Tone::Dim);
        }
    }
}

fn findings_list(now: &Shown, canvas: &mut Canvas<'_>, area: Rect) {
    if now.findings.is_empty() {
        canvas.put(area.x, area.y, area.width, "Nothing stands out in this window.", Tone::Dim);
        return;
    }
    let mut y = area.y;
    for finding in &now.findings {
        if y >= area.bottom() {
            return;
        }
        let tone = match finding.severity {
            Severity::Untrue => Tone::Bad,
            Severity::Warning => Tone::Warn,
            Severity::Note => Tone::Accent,
        };
        let name = format!("{} ", finding.severity.name());
        if area.width >= 130 {
            let pieces = [
                (name.as_str(), tone),
                (finding.what.as_str(), Tone::Text),
                ("  ", Tone::Text),
                (finding.advice, Tone::Dim),
            ];
            canvas.pieces(area.x, y, area.width, &pieces);
            y += 1;
            continue;
        }
        let indent = 5.min(area.width);
        canvas.put(area.x, y, indent, &name, tone);
        let text =
            |y: u16| Rect::new(area.x + indent, y, area.width - indent, area.bottom().saturating_sub(y));
        y += facts::wrapped(canvas, text(y), &finding.what, Tone::Text);
        if usize::from(area.height) >= 2 * now.findings.len() {
            y += facts::wrapped(canvas, text(y), finding.advice, Tone::Dim);
        }
    }
}
