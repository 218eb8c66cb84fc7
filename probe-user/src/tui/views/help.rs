//! Help: the keys, from the table that makes them work, and the words.

use ratatui::layout::Rect;

use super::View;
use crate::tui::app::App;
use crate::tui::canvas::{Canvas, FILL, columns};
use crate::tui::key::KEYS;
use crate::tui::tone::Tone;
use crate::tui::widgets::facts;

pub(super) struct Help;

const WORDS: [(&str, &str); 8] = [
    ("dispatch", "every ioctl on /dev/iommu, by command; it contains the scan"),
    ("get_phys", "the page walk inside GET_PA: iopt_get_phys"),
    ("run", "the contiguous bytes that a call returned"),
    ("stop", "why a scan ended: at the length asked for (cap), before (short, area-end, break), or unmapped"),
    ("window", "all figures are of the time named at the top right, and equal `report` of it"),
    ("p99", "no call of 99 % took longer; at most 0.8 % above the true value (failed calls: 6.3 %)"),
    ("lost", "calls that began and were not measured: never hidden, by cause in Loss & cost"),
    ("dark", "our own heartbeat calls were not seen: what looks idle is a gap"),
];

impl View for Help {
    fn name(&self) -> &'static str {
        "Help"
    }

    fn is_timeless(&self) -> bool {
        true
    }

    fn draw(&self, app: &App, canvas: &mut Canvas<'_>, area: Rect) {
        let first = app.look().selected;
        draw(canvas, area, first);
    }
}

/// The keys from line `first` on, and the words beside or below.
pub(in crate::tui) fn draw(canvas: &mut Canvas<'_>, area: Rect, first: usize) {
    let wide = area.width >= 110;
    let [left, right] = columns(area, [FILL, if wide { area.width / 2 } else { 0 }]);
    let left = if wide { left } else { area };
    let lines = KEYS.iter().filter(|binding| {
        binding.shown != ">" && binding.shown != "." && binding.shown != "-" && binding.shown != "N"
    });
    let mut y = left.top();
    for binding in lines.skip(first) {
        if y >= left.bottom() {
            break;
        }
        canvas.put(left.x, y, 10, binding.shown, Tone::Accent);
        canvas.put(left.x + 10, y, left.width.saturating_sub(11), binding.help, Tone::Text);
        y += 1;
    }
    let mut words =
        if wide { right } else { Rect::new(area.x, y + 1, area.width, area.bottom().saturating_sub(y + 1)) };
    for (word, meaning) in WORDS {
        if words.height == 0 {
            return;
        }
        canvas.put(words.x, words.y, 10, word, Tone::Head);
        let text = Rect::new(words.x + 10, words.y, words.width.saturating_sub(11), words.height);
        let used = facts::wrapped(canvas, text, meaning, Tone::Dim).max(1).min(words.height);
        words = Rect::new(words.x, words.y + used, words.width, words.height - used);
    }
}
