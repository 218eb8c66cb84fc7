//! Help: the keys, from the table that makes them work, and the words.

use probe_model::text;
use ratatui::layout::Rect;

use super::View;
use crate::tui::app::App;
use crate::tui::canvas::{Canvas, FILL, columns};
use crate::tui::key::KEYS;
use crate::tui::tone::Tone;

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

/// Cells of the names.
const NAMES: u16 = 10;

/// A line of it.
enum Line {
    Key(&'static str, String),
    Word(&'static str, String),
    Gap,
}

/// The keys, and the words beside them where there is room, else below.
fn lines(area: Rect) -> (Vec<Line>, Vec<Line>, [Rect; 2]) {
    let wide = area.width >= 110;
    let [left, right] = if wide { columns(area, [FILL, FILL]) } else { [area, Rect { width: 0, ..area }] };
    let keys = KEYS.iter().filter(|binding| ![">", ".", "-", "N"].contains(&binding.shown));
    let room = |area: Rect| usize::from(area.width.saturating_sub(NAMES + 1));
    let broken = |name, text, room, line: fn(&'static str, String) -> Line| {
        let parts = text::broken(text, room).into_iter().enumerate();
        parts.map(move |(place, text)| line(if place == 0 { name } else { "" }, text)).collect::<Vec<_>>()
    };
    let mut keys: Vec<_> = keys.flat_map(|key| broken(key.shown, key.help, room(left), Line::Key)).collect();
    let beside = if wide { right } else { left };
    let words = WORDS.iter().flat_map(|(word, text)| broken(word, text, room(beside), Line::Word));
    if wide {
        return (keys, words.collect(), [left, right]);
    }
    keys.push(Line::Gap);
    keys.extend(words);
    (keys, Vec::new(), [left, right])
}

/// Lines that do not fit.
pub(super) fn beyond(area: Rect) -> usize {
    let (left, right, _) = lines(area);
    left.len().max(right.len()).saturating_sub(area.height.into())
}

/// From line `first` on.
pub(in crate::tui) fn draw(canvas: &mut Canvas<'_>, area: Rect, first: usize) {
    let first = first.min(beyond(area));
    let (left, right, areas) = lines(area);
    for (area, lines) in areas.into_iter().zip([left, right]) {
        let below = lines.len().saturating_sub(first + usize::from(area.height));
        for (y, line) in (area.top()..area.bottom()).zip(lines.into_iter().skip(first)) {
            if below > 0 && y + 1 == area.bottom() {
                canvas.put(area.x, y, area.width, &format!("↓ {} lines more", below + 1), Tone::Dim);
                break;
            }
            let text = area.width.saturating_sub(NAMES + 1);
            match line {
                Line::Key(name, what) => {
                    canvas.put(area.x, y, NAMES, name, Tone::Accent);
                    canvas.put(area.x + NAMES, y, text, &what, Tone::Text);
                }
                Line::Word(name, what) => {
                    canvas.put(area.x, y, NAMES, name, Tone::Head);
                    canvas.put(area.x + NAMES, y, text, &what, Tone::Dim);
                }
                Line::Gap => {}
            }
        }
    }
}
