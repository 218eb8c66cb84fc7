//! A table with a heading, a selected row and a place for a filter.

use ratatui::layout::Rect;

use crate::tui::app::{App, Overlay};
use crate::tui::canvas::{Canvas, Target};
use crate::tui::table::Table;
use crate::tui::tone::Tone;

/// Draw an arranged table.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, table: &Table) {
    if area.height == 0 || area.width == 0 {
        return;
    }
    let look = app.look();
    let shown = table.fitting(area.width);
    let mut body = Rect::new(area.x, area.y + 1, area.width, area.height - 1);
    heading(canvas, area, table, &shown);
    if app.overlay == Overlay::Filter || !look.filter.is_empty() {
        let y = area.bottom() - 1;
        body.height = body.height.saturating_sub(1);
        let cursor = if app.overlay == Overlay::Filter { "_" } else { "" };
        let found = format!("  {} rows", table.rows.len());
        let filter = format!("/{}{cursor}", look.filter);
        canvas.pieces(area.x, y, area.width, &[(&filter, Tone::Accent), (&found, Tone::Dim)]);
    }
    if table.rows.is_empty() {
        let why =
            if look.filter.is_empty() { table.empty } else { "No row has this. Esc clears the filter." };
        super::facts::wrapped(canvas, body, why, Tone::Dim);
        return;
    }
    let selected = look.selected.min(table.rows.len() - 1);
    let first = (selected + 1).saturating_sub(usize::from(body.height));
    for (index, y) in (first..table.rows.len()).zip(body.top()..body.bottom()) {
        let row = Rect::new(body.x, y, body.width, 1);
        let mut x = body.x;
        for &column in &shown {
            let Some(cell) = table.rows[index].cells.get(column) else { continue };
            let width = stretched(table, &shown, column, body.width);
            let put = if table.columns[column].right { Canvas::put_right } else { left };
            put(canvas, x, y, width, &cell.text, cell.tone);
            x = x.saturating_add(width + 1);
        }
        if index == selected {
            canvas.row_style(row, Tone::Selected);
        }
        canvas.hits.push((row, Target::Row(index)));
    }
}

fn left(canvas: &mut Canvas<'_>, x: u16, y: u16, width: u16, text: &str, tone: Tone) {
    canvas.put(x, y, width, text, tone);
}

fn heading(canvas: &mut Canvas<'_>, area: Rect, table: &Table, shown: &[usize]) {
    let mut x = area.x;
    for &column in shown {
        let Column { name, right, .. } = table.columns[column];
        let width = stretched(table, shown, column, area.width);
        let (tone, name) = if column == table.sort.0 {
            (Tone::Accent, format!("{name}{}", if table.sort.1 { "▼" } else { "▲" }))
        } else {
            (Tone::Head, name.to_owned())
        };
        if right {
            canvas.put_right(x, area.y, width, &name, tone);
        } else {
            canvas.put(x, area.y, width, &name, tone);
        }
        x = x.saturating_add(width + 1);
    }
}

use crate::tui::table::Column;

/// The first column takes half of what is left over, so that figures stay near their names.
fn stretched(table: &Table, shown: &[usize], column: usize, width: u16) -> u16 {
    let own = table.columns[column].width;
    let needed: u16 = shown.iter().map(|&c| table.columns[c].width + 1).sum::<u16>().saturating_sub(1);
    let spare = width.saturating_sub(needed);
    if shown.first() == Some(&column) {
        own.saturating_add((spare / 2).min(20)).min(width)
    } else {
        let others = u16::try_from(shown.len().saturating_sub(1)).unwrap_or(1).max(1);
        own + (spare.saturating_sub((spare / 2).min(20)) / others).min(4)
    }
}
