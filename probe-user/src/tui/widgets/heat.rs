//! Heatmaps: a colour where there are colours, a density of ink where there are none.

use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::tui::canvas::Canvas;
use crate::tui::theme::Depth;

const INK: [char; 5] = [' ', '░', '▒', '▓', '█'];
const INK_ASCII: [char; 5] = [' ', '.', ':', '*', '#'];

/// Draw `cells(column, row)`, 0 (nothing) to 1, row 0 at the bottom, two rows of values in a row of cells
/// where the terminal can.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, rows: usize, cells: impl Fn(usize, usize) -> f64) {
    let halves = usize::from(canvas.looks.depth >= Depth::Ansi256 && !canvas.looks.ascii) + 1;
    let tall = usize::from(area.height) * halves;
    if tall == 0 || rows == 0 {
        return;
    }
    // Several values may share a place: the largest shows.
    let at = |column: usize, place: usize| {
        let first = place * rows / tall;
        let last = ((place + 1) * rows).div_ceil(tall).clamp(first + 1, rows);
        (first..last).map(|row| cells(column, row)).fold(0.0, f64::max)
    };
    for (column, x) in (area.left()..area.right()).enumerate() {
        for (up, y) in (area.top()..area.bottom()).rev().enumerate() {
            let (low, high) = (at(column, up * halves), at(column, (up + 1) * halves - 1));
            paint(canvas, x, y, low, high, halves == 2);
        }
    }
}

/// Rows of values that fill an area exactly.
pub fn places(canvas: &Canvas<'_>, area: Rect) -> usize {
    let halves = usize::from(canvas.looks.depth >= Depth::Ansi256 && !canvas.looks.ascii) + 1;
    usize::from(area.height) * halves
}

fn paint(canvas: &mut Canvas<'_>, x: u16, y: u16, low: f64, high: f64, halves: bool) {
    let looks = canvas.looks;
    let color = |share: f64| if share > 0.0 { looks.heat(share) } else { None };
    if !halves {
        let share = low.max(high);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 4")]
        let ink = if share > 0.0 { (share * 4.0).ceil().clamp(1.0, 4.0) as usize } else { 0 };
        let glyph = if looks.ascii { INK_ASCII[ink] } else { INK[ink] };
        let style = color(share).map_or(Style::new(), |color| Style::new().fg(color));
        canvas.cell(x, y, glyph, style);
        return;
    }
    match (color(low), color(high)) {
        (None, None) => {}
        (Some(low), None) => canvas.cell(x, y, '▄', Style::new().fg(low)),
        (None, Some(high)) => canvas.cell(x, y, '▀', Style::new().fg(high)),
        (Some(low), Some(high)) => canvas.cell(x, y, '▄', Style::new().fg(low).bg(high)),
    }
}
