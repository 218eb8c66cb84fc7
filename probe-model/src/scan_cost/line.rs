//! The line through the medians: weighted least squares, and how far it holds.
//!
//! A point weighs by its uncertainty. Where the points are farther from the line than their uncertainties
//! explain, all of them are given a further one, the same share of each median, until it does: then no point
//! rules because it happens to be well known, and both parts of the cost are as uncertain as the misfit says.

use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::points::{ENOUGH, Point};
use super::{Estimate, Linearity, SURE, ScanCost};

/// Beyond this share of the line, and beyond chance, a median says that the line does not hold.
const BENT: f64 = 0.1;
/// A median that is this well known, as a share of it, can tell a line from a curve.
const SHARP: f64 = 0.25;
/// Chance of a misfit that is called one.
const CHANCE: f64 = 0.01;
/// Halvings of the misfit's bounds.
const STEPS: usize = 40;

/// A line and the variances of its parts.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    fixed: f64,
    further: f64,
    of_fixed: f64,
    of_further: f64,
    /// Sum of the squared distances, each in standard deviations.
    distance: f64,
}

impl Line {
    fn fixed(&self) -> Estimate {
        Estimate { nanos: self.fixed, margin: SURE * self.of_fixed.sqrt() }
    }

    fn further(&self) -> Estimate {
        Estimate { nanos: self.further, margin: SURE * self.of_further.sqrt() }
    }
}

/// Fit what can be fitted to points in ascending order of length.
pub(super) fn fit(mut lengths: Vec<Point>) -> ScanCost {
    // Those with few scans only where there would be no line without them.
    if different(lengths.iter().filter(|point| point.scans >= ENOUGH)) >= 2 {
        lengths.retain(|point| point.scans >= ENOUGH);
    }
    let none = |linearity, lengths| ScanCost { fixed: None, further_page: None, linearity, lengths };
    let Some(first) = lengths.first() else {
        return none(Linearity::TooFew, lengths);
    };
    if different(&lengths) < 2 {
        let best = lengths.iter().max_by_key(|point| point.scans).unwrap_or(first);
        let cost = Estimate { nanos: best.nanos, margin: best.nanos_margin };
        return none(Linearity::OneLength { pages: best.pages, cost }, lengths);
    }
    let exact = solve(&lengths, 0.0);
    let free = lengths.len() - 2;
    let line = if free > 0 && exact.distance > free as f64 { settle(&lengths, free as f64) } else { exact };
    let linearity = judge(&lengths, line, exact);
    let describes = !matches!(linearity, Linearity::NotLinear { .. } | Linearity::DoesNotGrow { .. });
    let (fixed, further_page) = (line.fixed(), line.further());
    ScanCost {
        fixed: describes.then_some(fixed),
        further_page: describes.then_some(further_page),
        linearity,
        lengths,
    }
}

/// Lengths that differ by more than their margins and a tenth: nearer ones say nothing of a slope, and no
/// third one of linearity.
fn different<'a>(lengths: impl IntoIterator<Item = &'a Point>) -> usize {
    let mut end = -1.0;
    lengths.into_iter().fold(0, |count, point| {
        if point.pages - point.pages_margin <= end {
            return count;
        }
        end = (point.pages + point.pages_margin).max(1.1 * point.pages);
        count + 1
    })
}

/// What the line says of the lengths.
fn judge(lengths: &[Point], line: Line, exact: Line) -> Linearity {
    let count = lengths.len();
    let (from, to) = (lengths[0].pages, lengths[count - 1].pages);
    // What is known no better cannot tell a line from a curve.
    let sharp = || lengths.iter().filter(|point| point.nanos_margin <= SHARP * point.nanos);
    let off = |point: &Point| {
        let on = (line.fixed + line.further * point.pages).abs().max(1.0);
        let off = (point.nanos - line.fixed - line.further * point.pages).abs();
        (off / on, (off + SURE * deviation(point, line.further, 0.0)) / on)
    };
    let farthest = lengths.iter().map(|point| off(point).0).fold(0.0, f64::max);
    let within = sharp().map(|point| off(point).1).fold(0.0, f64::max);
    let free = count - 2;
    let chance = ChiSquared::new(free.max(1) as f64).map_or(0.0, |spread| 1.0 - spread.cdf(exact.distance));
    let bent = free > 0 && farthest > BENT && chance < CHANCE;
    if line.further <= 0.0 && !(bent && lengths[count - 1].nanos > lengths[0].nanos) {
        Linearity::DoesNotGrow { from, to, slope: line.further() }
    } else if bent {
        Linearity::NotLinear { from, to, lengths: count, off: Some(farthest) }
    } else if line.fixed + line.fixed().margin < 0.0 {
        Linearity::NotLinear { from, to, lengths: count, off: None }
    } else if different(lengths) == 2 {
        Linearity::TwoLengthsOnly { from, to }
    } else if different(sharp()) < 3 {
        Linearity::Scattered { from, to, lengths: count }
    } else {
        let (mut from, mut to) = (f64::MAX, 0.0);
        sharp().for_each(|point| (from, to) = (point.pages.min(from), point.pages.max(to)));
        Linearity::Linear { from, to, lengths: sharp().count(), within }
    }
}

/// Standard deviation of a point's distance from a line of this slope; `misfit` is a share of its median.
fn deviation(point: &Point, further: f64, misfit: f64) -> f64 {
    let latency = point.nanos_margin / SURE;
    // A length is anywhere within its margin.
    let length = further * point.pages_margin / 3f64.sqrt();
    (latency.powi(2) + length.powi(2) + (misfit * point.nanos).powi(2)).sqrt().max(f64::MIN_POSITIVE)
}

/// The line of least squares.
fn solve(lengths: &[Point], misfit: f64) -> Line {
    let (first, last) = (lengths[0], lengths[lengths.len() - 1]);
    // What an uncertain length means in ns depends on the slope: begin with that of the ends.
    let mut line =
        Line { further: (last.nanos - first.nanos) / (last.pages - first.pages), ..Line::default() };
    for _ in 0..4 {
        let slope = line.further;
        let weight = |point: &Point| deviation(point, slope, misfit).powi(-2);
        let sum =
            |of: &dyn Fn(&Point) -> f64| lengths.iter().map(|point| weight(point) * of(point)).sum::<f64>();
        let all = sum(&|_| 1.0);
        // About the weighted means: pages differ by orders of magnitude.
        let (pages, nanos) = (sum(&|point| point.pages) / all, sum(&|point| point.nanos) / all);
        let spread = sum(&|point| (point.pages - pages).powi(2));
        let further = sum(&|point| (point.pages - pages) * (point.nanos - nanos)) / spread;
        let fixed = nanos - further * pages;
        line = Line {
            fixed,
            further,
            of_fixed: 1.0 / all + pages.powi(2) / spread,
            of_further: 1.0 / spread,
            distance: sum(&|point| (point.nanos - fixed - further * point.pages).powi(2)),
        };
    }
    line
}

/// The line with as much misfit as makes the distances what chance explains.
fn settle(lengths: &[Point], free: f64) -> Line {
    let (mut low, mut high) = (0.0, 4.0);
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if solve(lengths, middle).distance > free {
            low = middle;
        } else {
            high = middle;
        }
    }
    solve(lengths, high)
}
