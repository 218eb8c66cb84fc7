//! Slices: what a stretch of time looked like, small enough to keep many of them.
//!
//! A slice holds counts and coarse distributions, for drawing the course of things. No figure is read from
//! one: figures come from windows.

use std::collections::BTreeMap;

use probe_common::bucket::Scheme;

use crate::canary::Pulse;
use crate::contiguity::{ORDERS, order_of};
use crate::histogram::Histogram;
use crate::loss::{Balance, Flow};
use crate::sample::Instant;
use crate::window::Window;

/// Latency bands: four per power of two, HdrHistogram's scheme, so finer buckets nest in them.
pub const BANDS: Scheme = Scheme { half_count_magnitude: 2, value_bits: 38 };

/// Calls of one site in a slice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Track {
    /// Calls that returned, in the distributions.
    pub calls: u64,
    /// Of these, the failed ones.
    pub failed: u64,
    /// Calls that began and were not measured.
    pub lost: u64,
    /// Latencies of successful calls by band of [`BANDS`].
    pub bands: BTreeMap<u8, u64>,
}

/// A stretch of time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slice {
    /// Where it begins.
    pub from: Instant,
    /// Where it ends.
    pub to: Instant,
    /// The dispatch site.
    pub dispatch: Track,
    /// The `get_phys` site.
    pub get_phys: Track,
    /// Time over which the probes were dead in it.
    pub dark: bool,
    /// Pages that the returned runs touch.
    pub pages: u64,
    /// Bytes returned by order of their run ([`crate::contiguity`]).
    pub bytes: [u64; ORDERS],
}

impl Track {
    /// The upper bound of the band that a share `q` of the latencies do not exceed.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let total: u64 = self.bands.values().sum();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count lies between 0 and the count"
        )]
        let rank = ((q * total as f64).ceil().max(1.0) as u64).min(total);
        let mut seen = 0;
        self.bands.iter().find_map(|(&band, &count)| {
            seen += count;
            (seen >= rank && count > 0).then(|| BANDS.highest(usize::from(band)))
        })
    }

    fn add(&mut self, histogram: &Histogram) {
        let scheme = histogram.scheme();
        for (&bucket, &count) in &histogram.buckets {
            let band = BANDS.index(scheme.lowest(bucket as usize)).min(BANDS.len() - 1);
            *self.bands.entry(u8::try_from(band).unwrap_or(u8::MAX)).or_default() += count;
        }
    }

    fn append(&mut self, next: &Self) {
        self.calls += next.calls;
        self.failed += next.failed;
        self.lost += next.lost;
        for (&band, &count) in &next.bands {
            *self.bands.entry(band).or_default() += count;
        }
    }
}

impl Slice {
    /// What a window looked like.
    pub fn of(window: &Window) -> Self {
        let counters = &window.counters;
        let lost =
            |site: &str| counters.flow.get(site).map(Flow::balance).as_ref().map_or(0, Balance::lost_calls);
        let mut slice = Self {
            from: window.from,
            to: window.to,
            dark: counters.canary.pulse() == Pulse::Dark,
            ..Self::default()
        };
        slice.dispatch.lost = lost("dispatch");
        for calls in counters.dispatch.values() {
            slice.dispatch.calls += calls.count();
            slice.dispatch.failed += calls.failed.count;
            slice.dispatch.add(&calls.ok);
        }
        slice.get_phys.lost = lost("get_phys");
        if let Some(scans) = &counters.get_phys {
            slice.get_phys.calls = scans.count();
            slice.get_phys.failed = scans.failed.count;
            scans.ok.values().for_each(|histogram| slice.get_phys.add(histogram));
            slice.pages = scans.pages;
            for runs in scans.runs.values() {
                for (&bucket, &count) in &runs.buckets {
                    let run = runs.scheme().lowest(bucket as usize);
                    let bytes = &mut slice.bytes[order_of(run)];
                    *bytes = bytes.saturating_add(run.saturating_mul(count));
                }
            }
        }
        slice
    }

    /// Make this the slice of both stretches; `next` follows it.
    pub fn append(&mut self, next: &Self) {
        self.to = next.to;
        self.dispatch.append(&next.dispatch);
        self.get_phys.append(&next.get_phys);
        self.dark |= next.dark;
        self.pages += next.pages;
        for (ours, theirs) in self.bytes.iter_mut().zip(&next.bytes) {
            *ours = ours.saturating_add(*theirs);
        }
    }

    /// Nothing was called in it, as far as is known.
    pub fn is_idle(&self) -> bool {
        [&self.dispatch, &self.get_phys].iter().all(|track| track.calls + track.lost == 0)
    }

    /// Its length in ns.
    pub fn nanos(&self) -> u64 {
        self.to.monotonic.saturating_sub(self.from.monotonic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Calls, Counters};
    use probe_common::bucket::{LATENCY, LATENCY_FAILED};

    fn window(values: &[u64]) -> Window {
        let mut ok = Histogram::new(LATENCY);
        for &value in values {
            ok.record(value);
        }
        let calls = Calls { ok, failed: Histogram::new(LATENCY_FAILED), errors: [].into() };
        let counters = Counters { dispatch: [("IOAS_MAP".to_owned(), calls)].into(), ..Counters::default() };
        Window { from: Instant::default(), to: Instant { monotonic: 5, realtime: 5 }, counters }
    }

    #[test]
    fn fine_buckets_nest_in_bands() {
        for bucket in 0..LATENCY.len() {
            assert_eq!(BANDS.index(LATENCY.lowest(bucket)), BANDS.index(LATENCY.highest(bucket)));
        }
    }

    #[test]
    fn appending_slices_is_the_slice_of_both() {
        let mut both = Slice::of(&window(&[5, 900]));
        both.append(&Slice::of(&window(&[900, 70_000])));
        assert_eq!(both.dispatch, Slice::of(&window(&[5, 900, 900, 70_000])).dispatch);
        assert_eq!(both.dispatch.quantile(0.5), Some(1023));
        assert_eq!(both.dispatch.quantile(1.0), Some(81_919));
        assert_eq!(both.get_phys.quantile(0.5), None);
    }
}
