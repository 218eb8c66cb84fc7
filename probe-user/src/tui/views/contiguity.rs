//! Contiguity: how long the runs are, by order; the share of the bytes that huge pages could hold; and the
//! course of both.

use probe_model::contiguity::{HUGE, ORDERS, bytes_of};
use probe_model::unit;
use ratatui::layout::Rect;

use super::View;
use crate::tui::app::App;
use crate::tui::canvas::{Canvas, FILL, rows};
use crate::tui::course::Course;
use crate::tui::tone::Tone;
use crate::tui::widgets::{chart, facts, heat};

pub(super) struct Contiguity;

impl View for Contiguity {
    fn name(&self) -> &'static str {
        "Contiguity"
    }

    fn draw(&self, app: &App, canvas: &mut Canvas<'_>, area: Rect) {
        let Some(memory) = app.shown.as_ref().and_then(|now| now.contiguity.as_ref()) else {
            let text = "No run in this window: nobody asked for a physical address.";
            facts::wrapped(canvas, area, text, Tone::Dim);
            return;
        };
        let share = format!("{:.1} %", 100.0 * memory.huge_share);
        let rest = format!(
            " of {} in runs ≥ 2 MiB · {} runs · mean {}",
            unit::bytes(memory.bytes),
            unit::count(memory.runs),
            unit::bytes(memory.bytes / memory.runs.max(1))
        );
        let used = canvas.put(area.x, area.y, area.width, &share, Tone::Head);
        let beside = Rect { x: area.x + used, width: area.width.saturating_sub(used), ..area };
        let short = [&rest, rest.split(" · ").next().unwrap_or_default(), " in runs ≥ 2 MiB", " ≥ 2 MiB"];
        canvas.put_fitting(beside, &short, Tone::Dim);
        if area.height < 3 {
            return;
        }
        let body = Rect::new(area.x, area.y + 1, area.width, area.height - 1);
        let orders = u16::try_from(ORDERS + 2).unwrap_or(21);
        let over_time = match body.height {
            tall if tall >= orders + 6 => tall - orders,
            17.. => 7,
            _ => 0,
        };
        let [above, below] = rows(body, [FILL, over_time]);
        let inner = canvas.panel(above, "bytes by length of their run", Tone::Scan);
        by_order(app, canvas, inner);
        if over_time > 0 {
            let inner = canvas.panel(below, "the same over time: share of the bytes", Tone::Scan);
            course(app, canvas, inner);
        }
    }
}

fn by_order(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    let Some(memory) = app.shown.as_ref().and_then(|now| now.contiguity.as_ref()) else { return };
    let used: Vec<_> = memory.orders.iter().filter(|order| order.runs > 0).collect();
    // All orders where they fit, else those that occur.
    let orders: Vec<_> =
        if usize::from(area.height) >= ORDERS { memory.orders.iter().collect() } else { used };
    let most = orders.iter().map(|order| order.bytes).max().unwrap_or(1).max(1);
    let wide = area.width >= 50;
    let bar = if wide { 38 } else { 16 };
    for (y, order) in (area.top()..area.bottom()).zip(orders) {
        let length = bytes_of(order.order);
        let name = unit::bytes(length);
        let name = if order.order + 1 == ORDERS { format!("{name}+") } else { name };
        let tone = match (order.runs, length >= HUGE) {
            (0, _) => Tone::Line,
            (_, true) => Tone::Good,
            _ => Tone::Scan,
        };
        canvas.put_right(area.x, y, 8, &name, if order.runs > 0 { Tone::Text } else { Tone::Dim });
        let share = order.bytes as f64 / memory.bytes.max(1) as f64;
        canvas.put_right(area.x + 8, y, 8, &format!("{:.1} %", 100.0 * share), tone);
        if wide {
            canvas.put_right(area.x + 17, y, 10, &unit::bytes(order.bytes), Tone::Dim);
            canvas.put_right(area.x + 27, y, 10, &unit::count(order.runs), Tone::Dim);
        }
        let width = area.width.saturating_sub(bar);
        chart::bar(canvas, area.x + bar, y, width, order.bytes as f64 / most as f64, tone);
    }
}

fn course(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    let grid = Rect::new(area.x + 8, area.y, area.width.saturating_sub(8), area.height);
    let Some(course) = Course::of(app, grid.width) else { return };
    let totals: Vec<f64> = course.bins.iter().map(|bin| bin.bytes.iter().sum()).collect();
    let most = |order: usize| course.bins.iter().any(|bin| bin.bytes[order] > 0.0);
    let low = (0..ORDERS).find(|&order| most(order)).unwrap_or(0);
    let high = (0..ORDERS).rev().find(|&order| most(order)).unwrap_or(ORDERS - 1);
    heat::draw(canvas, grid, high - low + 1, |column, row| {
        let (Some(bin), Some(total)) = (course.bins.get(column), totals.get(column)) else { return 0.0 };
        let bytes = bin.bytes[(low + row).min(ORDERS - 1)];
        if bytes > 0.0 && *total > 0.0 { (0.1 + 0.9 * bytes / total).min(1.0) } else { 0.0 }
    });
    canvas.put_right(area.x, area.y, 7, &unit::bytes(bytes_of(high)), Tone::Dim);
    canvas.put_right(area.x, area.bottom().saturating_sub(1), 7, &unit::bytes(bytes_of(low)), Tone::Dim);
}
