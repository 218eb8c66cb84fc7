//! Values by percentile, the tail drawn as wide as the rest: the plot that HdrHistogram's tools draw.

use probe_model::series::Unit;

use super::{BOTTOM, Drawing, LEFT, RIGHT, Scale, TOP, Values, WIDTH};
use probe_model::histogram::Histogram;

/// A distribution to draw.
pub struct Line<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its values.
    pub histogram: &'a Histogram,
}

/// Shares that are marked, as they are called.
const MARKS: [(f64, &str); 7] = [
    (0.0, "0 %"),
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
    (0.99999, "99.999 %"),
];

/// Draw distributions of one unit; empty ones are left out.
pub fn percentiles(title: &str, values: Values, lines: &[Line<'_>]) -> String {
    let unit = values.unit;
    let lines: Vec<_> = lines.iter().filter(|line| !line.histogram.is_empty()).collect();
    let most = lines.iter().map(|line| line.histogram.count).max().unwrap_or(1);
    // Beyond one value in all there is nothing to see.
    let end = (1.0 + (most as f64).log10()).clamp(1.0, 5.3);
    let legend = 18.0 * lines.len() as f64;
    let summary: Vec<_> = lines
        .iter()
        .map(|line| {
            let figures = unit.figures(line.histogram);
            let show =
                |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), |value| values.show(value));
            format!("{}: median {}, 99 % {}", line.name, show(figures.p50), show(figures.p99))
        })
        .collect();
    let mut drawing = Drawing::new(308.0 + legend, title, &summary.join("; "));
    let value = |line: &Line<'_>, q: f64| values.place(bound(unit, line.histogram, q));
    let extremes = lines.iter().flat_map(|line| [0.0, 1.0].map(|q| value(line, q)));
    let scale = Scale::over(unit, extremes);
    let floor = 300.0 - BOTTOM;
    let x = |nines: f64| LEFT + nines / end * (WIDTH - LEFT - RIGHT);
    let y = |value: u64| floor - scale.share(value) * (floor - TOP);
    for mark in scale.marks() {
        drawing.rule(LEFT, y(mark), WIDTH - RIGHT, y(mark));
        drawing.text(LEFT - 6.0, y(mark) + 4.0, "end", "quiet", unit.show(mark));
    }
    for (share, name) in MARKS {
        let at = -(1.0f64 - share).log10();
        if at <= end {
            drawing.rule(x(at), TOP, x(at), floor);
            drawing.text(x(at), floor + 16.0, "middle", "quiet", name);
        }
    }
    drawing.text(
        (LEFT + WIDTH - RIGHT) / 2.0,
        floor + 34.0,
        "middle",
        "quiet",
        "calls that took at most this",
    );
    for (number, line) in lines.iter().enumerate() {
        let own = (line.histogram.count as f64).log10().min(end);
        let steps = 160;
        let points: Vec<_> = (0..=steps)
            .map(|step| {
                let nines = own * f64::from(step) / f64::from(steps);
                (x(nines), y(value(line, 1.0 - 10f64.powf(-nines))))
            })
            .chain([(x(own), y(value(line, 1.0)))])
            .collect();
        drawing.path(&points, number);
        let place = 308.0 + 18.0 * number as f64;
        drawing.path(&[(LEFT, place), (LEFT + 24.0, place)], number);
        drawing.text(LEFT + 32.0, place + 4.0, "start", "", &summary[number]);
    }
    drawing.end()
}

fn bound(unit: Unit, histogram: &Histogram, q: f64) -> u64 {
    let quantile = histogram.quantile(q);
    let bound = match unit {
        Unit::Nanos => quantile.upper(),
        Unit::Bytes => quantile.lower(),
    };
    bound.unwrap_or(0)
}
