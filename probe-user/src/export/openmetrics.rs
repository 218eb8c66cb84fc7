//! Metrics as text: OpenMetrics 1.0, and the older Prometheus format 0.0.4, which differs in few lines.

use std::fmt::Write as _;
use std::io::{self, Write};

use probe_model::metric::{self, Family, Kind, Point, Value};
use probe_model::origin::Recording;
use probe_model::sample::Sample;
use probe_model::series::Unit;

use super::{Export, Options};

/// The two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `application/openmetrics-text; version=1.0.0`
    OpenMetrics,
    /// `text/plain; version=0.0.4`
    Prometheus,
}

pub(super) fn make(options: &Options) -> Box<dyn Export> {
    Box::new(Text { processes: options.processes })
}

struct Text {
    processes: usize,
}

impl Export for Text {
    fn end(&mut self, whole: &Recording, out: &mut dyn Write) -> io::Result<()> {
        let sample = Sample { at: whole.window.to, counters: whole.window.counters.clone() };
        let families = metric::families(&whole.header, &sample, self.processes);
        out.write_all(text(&families, Dialect::OpenMetrics).as_bytes())
    }
}

/// Writing to a string does not fail.
macro_rules! line {
    ($text:expr, $($part:tt)*) => {{ let _ = writeln!($text, $($part)*); }};
}

/// The exposition of `families`.
pub fn text(families: &[Family], dialect: Dialect) -> String {
    let mut text = String::new();
    for Family { metric, points } in families {
        let (kind, total) = match metric.kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
            Kind::Histogram => ("histogram", ""),
        };
        // OpenMetrics names the family, Prometheus the sample.
        let named = if dialect == Dialect::Prometheus { total } else { "" };
        line!(text, "# HELP {}{named} {}", metric.name, metric.help);
        line!(text, "# TYPE {}{named} {kind}", metric.name);
        if dialect == Dialect::OpenMetrics {
            let unit =
                ["seconds", "bytes"].into_iter().find(|unit| metric.name.ends_with(&format!("_{unit}")));
            if let Some(unit) = unit {
                line!(text, "# UNIT {} {unit}", metric.name);
            }
        }
        for point in points {
            match (&point.value, point.value.number()) {
                (Value::Distribution(unit, histogram), _) => {
                    distribution(&mut text, metric.name, point, *unit, histogram);
                }
                (_, Some(number)) => line!(text, "{}{total}{} {number}", metric.name, labels(point, None)),
                (_, None) => {}
            }
        }
    }
    if dialect == Dialect::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn distribution(
    text: &mut String,
    name: &str,
    point: &Point,
    unit: Unit,
    histogram: &probe_model::histogram::Histogram,
) {
    let base = scale(unit);
    let counted = metric::cumulative(histogram, metric::bounds(unit));
    for (bound, count) in metric::bounds(unit).zip(counted) {
        let bound = (bound as f64 / base).to_string();
        line!(text, "{name}_bucket{} {count}", labels(point, Some(&bound)));
    }
    line!(text, "{name}_bucket{} {}", labels(point, Some("+Inf")), histogram.count);
    line!(text, "{name}_sum{} {}", labels(point, None), histogram.sum as f64 / base);
    line!(text, "{name}_count{} {}", labels(point, None), histogram.count);
}

/// How many of a unit make the base unit of metrics.
pub fn scale(unit: Unit) -> f64 {
    match unit {
        Unit::Nanos => 1e9,
        Unit::Bytes => 1.0,
    }
}

fn labels(point: &Point, bound: Option<&str>) -> String {
    let own = point.labels.iter().map(|(name, value)| (*name, value.as_str()));
    let all: Vec<_> = own
        .chain(bound.map(|bound| ("le", bound)))
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}

/// What label values give a meaning to.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
