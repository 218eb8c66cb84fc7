//! What views draw on: a grid of cells that clips, with meanings instead of colours.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::text;
use super::theme::Looks;
use super::tone::Tone;

/// What a click means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    Tab(usize),
    Row(usize),
    /// Somewhere on the timeline; the share comes from the place.
    Timeline,
}

/// The grid, and what clicks on it mean.
pub struct Canvas<'a> {
    pub buffer: &'a mut Buffer,
    pub looks: Looks,
    pub hits: &'a mut Vec<(Rect, Target)>,
}

impl Canvas<'_> {
    /// Write `line` at a place, at most `width` cells; how many it took.
    pub fn put(&mut self, x: u16, y: u16, width: u16, line: &str, tone: Tone) -> u16 {
        let style = self.looks.style(tone);
        self.put_styled(x, y, width, line, style)
    }

    pub fn put_styled(&mut self, x: u16, y: u16, width: u16, line: &str, style: Style) -> u16 {
        let area = self.buffer.area;
        if y < area.top() || y >= area.bottom() || x < area.left() || x >= area.right() {
            return 0;
        }
        let width = width.min(area.right() - x);
        let line = if self.looks.ascii { ascii(line) } else { line.to_owned() };
        let (end, _) = self.buffer.set_stringn(x, y, text::cut(&line, width.into()), width.into(), style);
        end - x
    }

    /// Write the first of these that fits, or what fits of the last.
    pub fn put_fitting(&mut self, area: Rect, lines: &[&str], tone: Tone) {
        let fits = |line: &&&str| line.chars().count() <= usize::from(area.width);
        if let Some(line) = lines.iter().find(fits).or(lines.last()) {
            self.put(area.x, area.y, area.width, line, tone);
        }
    }

    /// Write at the right end of `width` cells.
    pub fn put_right(&mut self, x: u16, y: u16, width: u16, line: &str, tone: Tone) {
        let line = text::cut(line, width.into());
        let length = u16::try_from(line.chars().count()).unwrap_or(width);
        self.put(x + width.saturating_sub(length), y, length, &line, tone);
    }

    /// Write pieces one after the other; how many cells they took.
    pub fn pieces(&mut self, x: u16, y: u16, width: u16, pieces: &[(&str, Tone)]) -> u16 {
        let mut at = 0;
        for (piece, tone) in pieces {
            at += self.put(x.saturating_add(at), y, width.saturating_sub(at), piece, *tone);
        }
        at
    }

    /// One cell.
    pub fn cell(&mut self, x: u16, y: u16, symbol: char, style: Style) {
        if let Some(cell) = self.buffer.cell_mut((x, y)) {
            cell.set_char(symbol).set_style(style);
        }
    }

    /// Give a row a style beneath its text.
    pub fn row_style(&mut self, area: Rect, tone: Tone) {
        let style = self.looks.style(tone);
        self.buffer.set_style(area.intersection(self.buffer.area), style);
    }

    /// Clear an area, for what lies over others.
    pub fn clear(&mut self, area: Rect) {
        let area = area.intersection(self.buffer.area);
        for y in area.top()..area.bottom() {
            for x in area.left()..area.right() {
                if let Some(cell) = self.buffer.cell_mut((x, y)) {
                    cell.reset();
                }
            }
        }
    }

    /// A titled box; its inside. Too small for a box, it is all inside.
    pub fn panel(&mut self, area: Rect, title: &str, tone: Tone) -> Rect {
        if area.width < 8 || area.height < 3 {
            return area;
        }
        let line = self.looks.style(Tone::Line);
        let [top, side, corners] =
            if self.looks.ascii { ["-", "|", "++++"] } else { ["─", "│", "╭╮╰╯"] };
        let corners: Vec<char> = corners.chars().collect();
        let (left, right) = (area.left(), area.right() - 1);
        let (first, last) = (area.top(), area.bottom() - 1);
        for x in left..=right {
            self.cell(x, first, top.chars().next().unwrap_or('-'), line);
            self.cell(x, last, top.chars().next().unwrap_or('-'), line);
        }
        for y in first..=last {
            self.cell(left, y, side.chars().next().unwrap_or('|'), line);
            self.cell(right, y, side.chars().next().unwrap_or('|'), line);
        }
        for (place, (x, y)) in
            [(left, first), (right, first), (left, last), (right, last)].into_iter().enumerate()
        {
            self.cell(x, y, corners[place], line);
        }
        if !title.is_empty() {
            self.put(left + 2, first, area.width - 4, &format!(" {title} "), tone);
        }
        Rect::new(left + 1, first + 1, area.width - 2, area.height - 2)
    }
}

/// The same with ASCII alone.
fn ascii(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            'µ' => text.push('u'),
            '·' | '•' | '─' | '━' | '–' => text.push('-'),
            '…' => text.push('~'),
            '●' | '◆' | '■' => text.push('*'),
            '▶' | '→' | '≥' => text.push('>'),
            '←' => text.push('<'),
            '↓' | '▼' => text.push('v'),
            '↑' | '▲' => text.push('^'),
            '×' => text.push('x'),
            '✓' => text.push('+'),
            '✗' => text.push('!'),
            '‖' => text.push('|'),
            c if c.is_ascii() => text.push(c),
            _ => text.push('?'),
        }
    }
    text
}

/// A height or width that takes what is left.
pub const FILL: u16 = u16::MAX;

/// Cut an area into rows of the given heights; those that are [`FILL`] share what is left.
pub fn rows<const N: usize>(area: Rect, heights: [u16; N]) -> [Rect; N] {
    let fixed = heights.iter().filter(|&&height| height != FILL).fold(0u16, |sum, &h| sum.saturating_add(h));
    let open = u16::try_from(heights.iter().filter(|&&height| height == FILL).count()).unwrap_or(1).max(1);
    let rest = area.height.saturating_sub(fixed);
    let (mut y, mut opened) = (area.y, 0);
    heights.map(|height| {
        let height = if height == FILL {
            opened += 1;
            // The last takes what does not divide.
            if opened == open { rest - rest / open * (open - 1) } else { rest / open }
        } else {
            height
        };
        let height = height.min(area.bottom().saturating_sub(y));
        let row = Rect::new(area.x, y, area.width, height);
        y += height;
        row
    })
}

/// Cut an area into columns; as [`rows`].
pub fn columns<const N: usize>(area: Rect, widths: [u16; N]) -> [Rect; N] {
    let turned = Rect::new(area.y, area.x, area.height, area.width);
    rows(turned, widths).map(|r| Rect::new(r.y, r.x, r.height, r.width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_cut_without_a_gap_and_never_beyond() {
        let area = Rect::new(2, 3, 10, 11);
        let [a, b, c] = rows(area, [2, FILL, FILL]);
        assert_eq!((a.height, b.height, c.height, c.bottom()), (2, 4, 5, area.bottom()));
        let [a, b] = columns(area, [FILL, 4]);
        assert_eq!((a.width, b.width, b.right()), (6, 4, area.right()));
        let [a, b] = rows(Rect::new(0, 0, 4, 1), [3, FILL]);
        assert_eq!((a.height, b.height), (1, 0));
    }

    #[test]
    fn ascii_is_ascii() {
        assert_eq!(ascii("5.34 µs · ▶ … é"), "5.34 us - > ~ ?");
    }
}
