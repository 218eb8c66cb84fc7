//! Names and values, one a line.

use ratatui::layout::Rect;

use crate::tui::canvas::Canvas;
use crate::tui::tone::Tone;

/// One line.
pub struct Fact {
    pub name: String,
    pub value: String,
    pub tone: Tone,
}

impl Fact {
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), tone: Tone::Text }
    }

    pub fn toned(name: impl Into<String>, value: impl Into<String>, tone: Tone) -> Self {
        Self { name: name.into(), value: value.into(), tone }
    }
}

/// As many as fit; the names take `width` cells.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, width: u16, facts: &[Fact]) {
    let names = width.min(area.width / 2);
    for (y, fact) in (area.top()..area.bottom()).zip(facts) {
        canvas.put(area.x, y, names, &fact.name, Tone::Dim);
        canvas.put(area.x + names + 1, y, area.width.saturating_sub(names + 1), &fact.value, fact.tone);
    }
}

/// Text over several lines, broken at spaces; how many lines it took.
pub fn wrapped(canvas: &mut Canvas<'_>, area: Rect, text: &str, tone: Tone) -> u16 {
    let mut line = String::new();
    let mut y = area.top();
    let width = usize::from(area.width);
    for word in text.split_whitespace() {
        let longer = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && longer > width {
            if y >= area.bottom() {
                return y - area.top();
            }
            canvas.put(area.x, y, area.width, &line, tone);
            y += 1;
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() && y < area.bottom() {
        canvas.put(area.x, y, area.width, &line, tone);
        y += 1;
    }
    y - area.top()
}
