//! Distributions: an exact summary and the buckets of a [`Scheme`]; how one value is counted.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::bucket::{LATENCY, LATENCY_FAILED, RUN, Scheme};

/// The exact part of a distribution, beside its buckets. How many values there are is the sum of the
/// buckets and of the saturated ones.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Summary {
    /// Sum of the values.
    pub sum: u64,
    /// Bitwise complement of the smallest value: zeroed memory then means "none yet".
    pub min_complement: u64,
    /// The largest value.
    pub max: u64,
    /// Values beyond the range, in no bucket.
    pub saturated: u64,
}

/// What every distribution type offers.
pub trait Distribution {
    /// The scheme of the buckets.
    const SCHEME: Scheme;

    /// The summary and the buckets, `SCHEME.len()` of them.
    fn parts(&self) -> (&Summary, &[u32]);

    /// The summary and the buckets, to be changed.
    fn parts_mut(&mut self) -> (&mut Summary, &mut [u32]);

    /// Count one value.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "BPF: the bounds are known only where this is inlined")]
    fn record(&mut self, value: u64) {
        let (summary, buckets) = self.parts_mut();
        summary.sum = summary.sum.wrapping_add(value);
        if value > summary.max {
            summary.max = value;
        }
        if !value > summary.min_complement {
            summary.min_complement = !value;
        }
        match buckets.get_mut(Self::SCHEME.index(value)) {
            Some(bucket) => *bucket = bucket.wrapping_add(1),
            None => summary.saturated = summary.saturated.wrapping_add(1),
        }
    }
}

/// One concrete type per scheme: a generic one could not be proven free of padding.
macro_rules! distributions {
    ($($(#[$doc:meta])* $name:ident: $scheme:ident;)*) => {$(
        $(#[$doc])*
        #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name {
            /// Sum, extremes, saturation.
            pub summary: Summary,
            /// Values per bucket, wrapping.
            pub buckets: [u32; $scheme.len()],
        }

        impl Distribution for $name {
            const SCHEME: Scheme = $scheme;

            #[inline(always)]
            fn parts(&self) -> (&Summary, &[u32]) {
                (&self.summary, &self.buckets)
            }

            #[inline(always)]
            fn parts_mut(&mut self) -> (&mut Summary, &mut [u32]) {
                (&mut self.summary, &mut self.buckets)
            }
        }
    )*};
}

distributions! {
    /// Latencies of successful calls, ns.
    Latencies: LATENCY;
    /// Latencies of failed calls, ns.
    FailedLatencies: LATENCY_FAILED;
    /// Run lengths, bytes.
    RunLengths: RUN;
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn values_are_counted_and_the_extremes_kept() {
        let mut cell = FailedLatencies::new_zeroed();
        for value in [700, 3, 3, 1 << 38, 1 << 50] {
            cell.record(value);
        }
        let summary = cell.summary;
        assert_eq!(summary.saturated, 2);
        assert_eq!(summary.sum, 706 + (1 << 38) + (1 << 50));
        assert_eq!((!summary.min_complement, summary.max), (3, 1 << 50));
        assert_eq!(cell.buckets[3], 2);
        assert_eq!(cell.buckets.iter().sum::<u32>(), 3);
    }
}
