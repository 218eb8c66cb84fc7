//! Histograms: exact count, sum and extremes, and HdrHistogram's buckets.

use probe_common::bucket::Scheme;
use serde::{Deserialize, Serialize};

use crate::buckets::Buckets;

/// A distribution of values of one unit (the holder of the histogram says which).
///
/// Additive except for the extremes: `min` and `max` are those of everything since the counters
/// began, so [`Histogram::since`] keeps them only where they are still known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// [`Scheme::half_count_magnitude`].
    pub g: u32,
    /// [`Scheme::value_bits`].
    pub bits: u32,
    /// Values recorded, exact.
    pub count: u64,
    /// Sum of the values, exact.
    pub sum: u64,
    /// The smallest value, exact; `None` when there are no values or it is not known.
    pub min: Option<u64>,
    /// The largest value, exact; `None` when there are no values or it is not known.
    pub max: Option<u64>,
    /// Values beyond the range: counted, in no bucket.
    pub saturated: u64,
    /// Values per bucket; only buckets with values.
    #[serde(with = "crate::packed")]
    pub buckets: Buckets,
}

/// A percentile, or an extreme, with what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantile {
    /// No values.
    None,
    /// Between these, both included: a bucket, at most 1/2^g of the value wide.
    Within(u64, u64),
    /// This very value.
    Exact(u64),
    /// Beyond the range of the buckets: at least this.
    AtLeast(u64),
}

impl Quantile {
    /// The upper bound: for what should be small (HdrHistogram's own choice).
    pub fn upper(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Within(_, value) | Self::Exact(value) | Self::AtLeast(value) => Some(value),
        }
    }

    /// The lower bound: for what should be large, and for whole pages, which begin buckets.
    pub fn lower(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Within(value, _) | Self::Exact(value) | Self::AtLeast(value) => Some(value),
        }
    }
}

impl Histogram {
    /// An empty histogram.
    pub fn new(scheme: Scheme) -> Self {
        Self {
            g: scheme.half_count_magnitude,
            bits: scheme.value_bits,
            count: 0,
            sum: 0,
            min: None,
            max: None,
            saturated: 0,
            buckets: Buckets::new(),
        }
    }

    /// Count one value.
    pub fn record(&mut self, value: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(value);
        self.min = Some(self.min.map_or(value, |min| min.min(value)));
        self.max = Some(self.max.map_or(value, |max| max.max(value)));
        let index = self.scheme().index(value);
        if index < self.scheme().len() {
            *self.buckets.entry(u32::try_from(index).unwrap_or(u32::MAX)).or_default() += 1;
        } else {
            self.saturated += 1;
        }
    }

    /// The bucket scheme.
    pub fn scheme(&self) -> Scheme {
        Scheme { half_count_magnitude: self.g, value_bits: self.bits }
    }

    /// Nothing recorded.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// No difference: nothing to append. The parts of a histogram are read one after the other while values
    /// come, so a window may hold a sum, or an extreme, whose count is in the window before.
    pub(crate) fn is_still(&self) -> bool {
        self.count == 0 && self.sum == 0 && self.min.is_none() && self.max.is_none()
    }

    /// Relative width of a bucket: a percentile's bounds lie at most this share from the true value.
    pub fn relative_error(&self) -> f64 {
        1.0 / f64::from(1u32 << self.g)
    }

