//! Bars and filled charts in eighths of a cell.

use ratatui::layout::Rect;

use crate::tui::canvas::Canvas;
use crate::tui::tone::Tone;

const UP: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ALONG: [char; 9] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
const UP_ASCII: [char; 9] = [' ', '.', '.', ':', ':', '+', '+', '#', '#'];
const ALONG_ASCII: [char; 9] = [' ', ' ', ' ', '-', '-', '=', '=', '#', '#'];

/// A column for each value, `0..=1` of the height; `None` is a gap.
pub fn fill(canvas: &mut Canvas<'_>, area: Rect, values: &[Option<f64>], tone: Tone) {
    let style = canvas.looks.style(tone);
    let gap = canvas.looks.style(Tone::Line);
    let glyphs = if canvas.looks.ascii { UP_ASCII } else { UP };
    for (x, value) in (area.left()..area.right()).zip(values) {
        let Some(share) = value else {
            canvas.cell(x, area.bottom().saturating_sub(1), if canvas.looks.ascii { '.' } else { '·' }, gap);
            continue;
        };
        let mut eighths = eighths(*share, area.height);
        // What is not nothing shows.
        if eighths == 0 && *share > 0.0 {
            eighths = 1;
        }
        for y in (area.top()..area.bottom()).rev() {
            let here = eighths.min(8);
            if here == 0 {
                break;
            }
            canvas.cell(x, y, glyphs[here], style);
            eighths -= here;
        }
    }
}

/// A dot for each value, `0..=1` of the height.
pub fn dots(canvas: &mut Canvas<'_>, area: Rect, values: &[Option<f64>], glyph: char, tone: Tone) {
    let style = canvas.looks.style(tone);
    let glyph = match (canvas.looks.ascii, glyph) {
        (false, glyph) => glyph,
        (true, '▲') => '^',
        (true, '✗') => '!',
        (true, _) => '*',
    };
    for (x, value) in (area.left()..area.right()).zip(values) {
        if let Some(share) = value {
            let up = u16::try_from(eighths(*share, area.height) / 8)
                .unwrap_or(0)
                .min(area.height.saturating_sub(1));
            canvas.cell(x, area.bottom().saturating_sub(1 + up), glyph, style);
        }
    }
}

/// A bar along a row, `0..=1` of the width.
pub fn bar(canvas: &mut Canvas<'_>, x: u16, y: u16, width: u16, share: f64, tone: Tone) {
    let style = canvas.looks.style(tone);
    let glyphs = if canvas.looks.ascii { ALONG_ASCII } else { ALONG };
    let mut left = eighths(share, width);
    if left == 0 && share > 0.0 {
        left = 1;
    }
    for x in x..x.saturating_add(width) {
        let here = left.min(8);
        if here == 0 {
            break;
        }
        canvas.cell(x, y, if canvas.looks.ascii && here < 3 { '.' } else { glyphs[here] }, style);
        left -= here;
    }
}

fn eighths(share: f64, cells: u16) -> usize {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a few cells")]
    let eighths = (share.clamp(0.0, 1.0) * f64::from(cells) * 8.0).round() as usize;
    eighths
}

/// Values as shares of the largest.
pub fn shares(values: &[Option<f64>]) -> (Vec<Option<f64>>, f64) {
    let most = values.iter().flatten().copied().fold(0.0, f64::max);
    let share = |value: &Option<f64>| value.map(|value| if most > 0.0 { value / most } else { 0.0 });
    (values.iter().map(share).collect(), most)
}

/// Values as shares of a logarithmic axis.
pub fn log_shares(values: &[Option<f64>], low: f64, high: f64) -> Vec<Option<f64>> {
    let (low, high) = (low.max(1.0).ln(), high.max(2.0).ln());
    let share = |value: f64| ((value.max(1.0).ln() - low) / (high - low).max(1e-9)).clamp(0.0, 1.0);
    values.iter().map(|value| value.map(share)).collect()
}
