//! One line a category: from the median to the 99th percentile, with the number of calls beside it.

use probe_model::histogram::Histogram;
use probe_model::unit;

use super::{Drawing, LEFT, RIGHT, Scale, TOP, Values, WIDTH};

/// A category.
pub struct Bar<'a> {
    /// Its name.
    pub name: String,
    /// Its values.
    pub histogram: &'a Histogram,
}

const LINE: f64 = 26.0;
/// Room for the names.
const NAMES: f64 = 170.0;
/// Room for the counts.
const COUNTS: f64 = 90.0;

/// Draw distributions beneath each other on one scale.
pub fn bars(title: &str, values: Values, bars: &[Bar<'_>]) -> String {
    let height = TOP + LINE * bars.len() as f64 + 44.0;
    let ends = |bar: &Bar<'_>| [bar.histogram.quantile(0.01), bar.histogram.quantile(1.0)];
    let unit = values.unit;
    let bounds = bars.iter().flat_map(ends).flat_map(|end| [end.lower(), end.upper()]).flatten();
    let scale = Scale::over(unit, bounds.map(|bound| values.place(bound)));
    let mut drawing = Drawing::new(height, title, "from the median to 99 %, a tick at the largest");
    let (left, right) = (LEFT.max(NAMES), WIDTH - RIGHT - COUNTS);
    let x = |value: u64| left + scale.share(values.place(value)) * (right - left);
    let floor = TOP + LINE * bars.len() as f64;
    for mark in scale.marks() {
        drawing.rule(x(mark), TOP, x(mark), floor);
        drawing.text(x(mark), floor + 16.0, "middle", "quiet", unit.show(mark));
    }
    for (number, bar) in bars.iter().enumerate() {
        let top = TOP + LINE * number as f64;
        let figures = unit.figures(bar.histogram);
        let (p50, p99, max) = (figures.p50.unwrap_or(0), figures.p99.unwrap_or(0), figures.max.unwrap_or(0));
        let note = format!(
            "{}: median {}, 99 % {}, largest {}",
            bar.name,
            values.show(p50),
            values.show(p99),
            values.show(max)
        );
        drawing.text(left - 8.0, top + 17.0, "end", "", &bar.name);
        drawing.rect(x(p50), top + 5.0, (x(p99) - x(p50)).max(3.0), LINE - 10.0, "f0", 0.85, &note);
        drawing.rect(x(max), top + 3.0, 2.0, LINE - 6.0, "f1", 1.0, &note);
        drawing.text(right + 8.0, top + 17.0, "start", "quiet", unit::count(figures.count));
    }
    drawing.text(
        f64::midpoint(left, right),
        floor + 34.0,
        "middle",
        "quiet",
        "median to 99 %; the tick is the largest",
    );
    drawing.end()
}
