//! The cost in words: the same in every report and view.

use std::fmt;

use super::{Estimate, Linearity, ScanCost};
use crate::unit;

/// What the mean over pages is called.
pub const MEAN: &str = "time per page (mean, fixed cost shared out)";

impl Estimate {
    /// Value and margin in one unit, and the unit; the value no finer than its margin.
    fn figures(&self) -> (String, String, &'static str) {
        let largest = self.nanos.abs().max(self.margin);
        let (each, unit) = match largest {
            ..1e3 => (1.0, "ns"),
            ..1e6 => (1e3, "µs"),
            ..1e9 => (1e6, "ms"),
            _ => (1e9, "s"),
        };
        let (value, margin) = (self.nanos / each, self.margin / each);
        let decimals = match margin {
            10.0.. => 0,
            0.995.. => 1,
            0.0995.. => 2,
            _ => 3,
        };
        (format!("{value:.decimals$}"), format!("{margin:.decimals$}"), unit)
    }
}

impl fmt::Display for Estimate {
    /// `141.0 ± 0.5 ns`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, margin, unit) = self.figures();
        write!(f, "{value} ± {margin} {unit}")
    }
}

/// A length in pages, for people.
fn pages(pages: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "pages, at least one")]
    let whole = pages.round().max(1.0) as u64;
    unit::count(whole)
}

fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    match percent {
        ..9.95 => format!("{percent:.1} %"),
        ..200.0 => format!("{percent:.0} %"),
        _ => format!("{share:.0} times"),
    }
}

impl ScanCost {
    /// Both parts: `538 ± 5 ns + 141.0 ± 0.9 ns a page`; `None` where they describe no scan.
    pub fn formula(&self) -> Option<String> {
        self.parts().map(|(fixed, further)| format!("{fixed} + {further} a page"))
    }

    /// What is known of it, in one sentence without an end.
    pub fn known(&self) -> String {
        let (shortest, longest) = (self.lengths.first(), self.lengths.last());
        let ends = || match (shortest, longest) {
            (Some(short), Some(long)) => format!(
                "{} took {}, {} took {}",
                counted(short.pages),
                median(short.nanos, short.nanos_margin),
                counted(long.pages),
                median(long.nanos, long.nanos_margin)
            ),
            _ => String::new(),
        };
        match self.linearity {
            Linearity::TooFew => "not known: fewer than 3 scans of any length".to_owned(),
            Linearity::OneLength { pages, cost } if self.are_spread() => format!(
                "lengths that cannot be told apart: scans of about {} took {cost}; the cost of a page \
                 is not known",
                counted(pages)
            ),
            Linearity::OneLength { pages, cost } => {
                format!(
                    "scans of one length only: {} took {cost}; the cost of a page is not known",
                    counted(pages)
                )
            }
            Linearity::TwoLengthsOnly { from, to } => format!(
                "fits both lengths, {} and {} pages; linearity between them not tested",
                pages(from),
                pages(to)
            ),
            Linearity::Scattered { from, to, lengths } => format!(
                "fits {lengths} lengths from {} to {} pages; latencies scatter too much to test linearity",
                pages(from),
                pages(to)
            ),
            Linearity::Linear { from, to, lengths, within } => format!(
                "linear within {} at {lengths} lengths from {} to {} pages",
                percent(within),
                pages(from),
                pages(to)
            ),
            Linearity::NotLinear { from, to, lengths, off: Some(off) } => format!(
                "not linear at {lengths} lengths from {} to {} pages: a line is off by up to {}; {}",
                pages(from),
                pages(to),
                percent(off),
                ends()
            ),
            Linearity::NotLinear { from, to, off: None, .. } => format!(
                "not linear: the line from {} to {} pages has a fixed cost below zero; {}",
                pages(from),
                pages(to),
                ends()
            ),
            Linearity::DoesNotGrow { slope, .. } if slope.nanos + slope.margin > 0.0 => {
                let most = Estimate { nanos: slope.nanos + slope.margin, margin: slope.margin };
                let (most, _, unit) = most.figures();
                format!("is not seen to grow with pages here, by {most} {unit} a page at most: {}", ends())
            }
            Linearity::DoesNotGrow { .. } => format!("does not grow with pages here: {}", ends()),
        }
    }

    /// One point stands for lengths that differ.
    fn are_spread(&self) -> bool {
        self.lengths.iter().any(|point| point.mixed)
    }

    /// Both in one line.
    pub fn sentence(&self) -> String {
        match self.formula() {
            Some(formula) => format!("{formula}: {}", self.known()),
            None => self.known(),
        }
    }
}

fn counted(length: f64) -> String {
    let count = pages(length);
    if count == "1" { "1 page".to_owned() } else { format!("{count} pages") }
}

fn median(nanos: f64, margin: f64) -> Estimate {
    Estimate { nanos, margin }
}
