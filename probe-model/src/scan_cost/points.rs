//! Scan lengths and their median latencies: what is known of each, and how well.
//!
//! The kernel counts latencies by class of lengths (powers of two) and run lengths apart from them, so which
//! latency belongs to which length is known only where a class holds one length, or lengths whose latencies
//! keep apart. Where they do not, one point stands for the class, and its length is as uncertain as the
//! lengths are spread.

use std::collections::BTreeMap;

use serde::Serialize;
use statrs::distribution::{Binomial, DiscreteCDF};

use super::{Conditions, SURE, Work};
use crate::figures::scan_lengths;
use crate::histogram::Histogram;

/// Runs that differ by less than this factor are one length.
const NEAR: f64 = 1.25;
/// Fewer scans of a class say nothing of their spread.
const FEWEST: u64 = 3;
/// From this many scans on, order statistics bound a median at 95 %, whatever the distribution.
pub(super) const ENOUGH: u64 = 6;
/// A length with this share of a class may have a point of its own.
const SHARE: f64 = 0.15;

/// Scans of one length, or of lengths that could not be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// The length, pages looked at.
    pub pages: f64,
    /// It is this exact: 0 where it is known.
    pub pages_margin: f64,
    /// Median latency, ns.
    pub nanos: f64,
    /// Its margin, ns.
    pub nanos_margin: f64,
    /// Scans.
    pub scans: u64,
    /// It stands for lengths that differ, or that are not known.
    pub mixed: bool,
}

/// Scans whose lengths lie in one bucket.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Bounds of the length, pages looked at.
    low: f64,
    high: f64,
    /// Nominal length: where nothing else is known.
    pages: f64,
    /// Pages of the run, at least.
    run: u64,
    count: u64,
    /// Lengths that differ.
    mixed: bool,
}

/// The points of all classes, shortest first.
pub(super) fn of(work: &Work<'_>, conditions: Conditions) -> Vec<Point> {
    let mut lengths = lengths(work, conditions.page_size.max(1));
    let mut points: Vec<Point> = work
        .ok
        .iter()
        .filter(|(_, latency)| latency.count - latency.saturated.min(latency.count) >= FEWEST)
        .flat_map(|(&class, latency)| {
            let entries = lengths.remove(&class).unwrap_or_else(|| any_of(class));
            of_class(latency, &entries, conditions)
        })
        .collect();
    points.sort_by(|a, b| a.pages.total_cmp(&b.pages));
    points
}

/// Lengths by class, shortest first.
fn lengths(work: &Work<'_>, page_size: u64) -> BTreeMap<u32, Vec<Entry>> {
    let last = u32::try_from(probe_common::wire::SCAN_CLASSES - 1).unwrap_or(u32::MAX);
    let buckets = || {
        work.runs.iter().flat_map(|(stop, histogram)| {
            let scheme = histogram.scheme();
            histogram.buckets.iter().map(move |(&bucket, &count)| {
                (stop.as_str(), scheme.lowest(bucket as usize), scheme.highest(bucket as usize), count)
            })
        })
    };
    // Pages beyond those that every run has at least: 0 where all lengths are exact.
    let at_least: u64 = buckets()
        .map(|(_, low, _, count)| low.div_ceil(page_size).max(1).saturating_mul(count))
        .fold(0, u64::saturating_add);
    let excess = work.pages.saturating_sub(at_least);
    let mut classes: BTreeMap<u32, Vec<Entry>> = BTreeMap::new();
    for (stop, low, high, count) in buckets().filter(|&(.., count)| count > 0) {
        let fewest = low.div_ceil(page_size).max(1);
        let class = fewest.ilog2().min(last);
        let end = if class < last { (2 << class) - 1 } else { u64::MAX };
        // More than half of the scans have at most twice their mean share of the excess. A run that begins
        // inside a page touches one more.
        let most = (fewest + (2 * excess).div_ceil(count)).min(high.div_ceil(page_size) + 1).min(end);
        // The page that ended it was looked at too; of a short run it is not known whether there was one.
        let (more, maybe) = match stop {
            "break" => (1.0, 0.0),
            "short" => (0.0, 1.0),
            _ => (0.0, 0.0),
        };
        let (low, high) = (fewest as f64 + more, most.max(fewest) as f64 + more);
        let entry = Entry {
            low,
            high: high + maybe,
            pages: f64::midpoint(low, high),
            run: fewest,
            count,
            mixed: false,
        };
        classes.entry(class).or_default().push(entry);
    }
    for entries in classes.values_mut() {
        entries.sort_by(|a, b| a.pages.total_cmp(&b.pages));
        entries.dedup_by(|next, kept| {
            let same = next.pages.total_cmp(&kept.pages).is_eq();
            if same {
                kept.count += next.count;
                (kept.low, kept.high) = (kept.low.min(next.low), kept.high.max(next.high));
            }
            same
        });
    }
    classes
}

