//! Value to bucket and back: the only bucket arithmetic in the repository.
//!
//! The scheme is HdrHistogram's own counts index with a lowest discernible value of 1, so a
//! histogram counted in the kernel is rebuilt in user space without re-bucketing. With
//! `g = half_count_magnitude`: values below `2^(g+1)` have a bucket each; above, every power of two
//! is cut into `2^g` equal buckets. A bucket is therefore never wider than `value / 2^g`.
//!
//! `g = 7` is HdrHistogram's 2 significant digits, `g = 4` is 1.

use core::hint::black_box;

/// A bucket scheme: resolution and range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    /// log2 of the buckets per power of two (`sub_bucket_half_count_magnitude`).
    pub half_count_magnitude: u32,
    /// Values of `2^value_bits` and more are beyond the range: they are counted as saturated.
    pub value_bits: u32,
}

impl Scheme {
    /// Number of buckets.
    #[must_use]
    pub const fn len(self) -> usize {
        ((self.value_bits - self.half_count_magnitude + 1) as usize) << self.half_count_magnitude
    }

    /// A scheme always has buckets; present because `len` is.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// The bucket of `value`; at or beyond [`Scheme::len`] when the value is out of range.
    #[must_use]
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "BPF: a call would cost more than the body")]
    pub fn index(self, value: u64) -> usize {
        let g = self.half_count_magnitude;
        if value < 2 << g {
            return value as usize;
        }
        let shift = log2(value) - g;
        ((shift as usize) << g) + (value >> shift) as usize
    }

    /// The lowest value of a bucket.
    #[must_use]
    pub const fn lowest(self, index: usize) -> u64 {
        let g = self.half_count_magnitude;
        let index = index as u64;
        if index < 2 << g {
            return index;
        }
        let shift = (index >> g) - 1;
        ((index & ((1 << g) - 1)) + (1 << g)) << shift
    }

    /// The highest value of a bucket.
    #[must_use]
    pub const fn highest(self, index: usize) -> u64 {
        self.lowest(index + 1) - 1
    }

    /// HdrHistogram's number of significant decimal digits for this resolution.
    #[must_use]
    pub const fn significant_digits(self) -> u8 {
        match self.half_count_magnitude {
            0..=6 => 1,
            7..=9 => 2,
            _ => 3,
        }
    }
}

/// ⌊log2⌋ of a byte; 0 for 0.
const LOG2_OF_BYTE: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 2;
    while byte < 256 {
        table[byte] = table[byte / 2] + 1;
        byte += 1;
    }
    table
};

/// ⌊log2⌋ of a value below 2^48; 0 for 0, 48 beyond, where every scheme's range has ended.
///
/// The BPF instruction set has no leading-zero count, and what the compiler makes of
/// `u64::leading_zeros` there is about 45 instructions. This is at most a dozen.
#[must_use]
#[inline(always)]
#[allow(clippy::inline_always, reason = "BPF: a call would cost more than the body")]
pub fn log2(value: u64) -> u32 {
    let (high, base) = if value < 1 << 16 {
        if value < 1 << 8 { (value, 0) } else { (value >> 8, 8) }
    } else if value < 1 << 32 {
        if value < 1 << 24 { (value >> 16, 16) } else { (value >> 24, 24) }
    } else if value < 1 << 48 {
        if value < 1 << 40 { (value >> 32, 32) } else { (value >> 40, 40) }
    } else {
        return 48;
    };
    // The compiler knows that this is a byte; verifiers before Linux 6.2 lose sight of it where the value was
    // kept on the stack, so the mask has to stay. The path of small values has never needed it.
    let high = if base < 16 { high } else { black_box(high) };
    u32::from(LOG2_OF_BYTE[(high & 0xff) as usize]) + base
}

/// Latencies of successful calls in ns: 2 significant digits, up to 2^38 ns (274 s).
pub const LATENCY: Scheme = Scheme { half_count_magnitude: 7, value_bits: 38 };
/// Latencies of failed calls in ns: 1 significant digit, up to 2^38 ns.
pub const LATENCY_FAILED: Scheme = Scheme { half_count_magnitude: 4, value_bits: 38 };
/// Run lengths in bytes: 2 significant digits, up to 2^48 bytes. Runs of up to 255 whole 4 KiB
/// pages have a bucket each.
pub const RUN: Scheme = Scheme { half_count_magnitude: 7, value_bits: 48 };

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Scheme; 3] = [LATENCY, LATENCY_FAILED, RUN];

    #[test]
    fn sizes_are_what_the_wire_holds() {
        assert_eq!(LATENCY.len(), 4096);
        assert_eq!(LATENCY_FAILED.len(), 560);
        assert_eq!(RUN.len(), 5376);
    }

    #[test]
    fn log2_is_ilog2_as_far_as_it_goes() {
        assert_eq!(log2(0), 0);
        for bit in 0..64 {
            for value in [1u64 << bit, (1 << bit) | 1, u64::MAX >> (63 - bit)] {
                assert_eq!(log2(value), value.ilog2().min(48), "{value}");
            }
        }
        assert!(ALL.iter().all(|scheme| scheme.value_bits <= 48));
    }

    #[test]
    fn the_range_ends_where_it_says() {
        for scheme in ALL {
            let end = 1u64 << scheme.value_bits;
            assert_eq!(scheme.index(end - 1), scheme.len() - 1);
            assert_eq!(scheme.index(end), scheme.len());
            for beyond in [end + 1, 1 << 48, u64::MAX] {
                assert!(scheme.index(beyond) >= scheme.len());
            }
        }
    }

    #[test]
    fn every_bucket_round_trips_and_borders_on_the_next() {
        for scheme in ALL {
            for index in 0..scheme.len() {
                assert_eq!(scheme.index(scheme.lowest(index)), index);
                assert_eq!(scheme.index(scheme.highest(index)), index);
            }
        }
    }

    #[test]
    fn whole_pages_have_buckets_of_their_own() {
        for pages in 1..256u64 {
            assert_eq!(RUN.lowest(RUN.index(pages << 12)), pages << 12);
            assert_ne!(RUN.index(pages << 12), RUN.index((pages + 1) << 12));
        }
    }

    proptest! {
        #[test]
        fn buckets_hold_their_values_within_the_stated_width(value in 0u64..1 << 48) {
            let index = RUN.index(value);
            let (low, high) = (RUN.lowest(index), RUN.highest(index));
            prop_assert!(low <= value && value <= high);
            prop_assert!((high - low) << RUN.half_count_magnitude <= value);
        }

        #[test]
        fn order_is_kept(a in 0u64..1 << 48, b in 0u64..1 << 48) {
            prop_assert_eq!(a <= b || RUN.index(a) >= RUN.index(b), true);
        }
    }
}
