//! The instrument's share: what the probes add to a call, inside each site's latency and outside, and latencies
//! without it.
//!
//! Measured by the recorder on the machine before it counts. What a call pays beyond instructions that are run hot
//! (evicted cache lines, a mispredicted return, interprocessor interrupts) is not in it.

use serde::{Deserialize, Serialize};

use crate::histogram::{Histogram, Quantile};
use crate::origin::Header;
use crate::sample::{Calls, Counters, Scans};
use crate::unit;

/// Command whose calls have a scan inside.
const GET_PA: &str = "IOAS_NOIOMMU_GET_PA";
/// Stops at which the programs do not look an area up.
const WITHOUT_LOOK_UP: [&str; 2] = ["cap", "unmapped"];
/// A share of calls of another kind that no percentile up to p90 notices.
const FEW: f64 = 0.01;

/// What was found out of the probes' share before counting began.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shares {
    /// By backend, the one that counted first.
    #[serde(default)]
    pub known: Vec<Share>,
    /// Why nothing was, for people.
    #[serde(default)]
    pub unknown: Option<String>,
}

impl Shares {
    /// That of a backend.
    pub fn of(&self, backend: &str) -> Option<&Share> {
        self.known.iter().find(|share| share.backend == backend)
    }
}

/// What the probes of one backend add, by calls of the recorder's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Share {
    /// The backend.
    pub backend: String,
    /// Calls in each average.
    pub calls: u32,
    /// Averages of each kind; the smallest counts.
    pub rounds: u32,
    /// A GET_PA that fails with ENOENT, as its caller sees it, without probes.
    pub bare: Amount,
    /// At the dispatch, for a GET_PA that comes to `get_phys`; `None` where those of the recorder do not. Of
    /// successful ones, for those whose stop needs no look-up.
    #[serde(default)]
    pub get_pa: Option<ByOutcome>,
    /// At the dispatch, for every other call.
    pub other: Part,
    /// At `get_phys`.
    #[serde(default)]
    pub get_phys: Option<ByOutcome>,
    /// Of the above, what the kernel's BPF statistics add while they are on; `None` where they are off.
    #[serde(default)]
    pub statistics: Option<Statistics>,
    /// How long it took to find out, ns.
    #[serde(default)]
    pub took: u64,
}

/// Successful and failed calls: what is counted of them differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ByOutcome {
    /// Of successful calls.
    pub ok: Part,
    /// Of failed calls.
    pub failed: Part,
}

/// What is added to one call of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Part {
    /// Inside the site's latency.
    pub inside: Amount,
    /// Outside of it: its caller waits for it all the same.
    pub outside: Amount,
}

/// What statistics (`--self-cost`) add inside latencies of successful calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Statistics {
    /// Inside a GET_PA's.
    pub get_pa: Amount,
    /// Inside a scan's.
    pub scan: Amount,
}

/// A time with what it may be off, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Amount {
    /// The time.
    pub nanos: u64,
    /// How far it may be off.
    pub noise: u64,
}

impl Amount {
    /// Rounded, the noise up.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded and not negative")]
    pub fn of(nanos: f64, noise: f64) -> Self {
        Self { nanos: nanos.max(0.0).round() as u64, noise: noise.abs().ceil() as u64 }
    }

    /// Whether it stands out of the noise.
    pub fn is_known(self) -> bool {
        self.nanos > self.noise
    }
}

/// A latency without the probes' share, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bare {
    /// The estimate.
    pub nanos: u64,
    /// How far it may be off: the width of the bucket, and the noise of the share.
    pub plus_minus: u64,
}

/// A distribution of latencies without the probes' share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Without {
    /// What the probes add inside these latencies.
    pub inside: Amount,
    /// And outside of them.
    pub outside: Amount,
    /// They add more than that to some of these calls: what is left is an upper bound for those.
    pub at_least: bool,
    /// The median; `None` where the share, or the percentile, is not known.
    pub p50: Option<Bare>,
    /// 90 %.
    pub p90: Option<Bare>,
    /// 99 %.
    pub p99: Option<Bare>,
    /// 99.9 %.
    pub p999: Option<Bare>,
    /// The mean, rounded.
    pub mean: Option<Bare>,
}

/// Both outcomes of a site's or a command's calls.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct WithoutProbes {
    /// Successful calls.
    pub ok: Option<Without>,
    /// Failed calls.
    pub failed: Option<Without>,
}

/// A command's latencies at the dispatch without the share.
pub fn of_command(share: &Share, command: &str, calls: &Calls, counters: &Counters) -> WithoutProbes {
    let (ok, failed) = match (&share.get_pa, command) {
        (Some(get_pa), GET_PA) => {
            let scans = counters.get_phys.as_ref();
            let came = scans.map_or(0, |scans| scans.failed.count);
            let part = between(share.other, get_pa.failed, came, calls.failed.count);
            (Some((get_pa.ok, scans.is_some_and(looks_up))), Some(part))
        }
        (None, GET_PA) => (None, None),
        _ => (Some((share.other, false)), Some(share.other)),
    };
    WithoutProbes {
        ok: ok.and_then(|(part, at_least)| without(&calls.ok, part, at_least)),
        failed: failed.and_then(|part| without(&calls.failed, part, false)),
    }
}

