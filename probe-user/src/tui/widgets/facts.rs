//! Names and values, one a line.

use probe_model::text::broken;
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

/// As many as fit; the names take `width` cells, and a value as many lines as it needs.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, width: u16, facts: &[Fact]) {
    let names = width.min(area.width / 2);
    let mut y = area.top();
    for fact in facts {
        if y >= area.bottom() {
            return;
        }
        canvas.put(area.x, y, names, &fact.name, Tone::Dim);
        let (left, room) = (area.x + names + 1, area.width.saturating_sub(names + 1));
        if fact.value.chars().count() <= usize::from(room) {
            canvas.put(left, y, room, &fact.value, fact.tone);
            y += 1;
        } else {
            let below = Rect::new(left, y, room, area.bottom() - y);
            y += wrapped(canvas, below, &fact.value, fact.tone).max(1);
        }
    }
}

/// Text over several lines, broken at spaces; how many lines it took.
pub fn wrapped(canvas: &mut Canvas<'_>, area: Rect, text: &str, tone: Tone) -> u16 {
    let mut used = 0;
    for (y, line) in (area.top()..area.bottom()).zip(broken(text, area.width.into())) {
        canvas.put(area.x, y, area.width, &line, tone);
        used += 1;
    }
    used
}