/// Where no run says how long the scans of a class were: as long as the class has them.
fn any_of(class: u32) -> Vec<Entry> {
    let (low, high) = scan_lengths(class);
    let Some(high) = high else { return Vec::new() };
    let (low, high) = (low as f64, high as f64);
    vec![Entry { low, high, pages: f64::midpoint(low, high), run: 1 << class, count: 1, mixed: low < high }]
}

/// A share of the scans of a class, by length: `from` to `to`, 0 to 1.
#[derive(Debug, Clone, Copy)]
struct Part {
    entry: Entry,
    from: f64,
    to: f64,
}

impl Part {
    fn share(&self) -> f64 {
        self.to - self.from
    }

    fn middle(&self) -> f64 {
        f64::midpoint(self.from, self.to)
    }
}

fn of_class(latency: &Histogram, entries: &[Entry], conditions: Conditions) -> Vec<Point> {
    let all: u64 = entries.iter().map(|entry| entry.count).sum();
    if all == 0 {
        return Vec::new();
    }
    let mut seen = 0;
    let share = |count: u64| count as f64 / all as f64;
    let parts: Vec<Part> = entries
        .iter()
        .map(|&entry| {
            seen += entry.count;
            Part { entry, from: share(seen - entry.count), to: share(seen) }
        })
        .collect();
    let large: Vec<Part> =
        if parts.iter().any(|part| part.share() >= SHARE) { clusters(&parts) } else { Vec::new() };
    let covered: f64 = large.iter().map(Part::share).sum();
    let known = Latencies { latency, clock_step: conditions.clock_step.max(1) };
    let apart = large.windows(2).all(|pair| known.are_apart(&pair[0], &pair[1]));
    if covered >= 1.0 - SHARE && apart {
        return large.iter().filter_map(|part| known.point(*part)).collect();
    }
    // One point: the median of all, and lengths as far as the median's may be. Many lengths near each other
    // have their latencies in about their own order.
    let reach = if large.is_empty() { 0.02 + 0.98 / (all as f64).sqrt() } else { 0.35 };
    let near = |part: &&Part| part.to > 0.5 - reach && part.from < 0.5 + reach;
    let (mut low, mut high, mut middle) = (f64::MAX, 0.0f64, None);
    for part in parts.iter().filter(near) {
        (low, high) = (low.min(part.entry.low), high.max(part.entry.high));
        if part.to >= 0.5 {
            middle = middle.or(Some(part.entry.pages));
        }
    }
    let pages = middle.filter(|_| large.is_empty()).unwrap_or(f64::midpoint(low, high));
    let entry = Entry { low, high, pages, run: 0, count: all, mixed: true };
    known.point(Part { entry, from: 0.0, to: 1.0 }).into_iter().collect()
}

/// Lengths that are near each other as one, without those that few scans have. How much longer one of them
/// takes is no more than other things make of it, so the order of their latencies says nothing.
fn clusters(parts: &[Part]) -> Vec<Part> {
    let mut clusters: Vec<Vec<Part>> = Vec::new();
    for &part in parts {
        match clusters.last_mut() {
            Some(near) if part.entry.run as f64 <= NEAR * near[0].entry.run as f64 => near.push(part),
            _ => clusters.push(vec![part]),
        }
    }
    let joined = clusters.iter().map(|cluster| {
        let (from, to) = (cluster[0].from, cluster[cluster.len() - 1].to);
        let rare = SHARE * (to - from);
        let usual: Vec<&Part> = cluster.iter().filter(|part| part.share() >= rare).collect();
        let usual = if usual.is_empty() { cluster.iter().collect() } else { usual };
        let mixed = usual.len() > 1 || usual.iter().any(|part| part.entry.mixed);
        let (mut low, mut high, mut sum, mut count) = (f64::MAX, 0.0f64, 0.0, 0.0);
        for Part { entry, .. } in usual {
            (low, high) = (low.min(entry.low), high.max(entry.high));
            sum += entry.pages * entry.count as f64;
            count += entry.count as f64;
        }
        let run = cluster[0].entry.run;
        Part { entry: Entry { low, high, pages: sum / count, run, count: 0, mixed }, from, to }
    });
    joined.filter(|part| part.share() >= SHARE).collect()
}

/// The latencies of a class.
struct Latencies<'a> {
    latency: &'a Histogram,
    clock_step: u64,
}

/// Where an order statistic lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Interpolated in its bucket, ns.
    nanos: f64,
    /// Its bucket, ns; as wide as the distance to a neighbour where the clock's step leaves buckets empty.
    low: f64,
    high: f64,
}

