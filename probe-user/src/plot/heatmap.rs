//! Values over time: a column a span of time, a row a part of the scale, darker where more calls were.

use probe_model::histogram::Histogram;
use probe_model::unit;

use super::{BOTTOM, Drawing, LEFT, RIGHT, Scale, TOP, Values, WIDTH};

/// A span of time.
#[derive(Debug, Clone)]
pub struct Column {
    /// Where it begins, ns since the recording began.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
    /// What was counted in it.
    pub histogram: Histogram,
    /// The probes were dead in it: calls may have been made that nobody counted.
    pub dark: bool,
}

impl Column {
    /// Nothing was counted in it.
    pub fn is_idle(&self) -> bool {
        self.histogram.is_empty() && self.histogram.saturated == 0
    }
}

/// Rows of a power of ten.
const ROWS: usize = 8;
/// Height of the strip at the foot that tells idle time from time that is not in the recording.
const STRIP: f64 = 3.0;
const HEIGHT: f64 = 300.0;

/// Draw values over time. Every column has its place, one without calls too: it is a thin line at the foot.
pub fn heatmap(title: &str, values: Values, columns: &[Column]) -> String {
    let ends = |column: &Column| [column.histogram.quantile(0.0), column.histogram.quantile(1.0)];
    let bounds = columns.iter().flat_map(ends).flat_map(|end| [end.lower(), end.upper()]).flatten();
    let scale = Scale::over(values.unit, bounds.map(|bound| values.place(bound)));
    let calls: u64 = columns.iter().map(|column| column.histogram.count).sum();
    let from = columns.first().map_or(0, |column| column.from);
    let to = columns.last().map_or(1, |column| column.to).max(from + 1);
    let summary = format!("{} calls over {}", unit::count(calls), unit::nanos(to - from));
    let mut drawing = Drawing::new(HEIGHT, title, &summary);
    let x = |at: u64| LEFT + (at - from) as f64 / (to - from) as f64 * (WIDTH - LEFT - RIGHT);
    let floor = HEIGHT - BOTTOM;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 20 powers of ten")]
    let rows = ROWS * (scale.high - scale.low) as usize;
    let height = (floor - TOP) / rows as f64;
    let heat: Vec<Vec<u64>> = columns.iter().map(|column| cells(column, values, &scale, rows)).collect();
    let most = heat.iter().flatten().copied().max().unwrap_or(1).max(1);
    drawing.value_axis(&scale, values.unit);
    for (column, cells) in columns.iter().zip(&heat) {
        let (left, right) = (x(column.from), x(column.to.max(column.from)));
        let span = format!("from {} to {}", unit::nanos(column.from), unit::nanos(column.to));
        for (row, &count) in cells.iter().enumerate().filter(|&(_, &count)| count > 0) {
            // By the logarithm: one slow call among thousands must be seen.
            let shade = 0.12 + 0.88 * (count as f64).ln_1p() / (most as f64).ln_1p();
            let top = floor - (row + 1) as f64 * height;
            let note = format!("{} calls {span}", unit::count(count));
            drawing.rect(left, top, (right - left).max(0.5) + 0.3, height, "heat", shade, &note);
        }
    }
    let alike = |a: &Column, b: &Column| (a.dark, a.is_idle()) == (b.dark, b.is_idle());
    for stretch in columns.chunk_by(alike) {
        let (first, last) = (&stretch[0], &stretch[stretch.len() - 1]);
        let (class, what) = match (first.dark, first.is_idle()) {
            (true, _) => ("dark", "the probes were dead in the time"),
            (false, true) => ("idle", "no successful call"),
            (false, false) => continue,
        };
        let note = format!("{what} from {} to {}", unit::nanos(first.from), unit::nanos(last.to));
        drawing.rect(x(first.from), floor, x(last.to) - x(first.from), STRIP, class, 1.0, &note);
    }
    for quarter in 0..=4u64 {
        let at = from + (to - from) / 4 * quarter;
        let anchor = ["start", "middle", "middle", "middle", "end"][usize::try_from(quarter).unwrap_or(0)];
        drawing.text(x(at), floor + 16.0, anchor, "quiet", unit::nanos(at));
    }
    drawing.text(
        (LEFT + WIDTH - RIGHT) / 2.0,
        floor + 34.0,
        "middle",
        "quiet",
        "time since the recording began",
    );
    drawing.end()
}

/// Calls by row of the scale.
fn cells(column: &Column, values: Values, scale: &Scale, rows: usize) -> Vec<u64> {
    let mut cells = vec![0; rows];
    let scheme = column.histogram.scheme();
    let mut add = |value: u64, count: u64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of few rows")]
        let row = ((scale.share(values.place(value)) * rows as f64) as usize).min(rows.saturating_sub(1));
        if let Some(cell) = cells.get_mut(row) {
            *cell += count;
        }
    };
    for (&index, &count) in &column.histogram.buckets {
        add(scheme.lowest(index as usize), count);
    }
    if column.histogram.saturated > 0 {
        add(u64::MAX, column.histogram.saturated);
    }
    cells
}
