//! Heatmap: where the calls' latencies lay, over time. A second mode in the tail stands out here and in no
//! percentile.

use probe_model::slice::BANDS;
use ratatui::layout::Rect;

use super::scan::{latency_axis, spread};
use super::{View, clock, rate};
use crate::tui::app::App;
use crate::tui::canvas::{Canvas, FILL, rows};
use crate::tui::course::Course;
use crate::tui::tone::Tone;
use crate::tui::widgets::{chart, facts, heat};

pub(super) struct Heatmap;

impl View for Heatmap {
    fn name(&self) -> &'static str {
        "Heatmap"
    }

    fn draw(&self, app: &App, canvas: &mut Canvas<'_>, area: Rect) {
        let (site, tone) =
            if app.scans_first { ("get_phys", Tone::Scan) } else { ("dispatch", Tone::Dispatch) };
        let used = canvas.put(area.x, area.y, area.width, site, tone);
        let beside = Rect { x: area.x + used, width: area.width.saturating_sub(used), ..area };
        let head = [
            " latency of successful calls · x: the other site",
            " latency of successful calls",
            " latency · x: other",
            " latency",
        ];
        canvas.put_fitting(beside, &head, Tone::Dim);
        if area.height < 4 || area.width < 12 {
            return;
        }
        let speeds = if area.height >= 14 { 4 } else { 0 };
        let body = Rect { y: area.y + 1, height: area.height - 1, ..area };
        let [map, times, calls] = rows(body, [FILL, 1, speeds]);
        let grid = Rect::new(map.x + 7, map.y, map.width - 7, map.height);
        let Some(course) = Course::of(app, grid.width) else { return };
        let bands: Vec<_> = course.bins.iter().map(|bin| &bin.site(app.scans_first).bands).collect();
        let used = |band: &usize| bands.iter().any(|column| column[*band] > 0.0);
        let Some(low) = (0..BANDS.len()).find(used) else {
            let text = "No successful call of this site in this time. Press x for the other site, w for a longer window.";
            facts::wrapped(canvas, grid, text, Tone::Dim);
            return;
        };
        let high = (0..BANDS.len()).rev().find(used).unwrap_or(low);
        let (low, high) = spread(low, high, heat::places(canvas, grid));
        let most = bands.iter().flat_map(|column| column.iter()).copied().fold(0.0, f64::max).max(1.0);
        heat::draw(canvas, grid, high - low + 1, |column, row| {
            let count = bands.get(column).map_or(0.0, |bands| bands[(low + row).min(BANDS.len() - 1)]);
            // A single call among millions shows.
            if count > 0.0 { 0.12 + 0.88 * (1.0 + count).ln() / (1.0 + most).ln() } else { 0.0 }
        });
        latency_axis(canvas, Rect { width: 6, ..map }, low, high);
        marks(app, &course, canvas, grid);
        let ago = format!("-{}", clock(course.to - course.from));
        canvas.put(grid.x, times.y, 12, &ago, Tone::Dim);
        canvas.put_right(grid.x, times.y, grid.width, "here", Tone::Dim);
        if speeds > 0 {
            speed(app, &course, canvas, Rect { x: grid.x, width: grid.width, ..calls }, tone);
        }
    }
}

fn marks(app: &App, course: &Course, canvas: &mut Canvas<'_>, grid: Rect) {
    let style = canvas.looks.style(Tone::Accent);
    for mark in &app.marks {
        if let Some(column) = course.column(mark.at.monotonic) {
            let x = grid.x + u16::try_from(column).unwrap_or(0);
            canvas.cell(x, grid.y, if canvas.looks.ascii { 'v' } else { '▼' }, style);
        }
    }
    let bad = canvas.looks.style(Tone::Bad);
    for (x, bin) in (grid.left()..grid.right()).zip(&course.bins) {
        if bin.dark {
            for y in grid.top()..grid.bottom() {
                canvas.cell(x, y, if canvas.looks.ascii { '!' } else { '╳' }, bad);
            }
        } else if bin.dispatch.lost + bin.get_phys.lost > 0.0 {
            canvas.cell(x, grid.bottom() - 1, '!', bad);
        }
    }
}

fn speed(app: &App, course: &Course, canvas: &mut Canvas<'_>, area: Rect, tone: Tone) {
    let values: Vec<_> = course.bins.iter().map(|bin| bin.rate(bin.site(app.scans_first).calls)).collect();
    let (shares, most) = chart::shares(&values);
    chart::fill(canvas, area, &shares, tone);
    canvas.put_right(area.x, area.y, area.width, &format!(" {} ", rate(Some(most))), Tone::Dim);
}
