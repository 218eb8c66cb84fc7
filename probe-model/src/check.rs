//! Whether counters that come from outside (a file, a pipe) can be counters at all.
//!
//! A checksum tells damage, not malice: what passes here can be added up, merged and drawn without an
//! overflow, a panic or an allocation that its own size does not justify.

use std::collections::BTreeMap;

use crate::company::Company;
use crate::histogram::Histogram;
use crate::loss::Flow;
use crate::sample::Counters;

/// More of anything in one window is not counted but made up: 35 years of calls at 1,000 a second.
/// Sums of up to 2^24 windows then cannot overflow.
const MOST: u64 = 1 << 40;
/// Rows of a table. The kernel's tables are smaller.
const MOST_ROWS: usize = 1 << 16;
/// Bytes of a name.
const LONGEST_NAME: usize = 64;

/// What is wrong.
pub type Fault = &'static str;

/// Check the size of what windows added up to: many windows of a few names each must not fill the memory.
///
/// # Errors
/// What is wrong, for people.
pub fn size(whole: &Counters) -> Result<(), Fault> {
    names(&whole.dispatch)?;
    names(&whole.flow)?;
    names(&whole.by_backend)?;
    whole.by_backend.values().try_for_each(names)?;
    names(&whole.programs)?;
    names(&whole.canary.unseen)?;
    company(&whole.company)?;
    if let Some(scans) = &whole.get_phys {
        names(&scans.runs)?;
    }
    if let Some(locks) = &whole.locks {
        names(&locks.get_phys)?;
        names(&locks.commands)?;
    }
    if whole.attribution.len() > MOST_ROWS { Err("too many rows of attribution") } else { Ok(()) }
}

/// Check a window's counters.
///
/// # Errors
/// What is wrong with them, for people.
pub fn counters(counters: &Counters) -> Result<(), Fault> {
    names(&counters.dispatch)?;
    for calls in counters.dispatch.values() {
        histogram(&calls.ok)?;
        histogram(&calls.failed)?;
        counts(&calls.errors)?;
    }
    if let Some(scans) = &counters.get_phys {
        if scans.ok.keys().any(|&class| class >= 64) {
            return Err("a scan-length class that no scan has");
        }
        scans.ok.values().try_for_each(histogram)?;
        histogram(&scans.failed)?;
        counts(&scans.errors)?;
        names(&scans.runs)?;
        scans.runs.values().try_for_each(histogram)?;
    }
    flows(&counters.flow)?;
    names(&counters.by_backend)?;
    counters.by_backend.values().try_for_each(flows)?;
    if counters.attribution.len() > MOST_ROWS {
        return Err("too many rows of attribution");
    }
    for row in counters.attribution.values() {
        let name = row.who.as_ref().map_or(0, |who| who.comm.len());
        if name > LONGEST_NAME || row.site.len() > LONGEST_NAME {
            return Err("a name that is too long");
        }
        [row.calls, row.failed].into_iter().try_for_each(count)?;
    }
    company(&counters.company)?;
    names(&counters.canary.unseen)?;
    counters.canary.unseen.values().copied().try_for_each(count)?;
    if let Some(locks) = &counters.locks {
        for part in [&locks.get_phys, &locks.commands] {
            names(part)?;
            part.values().try_for_each(histogram)?;
        }
    }
    names(&counters.programs)
}

/// Check a histogram: its scheme, every bucket, and that they add up.
///
/// # Errors
/// What is wrong with it, for people.
pub fn histogram(histogram: &Histogram) -> Result<(), Fault> {
    let Histogram { g, bits, .. } = *histogram;
    if !(1..=14).contains(&g) || bits <= g || bits > 62 {
        return Err("a histogram whose scheme is impossible");
    }
    let buckets = histogram.scheme().len();
    if histogram.buckets.keys().any(|&index| index as usize >= buckets) {
        return Err("a histogram with a bucket beyond its range");
    }
    count(histogram.count)?;
    let add = |sum: u64, next: u64| sum.checked_add(next);
    let whole = histogram.buckets.values().copied().try_fold(histogram.saturated, add);
    if whole != Some(histogram.count) {
        return Err("a histogram whose buckets do not add up to its count");
    }
    match (histogram.min, histogram.max) {
        (Some(min), Some(max)) if min > max => Err("a histogram whose smallest value is above its largest"),
        _ => Ok(()),
    }
}

