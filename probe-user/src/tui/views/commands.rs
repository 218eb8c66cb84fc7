//! Commands: every iommufd command that was called; below, the distribution of the selected one.

use probe_common::bucket::Scheme;
use probe_model::histogram::Histogram;
use probe_model::slice::BANDS;
use probe_model::unit;
use ratatui::layout::Rect;

use super::{View, axis, rate, shown};
use crate::tui::app::App;
use crate::tui::canvas::{Canvas, FILL, columns, rows};
use crate::tui::shown::CommandFigures;
use crate::tui::table::{Cell, Column, Row, Table};
use crate::tui::tone::Tone;
use crate::tui::widgets::{chart, facts, table};

pub(super) struct Commands;

const fn figure(name: &'static str, rank: u8) -> Column {
    Column { name, width: 9, right: true, rank }
}

const COLUMNS: [Column; 9] = [
    Column { name: "command", width: 20, right: false, rank: 0 },
    Column { name: "calls", width: 10, right: true, rank: 5 },
    figure("rate", 4),
    figure("p50", 1),
    figure("p90", 7),
    figure("p99", 2),
    figure("p99.9", 6),
    figure("max", 3),
    Column { name: "failed", width: 8, right: true, rank: 4 },
];

impl View for Commands {
    fn name(&self) -> &'static str {
        "Commands"
    }

    fn table(&self, app: &App) -> Option<Table> {
        let now = app.shown.as_ref()?;
        let rows = now.commands.iter().map(|command| row(app, command, now.window.rate(command.calls)));
        Some(Table {
            columns: COLUMNS.to_vec(),
            rows: rows.collect(),
            sort: (1, true),
            empty: "No ioctl on /dev/iommu in this window. Start a driver, or `iovascope load`.",
        })
    }

    fn draw(&self, app: &App, canvas: &mut Canvas<'_>, area: Rect) {
        let Some(table) = super::arranged(app) else { return };
        // The table takes what it needs, but no more than two thirds.
        let needed = u16::try_from(table.rows.len() + 2).unwrap_or(u16::MAX).min(area.height * 2 / 3);
        let needed = if area.height >= 18 { needed } else { area.height };
        let [above, below] = rows(area, [needed, FILL]);
        table::draw(canvas, above, app, &table);
        let selected = app.look().selected.min(table.rows.len().saturating_sub(1));
        let Some(name) = table.rows.get(selected).and_then(|row| row.cells.first()) else { return };
        if below.height > 0 {
            distribution(app, canvas, below, name.text.trim());
        }
    }
}

fn row(app: &App, command: &CommandFigures, speed: Option<f64>) -> Row {
    let time = |nanos: Option<u64>| Cell::number(shown(app, nanos), nanos.map_or(-1.0, |nanos| nanos as f64));
    let ok = &command.ok;
    let failed = command.failed.count;
    let mut details = vec![
        ("command".to_owned(), command.name.clone()),
        ("calls".to_owned(), unit::count(command.calls)),
        ("ok".to_owned(), unit::count(ok.count)),
        ("mean".to_owned(), mean(app, ok.sum, ok.count)),
        ("p50".to_owned(), shown(app, ok.p50)),
        ("p90".to_owned(), shown(app, ok.p90)),
        ("p99".to_owned(), shown(app, ok.p99)),
        ("p99.9".to_owned(), shown(app, ok.p999)),
        ("max".to_owned(), shown(app, ok.max)),
        ("time in all".to_owned(), unit::nanos(ok.sum)),
        ("failed".to_owned(), unit::count(failed)),
    ];
    if failed > 0 {
        details.push(("failed p50".to_owned(), shown(app, command.failed.p50)));
        details.push(("failed p99".to_owned(), shown(app, command.failed.p99)));
    }
    details.extend(command.errors.iter().map(|(name, count)| (format!("  {name}"), unit::count(*count))));
    Row {
        cells: vec![
            Cell::text(crate::tui::text::cells(command.name.as_bytes())).tone(Tone::Dispatch),
            Cell::number(unit::count(command.calls), command.calls as f64),
            Cell::number(rate(speed), speed.unwrap_or(0.0)),
            time(ok.p50),
            time(ok.p90),
            time(ok.p99),
            time(ok.p999),
            time(ok.max),
            Cell::number(unit::count(failed), failed as f64).tone(if failed > 0 {
                Tone::Warn
            } else {
                Tone::Dim
            }),
        ],
        details,
    }
}

fn mean(app: &App, sum: u64, count: u64) -> String {
    shown(app, sum.checked_div(count))
}

fn distribution(app: &App, canvas: &mut Canvas<'_>, area: Rect, name: &str) {
    let Some(now) = &app.shown else { return };
    let [left, right] = columns(area, [FILL, if area.width >= 80 { 30 } else { 0 }]);
    let inner = canvas.panel(left, &format!("{name}: latency"), Tone::Dispatch);
    let Some(calls) = now.window.counters.dispatch.get(name) else { return };
    histogram(canvas, inner, &calls.ok, Tone::Dispatch);
    if area.width < 80 {
        return;
    }
    let inner = canvas.panel(right, "errors", Tone::Head);
    let errors = now.commands.iter().find(|command| command.name == name).map(|command| &command.errors);
    let errors = errors.map(Vec::as_slice).unwrap_or_default();
    let lines: Vec<_> = errors
        .iter()
        .map(|(name, count)| facts::Fact::toned(name, unit::count(*count), Tone::Warn))
        .collect();
    if lines.is_empty() {
        canvas.put(inner.x, inner.y, inner.width, "none", Tone::Dim);
    }
    facts::draw(canvas, inner, 14, &lines);
}

/// A latency histogram as columns over a logarithmic axis.
pub(super) fn histogram(canvas: &mut Canvas<'_>, area: Rect, histogram: &Histogram, tone: Tone) {
    if area.height < 3 || histogram.is_empty() {
        canvas.put(area.x, area.y, area.width, "no successful call in this window", Tone::Dim);
        return;
    }
    let scheme: Scheme = histogram.scheme();
    let mut bands = vec![0.0; BANDS.len()];
    for (&bucket, &count) in &histogram.buckets {
        bands[BANDS.index(scheme.lowest(bucket as usize)).min(BANDS.len() - 1)] += count as f64;
    }
    let first = bands.iter().position(|&count| count > 0.0).unwrap_or(0).saturating_sub(1);
    let last = bands.iter().rposition(|&count| count > 0.0).unwrap_or(0) + 1;
    let width = usize::from(area.width);
    let each = (width / (last - first + 1).max(1)).clamp(1, 4);
    let values: Vec<_> = (0..width).map(|x| bands.get(first + x / each).copied()).collect();
    let (shares, _) = chart::shares(&values);
    // A square root shows the tail beside the bulk.
    let shares: Vec<_> = shares.into_iter().map(|share| Some(share.unwrap_or(0.0).sqrt())).collect();
    chart::fill(canvas, Rect { height: area.height - 1, ..area }, &shares, tone);
    let y = area.bottom() - 1;
    let mut x = 0;
    while x + 6 < width && first + x / each < BANDS.len() {
        let label = axis(BANDS.lowest(first + x / each) as f64);
        canvas.put(area.x + u16::try_from(x).unwrap_or(0), y, 7, &label, Tone::Dim);
        x += (10usize).next_multiple_of(each);
    }
    canvas.put_right(area.x, area.y, area.width, " height: square root of the number ", Tone::Dim);
}
