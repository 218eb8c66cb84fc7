//! Counts and distributions of the measured loop. One per thread, merged at the end, so that
//! recording takes no lock.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use rustix::io::Errno;
use serde::Serialize;

use super::iommufd::Answer;
use super::outcome::{Command, Ledger, Outcome};

/// Two significant digits: 1 % resolution, a few KiB per histogram.
const SIGNIFICANT_DIGITS: u8 = 2;
/// An hour in ns. A longer call is counted as beyond the range, never shown as a plausible maximum.
const LATENCY_RANGE_NS: u64 = 3_600_000_000_000;

/// A distribution whose count, sum, minimum and maximum are exact beside it.
#[derive(Debug, Clone)]
pub struct Distribution {
    histogram: Histogram<u64>,
    range: u64,
    count: u64,
    sum: u128,
    min: u64,
    max: u64,
    beyond_range: u64,
}

/// The distribution's numbers, as they are shown and written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub count: u64,
    pub sum: u64,
    pub min: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    #[serde(rename = "p99_9")]
    pub p999: u64,
    pub max: u64,
    /// Values too large for the histogram: in count, sum and max, not in the percentiles' buckets.
    pub beyond_range: u64,
    /// `[lowest value, highest value, count]` of each bucket in use.
    pub buckets: Vec<(u64, u64, u64)>,
}