fn flows(flows: &BTreeMap<String, Flow>) -> Result<(), Fault> {
    names(flows)?;
    for flow in flows.values() {
        let fates = [
            flow.entered,
            flow.exited,
            flow.unmatched,
            flow.unstored,
            flow.unreadable,
            flow.canary,
            flow.canary_missed,
            flow.superseded,
            flow.backwards,
            flow.unread,
            flow.unseen,
            flow.unarmed,
            flow.entry_missed,
            flow.return_missed,
            flow.return_recursion,
            flow.session_missed,
            flow.call_missed,
        ];
        // Differences between samples that were read while calls ended may be a little below 0; the
        // sums are right again.
        fates.into_iter().map(|fate| fate.min(fate.wrapping_neg())).try_for_each(count)?;
    }
    Ok(())
}

fn count(count: u64) -> Result<(), Fault> {
    if count > MOST { Err("a count that is too large to be one") } else { Ok(()) }
}

fn counts<K>(counts: &BTreeMap<K, u64>) -> Result<(), Fault> {
    counts.values().copied().try_for_each(count)
}

/// Its words are longer than names.
fn company(company: &Company) -> Result<(), Fault> {
    let stays = company.others.values();
    let listed = stays.flat_map(|stay| [&stay.sites, &stay.ways]);
    if company.others.len().max(company.unseen.len()) > 1024 || listed.clone().any(|list| list.len() > 64) {
        return Err("too much company");
    }
    let words = company.others.keys().chain(company.unseen.keys()).chain(listed.flatten());
    words.map(String::len).all(|length| length <= 256).then_some(()).ok_or("a name that is too long")
}

fn names<V>(map: &BTreeMap<String, V>) -> Result<(), Fault> {
    if map.len() > 1024 {
        return Err("too many names");
    }
    if map.keys().any(|name| name.len() > LONGEST_NAME) { Err("a name that is too long") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use probe_common::bucket::LATENCY;

    fn one() -> Histogram {
        let mut histogram = Histogram::new(LATENCY);
        histogram.record(700);
        histogram
    }

    #[test]
    fn what_was_counted_passes() {
        assert_eq!(histogram(&one()), Ok(()));
        assert_eq!(histogram(&Histogram::new(LATENCY)), Ok(()));
        let mut saturated = one();
        saturated.record(u64::MAX);
        assert_eq!(histogram(&saturated), Ok(()));
        assert_eq!(counters(&Counters::default()), Ok(()));
    }

    #[test]
    fn what_cannot_have_been_counted_does_not() {
        let bad: [fn(&mut Histogram); 8] = [
            |h| h.g = 0,
            |h| h.g = 32,
            |h| h.bits = 64,
            |h| h.bits = 7,
            |h| h.buckets = [(700, 0), (4096, 0)].into(),
            |h| h.count = 2,
            |h| h.saturated = u64::MAX,
            |h| h.min = Some(701),
        ];
        for (number, spoil) in bad.into_iter().enumerate() {
            let mut spoilt = one();
            spoil(&mut spoilt);
            assert!(histogram(&spoilt).is_err(), "{number}");
        }
        let mut named = Counters::default();
        named.flow.insert("x".repeat(65), Flow::default());
        assert!(counters(&named).is_err());
        let mut large = Counters::default();
        large.flow.entry("a".into()).or_default().entered = 1 << 41;
        assert!(counters(&large).is_err());
    }
}