impl Latencies<'_> {
    /// The scans of `part`, whose latencies are taken to be in the order of their lengths; `None` where there
    /// are too few.
    fn point(&self, part: Part) -> Option<Point> {
        let count = self.latency.count;
        let scans = (part.share() * count as f64).round();
        if scans < FEWEST as f64 {
            return None;
        }
        let middle = self.at(part.middle() * count as f64)?;
        let (low, high) = self.interval(&part)?;
        // Where the latencies of other lengths reach into these, the middle is off by a part of their share.
        let reach = 0.25 * part.share() * (1.0 - part.share()) * count as f64;
        let mixed = if reach > 0.0 {
            let rank = part.middle() * count as f64;
            let (below, above) = (self.at(rank - reach)?.nanos, self.at(rank + reach)?.nanos);
            (above - middle.nanos).max(middle.nanos - below)
        } else {
            0.0
        };
        let drawn = (high - middle.nanos).max(middle.nanos - low);
        // Anywhere in a bucket, or a step of the clock.
        let width = (middle.high - middle.low).max(self.clock_step as f64);
        let cut = SURE * width / 12f64.sqrt();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
        let scans = scans as u64;
        Some(Point {
            pages: part.entry.pages,
            pages_margin: (part.entry.high - part.entry.pages).max(part.entry.pages - part.entry.low),
            nanos: middle.nanos,
            nanos_margin: (drawn.powi(2) + cut.powi(2) + mixed.powi(2)).sqrt(),
            scans,
            mixed: part.entry.mixed,
        })
    }

    /// Where the true middle of `part` lies in 95 of 100 cases, whatever the distribution: order statistics
    /// of the scans; with too few for that (below 6) the whole range, widened as a normal one has to be.
    fn interval(&self, part: &Part) -> Option<(f64, f64)> {
        let count = self.latency.count;
        let binomial = Binomial::new(part.middle(), count).ok()?;
        let (first, last) = (binomial.inverse_cdf(0.025), binomial.inverse_cdf(0.975) + 1);
        if first >= 1 && last <= count {
            // Ranks are counted at the middle of the values: the k-th of them lies at k − ½.
            return Some((self.at(first as f64 - 0.5)?.nanos, self.at(last as f64 - 0.5)?.nanos));
        }
        let widen = match count {
            ..=3 => 1.5,
            4 => 0.8,
            5 => 0.6,
            _ => 0.5,
        };
        let (middle, low) = (self.at(part.middle() * count as f64)?.nanos, self.at(0.5)?);
        let high = self.at(count as f64 - 0.5)?;
        let range = widen * (high.high - low.low);
        Some((middle - range, middle + range))
    }

    /// The value at a rank, `0` to `count`; the largest bucket's end for values beyond the range.
    fn at(&self, rank: f64) -> Option<Place> {
        let scheme = self.latency.scheme();
        let bounds = |bucket: u32| {
            let low = scheme.lowest(bucket as usize);
            // A known extreme bounds its bucket.
            let low = self.latency.min.map_or(low, |min| low.max(min));
            let end = scheme.highest(bucket as usize) + 1;
            let end = self.latency.max.map_or(end, |max| end.min(max + 1));
            (low as f64, end.max(low + 1) as f64)
        };
        let (mut below, mut before) = (0u64, None);
        let mut buckets = self.latency.buckets.iter().filter(|&(_, &count)| count > 0).peekable();
        while let Some((&bucket, &count)) = buckets.next() {
            let (low, high) = bounds(bucket);
            if (below + count) as f64 >= rank || buckets.peek().is_none() {
                let share = ((rank - below as f64) / count as f64).clamp(0.0, 1.0);
                let nanos = low + share * (high - low);
                // Empty buckets beside a full one: the clock may have no value there.
                let next = buckets.peek().map(|&(&next, _)| bounds(next).0 - low);
                let gap = before.into_iter().map(|before| low - before).chain(next);
                let gap = gap.fold(f64::MAX, f64::min);
                let gap = if gap < f64::MAX { gap.max(high - low) } else { high - low };
                let centre = f64::midpoint(low, high);
                return Some(Place { nanos, low: centre - gap / 2.0, high: centre + gap / 2.0 });
            }
            below += count;
            before = Some(low);
        }
        None
    }

    /// Whether the latencies of two neighbouring parts keep apart: few lie between their middles.
    fn are_apart(&self, shorter: &Part, longer: &Part) -> bool {
        let count = self.latency.count as f64;
        let middles = self.at(shorter.middle() * count).zip(self.at(longer.middle() * count));
        let Some((low, high)) = middles.map(|(low, high)| (low.nanos, high.nanos)) else { return false };
        let third = (high - low) / 3.0;
        let scheme = self.latency.scheme();
        let between = |&(&bucket, _): &(&u32, &u64)| {
            let (from, to) = (scheme.lowest(bucket as usize) as f64, scheme.highest(bucket as usize) as f64);
            to >= low + third && from <= high - third
        };
        let between: u64 = self.latency.buckets.iter().filter(between).map(|(_, &count)| count).sum();
        third > 0.0 && between as f64 <= 0.1 * shorter.share().min(longer.share()) * count
    }
}