/// Cannot happen with the constants above; kept as a value because the histogram's constructor says so.
#[derive(Debug, thiserror::Error)]
#[error("making a histogram")]
pub struct TallyError(#[from] hdrhistogram::CreationError);

impl Distribution {
    fn new(range: u64) -> Result<Self, TallyError> {
        let histogram = Histogram::new_with_bounds(1, range, SIGNIFICANT_DIGITS)?;
        Ok(Self { histogram, range, count: 0, sum: 0, min: u64::MAX, max: 0, beyond_range: 0 })
    }

    pub fn record(&mut self, value: u64) {
        self.count += 1;
        self.sum += u128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if value > self.range {
            self.beyond_range += 1;
        } else {
            // In range by the test above: nothing saturates.
            self.histogram.saturating_record(value);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.beyond_range += other.beyond_range;
        // Both histograms have the same bounds: adding cannot fail.
        let _ = self.histogram.add(&other.histogram);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// `None` where nothing was recorded: an empty distribution has no minimum.
    pub fn summary(&self) -> Option<Summary> {
        if self.count == 0 {
            return None;
        }
        let quantile = |quantile: f64| self.quantile(quantile);
        let buckets = self
            .histogram
            .iter_recorded()
            .map(|step| {
                let value = step.value_iterated_to();
                let (low, high) =
                    (self.histogram.lowest_equivalent(value), self.histogram.highest_equivalent(value));
                (low, high, step.count_at_value())
            })
            .collect();
        Some(Summary {
            count: self.count,
            sum: u64::try_from(self.sum).unwrap_or(u64::MAX),
            min: self.min,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: self.max,
            beyond_range: self.beyond_range,
            buckets,
        })
    }

    /// The upper end of the bucket that holds the quantile, but never above the exact maximum. Where
    /// the quantile falls among the values beyond the range, the maximum is all that is known.
    fn quantile(&self, quantile: f64) -> u64 {
        let rank = (quantile * self.count as f64).ceil();
        let mut seen = 0;
        for step in self.histogram.iter_recorded() {
            seen += step.count_at_value();
            if seen as f64 >= rank {
                return self.histogram.highest_equivalent(step.value_iterated_to()).min(self.max);
            }
        }
        self.max
    }
}

/// Run lengths, exact: a bucket's bound instead of 4096 would be a length no run can have. Whole pages
/// plus a first part: there are as many distinct ones as the mapping has pages, at most.
#[derive(Debug, Clone, Default)]
pub struct Runs(BTreeMap<u64, u64>);

impl Runs {
    fn record(&mut self, bytes: u64, count: u64) {
        *self.0.entry(bytes).or_default() += count;
    }

    /// As of a distribution, each distinct length a bucket of its own.
    pub fn summary(&self) -> Option<Summary> {
        let (&min, &max) = (self.0.keys().next()?, self.0.keys().next_back()?);
        let count = self.0.values().sum();
        let sum: u128 = self.0.iter().map(|(&bytes, &count)| u128::from(bytes) * u128::from(count)).sum();
        let quantile = |quantile: f64| {
            let rank = (quantile * count as f64).ceil();
            let mut seen = 0;
            let reaches = |(_, count): &(&u64, &u64)| {
                seen += **count;
                seen as f64 >= rank
            };
            self.0.iter().find(reaches).map_or(max, |(&bytes, _)| bytes)
        };
        Some(Summary {
            count,
            sum: u64::try_from(sum).unwrap_or(u64::MAX),
            min,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max,
            beyond_range: 0,
            buckets: self.0.iter().map(|(&bytes, &count)| (bytes, bytes, count)).collect(),
        })
    }
}

/// What one thread saw.
#[derive(Debug, Clone)]
pub struct Tally {
    pub ok_ns: Distribution,
    pub failed_ns: Distribution,
    pub run_bytes: Runs,
    /// Successful calls whose run was exactly as long as asked for.
    pub capped: u64,
    /// Few distinct errnos: a map costs nothing beside a failed system call.
    failures: BTreeMap<i32, u64>,
}

impl Tally {
    pub fn new() -> Result<Self, TallyError> {
        Ok(Self {
            ok_ns: Distribution::new(LATENCY_RANGE_NS)?,
            failed_ns: Distribution::new(LATENCY_RANGE_NS)?,
            run_bytes: Runs::default(),
            capped: 0,
            failures: BTreeMap::new(),
        })
    }

    /// Take in one call that asked for `length` bytes.
    pub fn record(&mut self, ns: u64, length: u64, result: Result<Answer, Errno>) {
        match result {
            Ok(answer) => {
                self.ok_ns.record(ns);
                self.run_bytes.record(answer.length, 1);
                self.capped += u64::from(answer.length == length);
            }
            Err(errno) => {
                self.failed_ns.record(ns);
                *self.failures.entry(errno.raw_os_error()).or_default() += 1;
            }
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.ok_ns.merge(&other.ok_ns);
        self.failed_ns.merge(&other.failed_ns);
        for (&bytes, &count) in &other.run_bytes.0 {
            self.run_bytes.record(bytes, count);
        }
        self.capped += other.capped;
        for (errno, count) in &other.failures {
            *self.failures.entry(*errno).or_default() += count;
        }
    }

    /// Add the loop's calls to the calls of set-up and clean-up.
    pub fn enter(&self, ledger: &mut Ledger) {
        ledger.add(Command::GetPa, Outcome::Ok, self.ok_ns.count());
        for (&errno, &count) in &self.failures {
            ledger.add(Command::GetPa, Outcome::Failed(errno), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::quantity::PhysAddr;
    use super::*;

    fn answer(length: u64) -> Answer {
        Answer { phys: PhysAddr(0x1000), length }
    }

    #[test]
    fn an_empty_distribution_has_no_summary() {
        assert!(Tally::new().expect("constants fit").ok_ns.summary().is_none());
    }

    #[test]
    fn sum_and_ends_are_exact_and_percentiles_within_a_percent() {
        let mut tally = Tally::new().expect("constants fit");
        for ns in 1..=10_000 {
            tally.record(ns, 4096, Ok(answer(4096)));
        }
        let summary = tally.ok_ns.summary().expect("recorded");
        assert_eq!((summary.count, summary.sum), (10_000, 50_005_000));
        assert_eq!((summary.min, summary.max), (1, 10_000));
        for (got, exact) in [(summary.p50, 5000), (summary.p90, 9000), (summary.p99, 9900)] {
            assert!(got >= exact && got - exact <= exact / 100, "{got} for {exact}");
        }
        assert_eq!(summary.buckets.iter().map(|bucket| bucket.2).sum::<u64>(), 10_000);
        assert!(summary.buckets.iter().all(|(low, high, _)| low <= high));
    }

    #[test]
    fn a_value_beyond_the_range_is_named_and_not_flattened() {
        let mut distribution = Distribution::new(1000).expect("fits");
        distribution.record(10);
        distribution.record(1_000_000);
        let summary = distribution.summary().expect("recorded");
        assert_eq!((summary.p50, summary.p99, summary.max), (10, 1_000_000, 1_000_000));
        assert_eq!(summary.beyond_range, 1);
    }

    #[test]
    fn runs_are_exact_to_the_byte() {
        let mut runs = Runs::default();
        assert!(runs.summary().is_none());
        runs.record(4096, 98);
        runs.record(67_108_864, 1);
        runs.record(3000, 1);
        let summary = runs.summary().expect("recorded");
        assert_eq!((summary.count, summary.sum), (100, 98 * 4096 + 67_108_864 + 3000));
        assert_eq!((summary.min, summary.p50, summary.p99, summary.max), (3000, 4096, 4096, 67_108_864));
        assert_eq!(summary.p999, 67_108_864);
        assert_eq!(summary.buckets, [(3000, 3000, 1), (4096, 4096, 98), (67_108_864, 67_108_864, 1)]);
    }

    #[test]
    fn ok_and_failed_do_not_mix() {
        let mut tally = Tally::new().expect("constants fit");
        tally.record(100, 4096, Ok(answer(4096)));
        tally.record(110, 8192, Ok(answer(4096)));
        tally.record(7, 4096, Err(Errno::NOENT));
        let mut other = tally.clone();
        other.merge(&tally);
        assert_eq!((other.ok_ns.count(), other.failed_ns.count(), other.capped), (4, 2, 2));
        let mut ledger = Ledger::default();
        other.enter(&mut ledger);
        let counts: Vec<_> = ledger.iter().map(|(_, outcome, count)| (outcome.name(), count)).collect();
        assert_eq!(counts, [("ok".to_owned(), 4), ("ENOENT".to_owned(), 2)]);
    }
}
