//! Distributions in figures: the percentiles that every view shows, computed in one place.

use serde::Serialize;

use crate::clock;
use crate::histogram::{Histogram, Quantile};

/// A distribution in figures. A percentile is a bound, at most `relative_error` from the true value:
/// latencies are rounded up and lengths down, so neither flatters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Values.
    pub count: u64,
    /// Their sum, exact.
    pub sum: u64,
    /// The smallest, exact; `None` where it is not known.
    pub min: Option<u64>,
    /// The median.
    pub p50: Option<u64>,
    /// 90 %.
    pub p90: Option<u64>,
    /// 99 %.
    pub p99: Option<u64>,
    /// 99.9 %.
    pub p999: Option<u64>,
    /// The largest: exact where known, else its bucket's bound.
    pub max: Option<u64>,
    /// Values beyond the range of the buckets: a percentile among them is a lower bound.
    pub saturated: u64,
    /// How far a percentile may be off.
    pub relative_error: f64,
    /// Of latencies the least ns that the clock tells apart ([`crate::clock`]), 0 where it is not known and of
    /// lengths. A figure that is less is `None`, and less than this is all that is known of it.
    pub resolution: u64,
}

impl Figures {
    /// Percentiles of what should be small: upper bounds.
    pub fn of_latency(histogram: &Histogram) -> Self {
        Self::of(histogram, Quantile::upper)
    }

    /// Percentiles of what should be large: lower bounds, exact for whole pages up to 255 of them.
    pub fn of_length(histogram: &Histogram) -> Self {
        Self::of(histogram, Quantile::lower)
    }

    fn of(histogram: &Histogram, bound: fn(Quantile) -> Option<u64>) -> Self {
        let quantile = |q| bound(histogram.quantile(q));
        Self {
            count: histogram.count,
            sum: histogram.sum,
            min: histogram.min,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: bound(histogram.largest()),
            saturated: histogram.saturated,
            relative_error: histogram.relative_error(),
            resolution: 0,
        }
    }

    /// The same of a clock with a step of so many ns: what it does not tell from nothing is no figure.
    #[must_use]
    pub fn by_clock(mut self, step: u64) -> Self {
        self.resolution = step;
        let figures =
            [&mut self.min, &mut self.p50, &mut self.p90, &mut self.p99, &mut self.p999, &mut self.max];
        for figure in figures {
            *figure = figure.filter(|&nanos| nanos >= step);
        }
        self
    }

    /// A figure of these for people; one that the clock does not tell from nothing as less than its step. `None`
    /// where there is none.
    pub fn shown(&self, figure: Option<u64>, show: impl Fn(u64) -> String) -> Option<String> {
        let below = self.count > 0 && self.resolution > 0;
        figure.map(show).or_else(|| below.then(|| clock::below(self.resolution)))
    }
}

/// The scan lengths of a class in pages, both included; no end for the last class.
pub fn scan_lengths(class: u32) -> (u64, Option<u64>) {
    let last = u32::try_from(probe_common::wire::SCAN_CLASSES - 1).unwrap_or(u32::MAX);
    (1 << class.min(63), (class < last).then(|| (2 << class) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_below_the_clocks_step_is_none_and_shown_as_less() {
        let mut histogram = Histogram::new(probe_common::bucket::LATENCY);
        for nanos in [0, 0, 4_000_000] {
            histogram.record(nanos);
        }
        let figures = Figures::of_latency(&histogram).by_clock(4_000_000);
        assert_eq!((figures.min, figures.p50, figures.max), (None, None, Some(4_000_000)));
        let shown = [figures.p50, figures.max].map(|figure| figures.shown(figure, crate::unit::nanos));
        assert_eq!(shown, [Some("< 4 ms".to_owned()), Some("4.00 ms".to_owned())]);
        let empty = Figures::of_latency(&Histogram::new(probe_common::bucket::LATENCY)).by_clock(1);
        assert_eq!(empty.shown(empty.p50, crate::unit::nanos), None);
        let fine = Figures::of_latency(&histogram).by_clock(1);
        assert_eq!(fine.shown(fine.p50, crate::unit::nanos), Some("< 1 ns".to_owned()));
    }

    #[test]
    fn classes_border_on_each_other_and_the_last_has_no_end() {
        assert_eq!(scan_lengths(0), (1, Some(1)));
        assert_eq!(scan_lengths(9), (512, Some(1023)));
        assert_eq!(scan_lengths(15), (1 << 15, None));
        assert_eq!(scan_lengths(u32::MAX), (1 << 63, None));
    }
}