    /// The arithmetic mean, from the exact sum.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// The value that a share `q` (0 to 1) of all values do not exceed.
    ///
    /// Saturated values are the largest: a percentile that falls among them is [`Quantile::AtLeast`].
    pub fn quantile(&self, q: f64) -> Quantile {
        if self.count == 0 {
            return Quantile::None;
        }
        // HdrHistogram's own rule (nearest rank, at least the first value).
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count lies between 0 and the count"
        )]
        let rank = ((q * self.count as f64).ceil().max(1.0) as u64).min(self.count);
        let mut seen = 0;
        for (&index, &count) in &self.buckets {
            seen += count;
            if seen >= rank {
                let index = index as usize;
                let (low, high) = (self.scheme().lowest(index), self.scheme().highest(index));
                return Quantile::Within(
                    self.min.map_or(low, |min| min.max(low)),
                    self.max.map_or(high, |max| max.min(high)),
                );
            }
        }
        Quantile::AtLeast(1 << self.bits)
    }

    /// The largest value: exact where known, else from its bucket.
    pub fn largest(&self) -> Quantile {
        match self.max {
            Some(max) => Quantile::Exact(max),
            None => self.quantile(1.0),
        }
    }

    /// What was recorded in `self` and not yet in `older`, a state of the same counters before.
    #[must_use]
    pub fn since(&self, older: &Self) -> Self {
        // An extreme that moved was set by one of the new values.
        let moved = |new: Option<u64>, old| new.filter(|_| older.count == 0 || new != old);
        Self {
            g: self.g,
            bits: self.bits,
            count: self.count.wrapping_sub(older.count),
            sum: self.sum.wrapping_sub(older.sum),
            min: moved(self.min, older.min),
            max: moved(self.max, older.max),
            saturated: self.saturated.wrapping_sub(older.saturated),
            buckets: self.buckets.since(&older.buckets),
        }
    }

    /// Add what the same counters recorded next, as [`Histogram::since`] gave it: undoes `since`,
    /// the extremes included, because a window names every extreme that moved.
    pub fn append(&mut self, next: &Self) {
        self.add(next);
        self.min = next.min.or(self.min);
        self.max = next.max.or(self.max);
    }

    /// Add what other counters of the same scheme recorded. An extreme stays known only where both
    /// sides know theirs.
    pub fn merge(&mut self, other: &Self) {
        if self.is_empty() {
            self.clone_from(other);
        } else if !other.is_empty() {
            self.add(other);
            self.min = self.min.zip(other.min).map(|(a, b)| a.min(b));
            self.max = self.max.zip(other.max).map(|(a, b)| a.max(b));
        }
    }

    fn add(&mut self, other: &Self) {
        self.count = self.count.wrapping_add(other.count);
        self.sum = self.sum.wrapping_add(other.sum);
        self.saturated = self.saturated.wrapping_add(other.saturated);
        for (&index, &count) in &other.buckets {
            // The same scheme but for counters from outside, of which anything may be claimed.
            let index = if (other.g, other.bits) == (self.g, self.bits) {
                index as usize
            } else {
                self.scheme().index(other.scheme().lowest(index as usize))
            };
            if index < self.scheme().len() {
                *self.buckets.entry(u32::try_from(index).unwrap_or(u32::MAX)).or_default() += count;
            } else {
                self.saturated += count;
            }
        }
    }

    /// The same histogram as the `hdrhistogram` crate's type, without the saturated values.
    ///
    /// # Errors
    /// When the scheme is not one that HdrHistogram has.
    pub fn to_hdr(&self) -> Result<hdrhistogram::Histogram<u64>, hdrhistogram::CreationError> {
        let digits = self.scheme().significant_digits();
        let mut hdr = hdrhistogram::Histogram::new_with_bounds(1, (1 << self.bits) - 1, digits)?;
        for (&index, &count) in &self.buckets {
            hdr.saturating_record_n(self.scheme().lowest(index as usize), count);
        }
        Ok(hdr)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small test values")]
    use super::*;
    use probe_common::bucket::{LATENCY, LATENCY_FAILED, RUN};
    use proptest::prelude::*;

    fn filled(scheme: Scheme, values: &[u64]) -> Histogram {
        let mut histogram = Histogram::new(scheme);
        for &value in values {
            histogram.record(value);
        }
        histogram
    }

    #[test]
    fn every_bucket_is_an_hdr_histogram_bucket() {
        for scheme in [LATENCY, LATENCY_FAILED, RUN] {
            let hdr = filled(scheme, &[]).to_hdr().unwrap();
            for index in 0..scheme.len() {
                let low = scheme.lowest(index);
                assert_eq!(hdr.lowest_equivalent(low), low);
                assert_eq!(hdr.highest_equivalent(low), scheme.highest(index));
            }
        }
    }

    #[test]
    fn saturated_values_are_never_a_plausible_maximum() {
        let histogram = filled(LATENCY, &[5, 1 << 40]);
        assert_eq!(histogram.saturated, 1);
        assert_eq!(histogram.quantile(0.5), Quantile::Within(5, 5));
        assert_eq!(histogram.quantile(1.0), Quantile::AtLeast(1 << 38));
        assert_eq!(histogram.largest(), Quantile::Exact(1 << 40));
    }

    #[test]
    fn an_extreme_that_did_not_move_is_not_known_of_the_window() {
        let older = filled(LATENCY, &[10, 1000]);
        let mut newer = older.clone();
        newer.record(5);
        newer.record(600);
        let window = newer.since(&older);
        assert_eq!((window.min, window.max), (Some(5), None));
        assert_eq!(window.largest(), Quantile::Within(600, 603));
    }

    #[test]
    fn other_schemes_are_counted_where_their_values_belong() {
        let mut coarse = filled(LATENCY_FAILED, &[1000]);
        coarse.merge(&filled(RUN, &[1000, 1 << 40]));
        assert_eq!((coarse.count, coarse.saturated), (3, 1));
        assert_eq!(coarse.quantile(0.5), Quantile::Within(1000, 1023));
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_hdr_histogram(
            values in prop::collection::vec(0u64..1 << 37, 1..200), q in 0.0f64..=1.0,
        ) {
            let histogram = filled(LATENCY, &values);
            let expected = histogram.to_hdr().unwrap().value_at_quantile(q);
            let ours = histogram.quantile(q).upper().unwrap();
            prop_assert_eq!(ours, expected.min(*values.iter().max().unwrap()));
        }

        #[test]
        fn a_percentile_is_within_the_stated_error(
            mut values in prop::collection::vec(1u64..1 << 37, 1..200), q in 0.001f64..=1.0,
        ) {
            let histogram = filled(LATENCY, &values);
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let truth = values[rank - 1] as f64;
            let quantile = histogram.quantile(q);
            let (low, high) = (quantile.lower().unwrap() as f64, quantile.upper().unwrap() as f64);
            prop_assert!(low <= truth && truth <= high);
            prop_assert!(high <= truth * (1.0 + histogram.relative_error()));
            prop_assert!(low >= truth * (1.0 - histogram.relative_error()));
        }

        #[test]
        fn appending_windows_gives_the_whole_and_a_window_what_was_added(
            a in prop::collection::vec(any::<u64>(), 0..50), b in prop::collection::vec(any::<u64>(), 0..50),
        ) {
            let older = filled(LATENCY, &a);
            let newer = filled(LATENCY, &[a, b.clone()].concat());
            let added = filled(LATENCY, &b);
            let window = newer.since(&older);
            prop_assert_eq!(window.count, added.count);
            prop_assert_eq!(window.sum, added.sum);
            prop_assert_eq!(window.saturated, added.saturated);
            prop_assert_eq!(&window.buckets, &added.buckets);
            let mut whole = older;
            whole.append(&window);
            prop_assert_eq!(whole, newer);
        }

        #[test]
        fn merging_is_recording_both(
            a in prop::collection::vec(any::<u64>(), 0..50), b in prop::collection::vec(any::<u64>(), 0..50),
        ) {
            let mut merged = filled(LATENCY, &a);
            merged.merge(&filled(LATENCY, &b));
            prop_assert_eq!(merged, filled(LATENCY, &[a, b].concat()));
        }
    }
}
