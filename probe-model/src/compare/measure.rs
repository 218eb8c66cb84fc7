//! What is measured on each side: latency, contiguity, cost, failures.

use super::block::Block;
use crate::histogram::Histogram;

/// A measure of a block, or of many in one.
pub struct Measure {
    /// For people.
    pub name: &'static str,
    /// Of its values: `ns`, `bytes` or `share`.
    pub unit: &'static str,
    /// Whether more of it is worse.
    pub more_is_worse: bool,
    /// Its value; `None` without calls.
    pub(crate) of: fn(&Block) -> Option<f64>,
}

/// Every measure.
pub const MEASURES: [Measure; 8] = [
    Measure {
        name: "GET_PA median",
        unit: "ns",
        more_is_worse: true,
        of: |b| quantile(b.get_pa.as_ref(), 0.5),
    },
    Measure {
        name: "GET_PA 90 %",
        unit: "ns",
        more_is_worse: true,
        of: |b| quantile(b.get_pa.as_ref(), 0.9),
    },
    Measure {
        name: "GET_PA 99 %",
        unit: "ns",
        more_is_worse: true,
        of: |b| quantile(b.get_pa.as_ref(), 0.99),
    },
    Measure { name: "scan median", unit: "ns", more_is_worse: true, of: |b| quantile(b.scans.as_ref(), 0.5) },
    Measure { name: "scan 99 %", unit: "ns", more_is_worse: true, of: |b| quantile(b.scans.as_ref(), 0.99) },
    Measure { name: "time per page", unit: "ns", more_is_worse: true, of: per_page },
    Measure { name: "mean run", unit: "bytes", more_is_worse: false, of: |b| b.runs.as_ref()?.mean() },
    Measure { name: "failed calls", unit: "share", more_is_worse: true, of: failed },
];

fn per_page(block: &Block) -> Option<f64> {
    let scans = block.scans.as_ref()?;
    (block.pages > 0).then(|| scans.sum as f64 / block.pages as f64)
}

fn failed(block: &Block) -> Option<f64> {
    let all = block.calls() + block.failed;
    (all > 0).then(|| block.failed as f64 / all as f64)
}

/// A percentile, interpolated inside its bucket: neighbouring draws must not jump from bucket to bucket.
fn quantile(histogram: Option<&Histogram>, q: f64) -> Option<f64> {
    let histogram = histogram.filter(|histogram| histogram.count > histogram.saturated)?;
    let rank = q * histogram.count as f64;
    let scheme = histogram.scheme();
    let mut below = 0u64;
    for (&index, &count) in &histogram.buckets {
        if (below + count) as f64 >= rank {
            let (low, next) = (scheme.lowest(index as usize), scheme.highest(index as usize) + 1);
            let share = ((rank - below as f64) / count as f64).clamp(0.0, 1.0);
            return Some(low as f64 + share * (next - low) as f64);
        }
        below += count;
    }
    // Among the values beyond the range.
    Some((1u64 << histogram.bits) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use probe_common::bucket::LATENCY;

    #[test]
    fn percentiles_move_smoothly() {
        let mut histogram = Histogram::new(LATENCY);
        (0..1000).for_each(|_| histogram.record(100_000));
        let (low, high) =
            (quantile(Some(&histogram), 0.1).unwrap(), quantile(Some(&histogram), 0.9).unwrap());
        assert!(low < high && (high / low - 1.0) < 0.01, "{low} {high}");
        assert_eq!(quantile(Some(&Histogram::new(LATENCY)), 0.5), None);
    }
}