/// Latencies at `get_phys` without the share.
pub fn of_scans(share: &Share, scans: &Scans) -> WithoutProbes {
    let Some(part) = &share.get_phys else { return WithoutProbes::default() };
    // Programs of that site look areas up after its latency.
    WithoutProbes {
        ok: scans.latency().and_then(|latency| without(&latency, part.ok, false)),
        failed: without(&scans.failed, part.failed, false),
    }
}

/// The share of failed calls of which some were decided before `get_phys`.
fn between(before: Part, inside: Part, came: u64, calls: u64) -> Part {
    let share = came.min(calls) as f64 / calls.max(1) as f64;
    if share > 1.0 - FEW {
        return inside;
    }
    if share < FEW {
        return before;
    }
    let middle = |a: Amount, b: Amount| Amount {
        nanos: u64::midpoint(a.nanos, b.nanos),
        noise: a.nanos.abs_diff(b.nanos).div_ceil(2).saturating_add(a.noise.max(b.noise)),
    };
    Part { inside: middle(before.inside, inside.inside), outside: middle(before.outside, inside.outside) }
}

/// Whether more than a few scans ended where an area had to be looked up.
fn looks_up(scans: &Scans) -> bool {
    let all: u64 = scans.runs.values().map(|runs| runs.count).sum();
    let few = |(stop, _): &(&String, &Histogram)| WITHOUT_LOOK_UP.contains(&stop.as_str());
    let without: u64 = scans.runs.iter().filter(few).map(|(_, runs)| runs.count).sum();
    (all - without) as f64 > FEW * all as f64
}

/// What to say of two recordings whose probes put more into one's latencies than into the other's: how much of a
/// difference between medians of GET_PA is theirs. `None` where it is neither known nor more than the noise.
pub fn difference(a: &Header, b: &Header) -> Option<String> {
    let of = |header: &Header| header.shares.of(&header.backend).and_then(|share| share.get_pa);
    match (of(a), of(b)) {
        (Some(a), Some(b)) => {
            let (a, b) = (a.ok.inside, b.ok.inside);
            let noise = a.noise.saturating_add(b.noise).saturating_add(a.nanos / 20);
            (a.nanos.abs_diff(b.nanos) > noise).then(|| {
                let [of_a, of_b] = [a, b].map(|inside| unit::nanos(inside.nanos));
                format!("the probes add {of_a} to each GET_PA latency of A, {of_b} to B's")
            })
        }
        (None, None) => None,
        (known, _) => {
            let side = if known.is_some() { "B" } else { "A" };
            Some(format!("what the probes add to latencies of {side} is not known"))
        }
    }
}

/// A distribution without a share; `None` for an empty one.
pub fn without(histogram: &Histogram, part: Part, at_least: bool) -> Option<Without> {
    if histogram.is_empty() {
        return None;
    }
    let less = |value: f64, off: f64| {
        let Amount { nanos, noise } = part.inside;
        let bare = Amount::of(value - nanos as f64, off.hypot(noise as f64));
        part.inside.is_known().then_some(Bare { nanos: bare.nanos, plus_minus: bare.noise })
    };
    let quantile = |q| estimate(histogram, q).and_then(|(value, off)| less(value, off));
    Some(Without {
        inside: part.inside,
        outside: part.outside,
        at_least,
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        p999: quantile(0.999),
        mean: histogram.mean().and_then(|mean| less(mean, 0.0)),
    })
}

/// A percentile's value and how far it may be off. Where one bucket holds nearly all, the exact sum says where in it
/// they are.
fn estimate(histogram: &Histogram, q: f64) -> Option<(f64, f64)> {
    let (low, high) = match histogram.quantile(q) {
        Quantile::None | Quantile::AtLeast(_) => return None,
        Quantile::Exact(value) => return Some((value as f64, 0.0)),
        Quantile::Within(low, high) => (low as f64, high as f64),
    };
    let middle = f64::midpoint(low, high);
    let value = mean_of_bucket(histogram, low, high).map_or(middle, |mean| mean.clamp(low, high));
    Some((value, (value - low).max(high - value)))
}

/// The mean of the values in the bucket from `low` on: of the sum, what the others cannot have.
fn mean_of_bucket(histogram: &Histogram, low: f64, high: f64) -> Option<f64> {
    if histogram.saturated > 0 {
        return None;
    }
    let scheme = histogram.scheme();
    let (mut count, mut least, mut most) = (0u64, 0.0, 0.0);
    for (&index, &values) in &histogram.buckets {
        let index = index as usize;
        let (from, to) = (scheme.lowest(index) as f64, scheme.highest(index) as f64);
        if from <= low && high <= to {
            count = values;
            continue;
        }
        let (from, to) = match histogram.max {
            Some(max) if (max as f64) <= to && values == 1 => (max as f64, max as f64),
            Some(max) => (from, to.min(max as f64)),
            None => (from, to),
        };
        least += from * values as f64;
        most += to * values as f64;
    }
    if count == 0 {
        return None;
    }
    let sum = histogram.sum as f64;
    let [at_least, at_most] = [(sum - most) / count as f64, (sum - least) / count as f64];
    // Better than the bucket's middle only where it is known better.
    (at_most - at_least < high - low).then_some(f64::midpoint(at_least, at_most))
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
