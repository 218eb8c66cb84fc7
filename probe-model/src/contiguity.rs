//! How contiguous memory is: runs by order, and the share of the bytes in runs that a huge page needs.

use crate::histogram::Histogram;
use crate::sample::Scans;

/// Orders told apart: runs of 4 KiB to 1 GiB, by powers of two. Shorter ones count as the first, longer
/// ones as the last.
pub const ORDERS: usize = 19;

/// A run of this many bytes or more can hold an aligned huge page's worth of data: 2 MiB.
pub const HUGE: u64 = 2 << 20;

/// Runs of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Order {
    /// Runs of at least `4 KiB << order` bytes, less than twice that.
    pub order: usize,
    /// Their number.
    pub runs: u64,
    /// Their bytes: a lower bound, at most 0.8 % below, exact for up to 255 whole 4 KiB pages and for
    /// powers of two.
    pub bytes: u64,
}

/// The runs of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Contiguity {
    /// Runs by order; all of them, empty ones too.
    pub orders: Vec<Order>,
    /// Runs.
    pub runs: u64,
    /// Bytes of all runs, exact.
    pub bytes: u64,
    /// Share of the bytes in runs of [`HUGE`] and more, 0 to 1: a lower bound.
    pub huge_share: f64,
}

/// The order of a run.
pub fn order_of(bytes: u64) -> usize {
    (bytes.max(4096).ilog2() as usize - 12).min(ORDERS - 1)
}

/// The shortest run of an order, bytes.
pub fn bytes_of(order: usize) -> u64 {
    4096 << order.min(ORDERS - 1)
}

/// Contiguity of what scans returned; `None` when nothing was.
pub fn of(scans: &Scans) -> Option<Contiguity> {
    let mut orders: Vec<Order> = (0..ORDERS).map(|order| Order { order, ..Order::default() }).collect();
    let (mut runs, mut bytes, mut huge) = (0u64, 0u64, 0u64);
    // A scan that stopped at an unmapped page returned nothing that could be contiguous.
    let returned = scans.runs.iter().filter(|(stop, _)| *stop != "unmapped").map(|(_, histogram)| histogram);
    for histogram in returned {
        runs += histogram.count;
        bytes = bytes.saturating_add(histogram.sum);
        for (run, count) in lengths(histogram) {
            let row = &mut orders[order_of(run)];
            row.runs += count;
            row.bytes = row.bytes.saturating_add(run.saturating_mul(count));
            if run >= HUGE {
                huge = huge.saturating_add(run.saturating_mul(count));
            }
        }
    }
    let huge_share = if bytes > 0 { (huge as f64 / bytes as f64).min(1.0) } else { 0.0 };
    (runs > 0).then_some(Contiguity { orders, runs, bytes, huge_share })
}

/// Lengths (lower bounds) and their numbers.
pub(crate) fn lengths(histogram: &Histogram) -> impl Iterator<Item = (u64, u64)> + '_ {
    let scheme = histogram.scheme();
    histogram.buckets.iter().map(move |(&bucket, &count)| (scheme.lowest(bucket as usize), count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use probe_common::bucket::{LATENCY_FAILED, RUN};

    fn scans(runs: &[(&str, &[u64])]) -> Scans {
        let histogram = |values: &[u64]| {
            let mut histogram = Histogram::new(RUN);
            for &value in values {
                histogram.record(value);
            }
            histogram
        };
        Scans {
            ok: [].into(),
            failed: Histogram::new(LATENCY_FAILED),
            errors: [].into(),
            pages: 0,
            runs: runs.iter().map(|&(stop, values)| (stop.to_owned(), histogram(values))).collect(),
        }
    }

    #[test]
    fn shares_are_of_bytes_not_of_runs() {
        let found = of(&scans(&[("cap", &[4096, 4096, 2 << 20]), ("short", &[2 << 20]), ("unmapped", &[9])]))
            .unwrap();
        assert_eq!((found.runs, found.bytes), (4, (4 << 20) + 8192));
        assert_eq!((found.orders[0].runs, found.orders[9].runs), (2, 2));
        assert!((found.huge_share - 4_194_304.0 / 4_202_496.0).abs() < 1e-12);
        assert_eq!(of(&scans(&[])), None);
    }

    #[test]
    fn orders_have_ends() {
        assert_eq!([0, 4096, 8191, 8192, 1 << 30, u64::MAX].map(order_of), [0, 0, 0, 1, 18, 18]);
        assert_eq!((bytes_of(0), bytes_of(9), bytes_of(99)), (4096, 2 << 20, 1 << 30));
    }
}
