//! Plots as SVG, for exports and for reports: text in, no file, no script, nothing fetched.
//!
//! Colours come from classes, so one style sheet ([`STYLE`]) serves light, dark and print. A plot says its
//! own title, axes and units, and has a text for who cannot see it.

mod bars;
mod heatmap;
mod percentiles;

pub use bars::{Bar, bars};
pub use heatmap::{Column, heatmap};
pub use percentiles::{Line, percentiles};

use std::fmt::{Display, Write as _};

use probe_model::clock;
use probe_model::series::Unit;

/// The style of every plot; a document has it once, a file of its own too.
pub const STYLE: &str = "\
.plot{font:12px system-ui,sans-serif;max-width:100%;height:auto}\
.plot text{fill:var(--ink,#1b1f24)}.plot .quiet{fill:var(--quiet,#57606a)}\
.plot .grid{stroke:var(--grid,#d0d7de);stroke-width:1}\
.plot .paper{fill:var(--paper,#fff)}\
.plot .line{fill:none;stroke-width:2;stroke-linejoin:round}\
.plot .c0{stroke:#0072b2}.plot .c1{stroke:#d55e00}.plot .c2{stroke:#009e73}.plot .c3{stroke:#cc79a7}\
.plot .c4{stroke:#e69f00}.plot .c5{stroke:#56b4e9}.plot .f0{fill:#0072b2}.plot .f1{fill:#d55e00}\
.plot .f2{fill:#009e73}.plot .f3{fill:#cc79a7}.plot .f4{fill:#e69f00}.plot .f5{fill:#56b4e9}\
.plot .heat{fill:var(--heat,#0072b2)}.plot .idle{fill:var(--grid,#d0d7de)}.plot .dark{fill:#d55e00}\
@media (prefers-color-scheme:dark){.plot{--ink:#e6edf3;--quiet:#9da7b3;--grid:#30363d;--paper:#0d1117;--heat:#56b4e9}}\
@media print{.plot{--ink:#000;--quiet:#333;--grid:#bbb;--paper:#fff;--heat:#0072b2}}";

/// Colours there are.
const COLOURS: usize = 6;

/// Width of a plot in its own units; a page scales it.
const WIDTH: f64 = 720.0;
/// Room beside the plotted area.
const LEFT: f64 = 72.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 44.0;

/// What is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Values {
    unit: Unit,
    /// The least that is told apart from nothing; what is less is drawn there.
    least: u64,
}

impl Values {
    /// Latencies by a clock with a step of so many ns.
    pub fn latencies(step: u64) -> Self {
        Self { unit: Unit::Nanos, least: step }
    }

    /// Lengths.
    pub fn lengths() -> Self {
        Self { unit: Unit::Bytes, least: 0 }
    }

    fn show(self, value: u64) -> String {
        match self.unit {
            Unit::Nanos => clock::shown(value, self.least),
            Unit::Bytes => self.unit.show(value),
        }
    }

    /// Where a value is drawn.
    fn place(self, value: u64) -> u64 {
        value.max(self.least)
    }
}

/// A drawing that is being made.
struct Drawing {
    svg: String,
    height: f64,
}

impl Drawing {
    /// With `title`, and `summary` for who cannot see it.
    fn new(height: f64, title: &str, summary: &str) -> Self {
        let mut svg = String::new();
        let (title, summary) = (escaped(title), escaped(summary));
        // Writing to a string does not fail.
        let _ = write!(
            svg,
            "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"{title}. {summary}\"><rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\
             <text x=\"8\" y=\"16\" font-weight=\"600\">{title}</text>"
        );
        Self { svg, height }
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, class: &str, text: impl Display) {
        let text = escaped(&text.to_string());
        let _ = write!(
            self.svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>"
        );
    }

    fn rule(&mut self, x1: f64, y1: f64, x2: f64, y2: f64) {
        let _ = write!(self.svg, "<path class=\"grid\" d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\"/>");
    }

    /// `note` is shown when it is pointed at.
    #[allow(clippy::too_many_arguments, reason = "a rectangle has as many")]
    fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str, opacity: f64, note: &str) {
        let note = escaped(note);
        let _ = write!(
            self.svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.2}\" height=\"{height:.2}\" class=\"{class}\" \
             fill-opacity=\"{opacity:.2}\"><title>{note}</title></rect>"
        );
    }

    fn path(&mut self, points: &[(f64, f64)], colour: usize) {
        let mut path = String::new();
        for (number, (x, y)) in points.iter().enumerate() {
            let _ = write!(path, "{}{x:.1} {y:.1}", if number == 0 { 'M' } else { 'L' });
        }
        let _ = write!(self.svg, "<path class=\"line c{}\" d=\"{path}\"/>", colour % COLOURS);
    }

    /// Lines and labels of a scale of values, upwards.
    fn value_axis(&mut self, scale: &Scale, unit: Unit) {
        for mark in scale.marks() {
            let y = self.y(scale, mark);
            self.rule(LEFT, y, WIDTH - RIGHT, y);
            self.text(LEFT - 6.0, y + 4.0, "end", "quiet", unit.show(mark));
        }
    }

    fn y(&self, scale: &Scale, value: u64) -> f64 {
        let bottom = self.height - BOTTOM;
        bottom - scale.share(value) * (bottom - TOP)
    }

    fn end(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }
}

/// A logarithmic scale of whole values.
struct Scale {
    /// Between two marks: 10, or 16 where powers of two are usual.
    base: f64,
    /// Ends, as exponents of the base.
    low: f64,
    high: f64,
}

impl Scale {
    /// One that holds these values, from a mark below to a mark above; 0 is at its lower end.
    fn over(unit: Unit, values: impl Iterator<Item = u64>) -> Self {
        let base = match unit {
            Unit::Nanos => 10.0f64,
            Unit::Bytes => 16.0,
        };
        let exponents: Vec<f64> = values.map(|value| (value.max(1) as f64).log(base)).collect();
        let low = exponents.iter().copied().fold(f64::INFINITY, f64::min);
        let high = exponents.iter().copied().fold(0.0, f64::max);
        let low = if low.is_finite() { low.floor() } else { 0.0 };
        Self { base, low, high: high.ceil().max(low + 1.0) }
    }

    /// Where a value lies, 0 to 1.
    fn share(&self, value: u64) -> f64 {
        (((value.max(1) as f64).log(self.base) - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// The powers of the base.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and not negative")]
    fn marks(&self) -> Vec<u64> {
        let (low, high) = (self.low as u32, self.high as u32);
        (low..=high).filter_map(|power| (self.base as u64).checked_pow(power)).collect()
    }
}

/// What XML gives a meaning to, escaped.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A plot as a file of its own.
pub fn standalone(plot: &str) -> String {
    plot.replacen("role=\"img\"", "role=\"img\" width=\"720\"", 1).replacen(
        "><rect",
        &format!("><style>{STYLE}</style><rect"),
        1,
    )
}
