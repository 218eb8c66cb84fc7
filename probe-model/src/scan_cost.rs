//! What a scan costs: `fixed + per_page × pages`, fitted to the medians of the scan-length classes.
//!
//! Medians, because a mean over a class is moved by the few calls that were preempted or waited. Relative
//! errors, because scans differ by orders of magnitude. Each class counts the same.

use std::collections::BTreeMap;

use crate::contiguity::lengths;
use crate::sample::Scans;

/// Classes with fewer scans than this are not fitted.
const FEWEST: u64 = 5;

/// One scan-length class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The class.
    pub class: u32,
    /// Scans in it.
    pub scans: u64,
    /// Median scan length, pages, from the run lengths.
    pub pages: f64,
    /// Median latency, ns.
    pub nanos: f64,
}

/// A fitted cost.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanCost {
    /// Cost of a call without its scan, ns.
    pub fixed: f64,
    /// Cost of a page, ns.
    pub per_page: f64,
    /// The largest relative distance of a class's median from the fit: 0.1 is 10 %.
    pub deviation: f64,
    /// What was fitted.
    pub points: Vec<Point>,
}

impl ScanCost {
    /// The cost of a scan of `pages`, ns.
    pub fn of(&self, pages: f64) -> f64 {
        self.fixed + self.per_page * pages
    }

    /// The scan length at which the pages cost as much as the rest of the call; `None` when pages cost
    /// nothing that could be told.
    pub fn break_even(&self) -> Option<f64> {
        (self.per_page > 0.0).then(|| self.fixed / self.per_page)
    }
}

/// Time of all successful scans over all pages they walked, ns: what a page takes with its share of the calls'
/// fixed cost.
pub fn mean_per_page(scans: &Scans) -> Option<f64> {
    let nanos: u64 = scans.ok.values().map(|histogram| histogram.sum).fold(0, u64::wrapping_add);
    (scans.pages > 0).then(|| nanos as f64 / scans.pages as f64)
}

/// Fit the cost of `scans`; `None` when there are not two classes with enough scans.
pub fn fit(scans: &Scans, page_size: u64) -> Option<ScanCost> {
    let points = points(scans, page_size.max(1));
    let first = points.first()?;
    if points.iter().all(|point| point.pages <= first.pages) {
        return None;
    }
    // Least squares of (fixed + per_page × x) / y − 1.
    let (mut uu, mut uv, mut vv, mut u, mut v) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for Point { pages, nanos, .. } in &points {
        let (one, x) = (1.0 / nanos, pages / nanos);
        uu += one * one;
        uv += one * x;
        vv += x * x;
        u += one;
        v += x;
    }
    let determinant = uu * vv - uv * uv;
    if determinant <= f64::EPSILON * uu * vv {
        return None;
    }
    let (fixed, per_page) = ((u * vv - v * uv) / determinant, (v * uu - u * uv) / determinant);
    // A negative part of a cost is noise: the other part then explains it all.
    let (fixed, per_page) = match (fixed < 0.0, per_page < 0.0) {
        (true, _) => (0.0, v / vv),
        (_, true) => (u / uu, 0.0),
        _ => (fixed, per_page),
    };
    let off = |point: &Point| ((fixed + per_page * point.pages) / point.nanos - 1.0).abs();
    let deviation = points.iter().map(off).fold(0.0, f64::max);
    Some(ScanCost { fixed, per_page, deviation, points })
}

fn points(scans: &Scans, page_size: u64) -> Vec<Point> {
    let mut by_class: BTreeMap<u32, BTreeMap<u64, u64>> = BTreeMap::new();
    for histogram in scans.runs.values() {
        for (run, count) in lengths(histogram) {
            let pages = run.div_ceil(page_size).max(1);
            let last = u32::try_from(probe_common::wire::SCAN_CLASSES - 1).unwrap_or(u32::MAX);
            *by_class.entry(pages.ilog2().min(last)).or_default().entry(pages).or_default() += count;
        }
    }
    let point = |(&class, latency): (&u32, &crate::histogram::Histogram)| {
        let nanos = latency.quantile(0.5).upper().filter(|_| latency.count >= FEWEST)?;
        let pages = median(by_class.get(&class)?)?;
        Some(Point { class, scans: latency.count, pages: pages as f64, nanos: nanos.max(1) as f64 })
    };
    scans.ok.iter().filter_map(point).collect()
}

fn median(values: &BTreeMap<u64, u64>) -> Option<u64> {
    let half = values.values().sum::<u64>().div_ceil(2);
    let mut seen = 0;
    values.iter().find_map(|(&value, &count)| {
        seen += count;
        (seen >= half).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Histogram;
    use probe_common::bucket::{LATENCY, LATENCY_FAILED, RUN};

    fn scans(calls: &[(u64, u64)]) -> Scans {
        let mut scans = Scans {
            ok: [].into(),
            failed: Histogram::new(LATENCY_FAILED),
            errors: [].into(),
            pages: 0,
            runs: [("cap".to_owned(), Histogram::new(RUN))].into(),
        };
        for &(pages, nanos) in calls {
            let class = scans.ok.entry(pages.ilog2()).or_insert_with(|| Histogram::new(LATENCY));
            class.record(nanos);
            scans.runs.get_mut("cap").unwrap().record(pages * 4096);
        }
        scans
    }

    #[test]
    fn a_linear_cost_is_found() {
        let calls: Vec<_> = [1u64, 8, 64, 512, 16_384]
            .iter()
            .flat_map(|&pages| std::iter::repeat_n((pages, 1000 + 220 * pages), 9))
            .collect();
        let cost = fit(&scans(&calls), 4096).unwrap();
        // Within the width of the buckets.
        assert!((cost.per_page / 220.0 - 1.0).abs() < 0.01, "{cost:?}");
        assert!((cost.fixed / 1000.0 - 1.0).abs() < 0.02, "{cost:?}");
        assert!(cost.deviation < 0.01);
        assert!((cost.break_even().unwrap() - 4.5).abs() < 0.2);
    }

    #[test]
    fn one_class_or_few_scans_fit_nothing() {
        assert_eq!(fit(&scans(&[(1, 1000); 50]), 4096), None);
        assert_eq!(fit(&scans(&[(1, 1000), (64, 9000)]), 4096), None);
        assert_eq!(fit(&scans(&[]), 4096), None);
    }

    #[test]
    fn an_outlier_does_not_move_it() {
        let mut calls = vec![(1u64, 1220u64); 99];
        calls.extend(vec![(512, 113_640); 99]);
        calls.push((1, 20_000_000));
        let cost = fit(&scans(&calls), 4096).unwrap();
        assert!((cost.per_page / 220.0 - 1.0).abs() < 0.01, "{cost:?}");
    }
}
