//! Counters of a backend and of the one that took over from it, as one set of counters.
//!
//! Refuses to know how they were read. Additive as each of them is: a total never falls.

use std::collections::BTreeMap;

use crate::attribution::Row;
use crate::histogram::Histogram;
use crate::lock::Locks;
use crate::sample::{Calls, Counters, Scans};

/// Rows of the later table begin here, where the earlier one has none for the same caller.
const LATER_SLOTS: u32 = 1 << 20;

/// What is remembered between two unions.
#[derive(Debug, Default)]
pub struct Succession {
    /// The earlier counters, the later ones and their union, as they were last.
    last: Option<(Counters, Counters, Counters)>,
    /// Keys of the later table's slots: a row keeps the one it was given.
    slots: BTreeMap<u32, u32>,
}

impl Succession {
    /// Both together. What stood still shares its counts with the union before. Heartbeat, and fates by backend,
    /// are the caller's to say.
    pub fn union(&mut self, earlier: &Counters, later: &Counters) -> Counters {
        let last = self.last.take();
        let (old, new, sum) = match &last {
            Some((old, new, sum)) => (Some(old), Some(new), Some(sum)),
            None => (None, None, None),
        };
        let mut union = Counters {
            dispatch: keyed(&earlier.dispatch, &later.dispatch, |name, a, b| {
                let was = |of: Option<&'_ Counters>| of.and_then(|of| of.dispatch.get(name)).cloned();
                calls(a, b, was(old).as_ref(), was(new).as_ref(), was(sum).as_ref())
            }),
            get_phys: either(earlier.get_phys.as_ref(), later.get_phys.as_ref(), |a, b| {
                let was = |of: Option<&'_ Counters>| of.and_then(|of| of.get_phys.clone());
                scans(a, b, was(old).as_ref(), was(new).as_ref(), was(sum).as_ref())
            }),
            flow: earlier.flow.clone(),
            attribution: earlier.attribution.clone(),
            locks: either(earlier.locks.as_ref(), later.locks.as_ref(), locks),
            programs: earlier.programs.clone(),
            taken: earlier.taken,
            ..Counters::default()
        };
        crate::backends::append_flows(&mut union.flow, &later.flow);
        union.taken.append(&later.taken);
        for (name, cost) in &later.programs {
            union.programs.entry(name.clone()).or_default().append(cost);
        }
        for (&slot, row) in &later.attribution {
            let key = *self.slots.entry(slot).or_insert_with(|| key(slot, row, &earlier.attribution));
            match union.attribution.get_mut(&key) {
                Some(known) => known.append(row),
                None => drop(union.attribution.insert(key, row.clone())),
            }
        }
        self.last = Some((earlier.clone(), later.clone(), union.clone()));
        union
    }
}

/// The key of a later row: the earlier one's of the same caller, where that has one.
fn key(slot: u32, row: &Row, earlier: &BTreeMap<u32, Row>) -> u32 {
    // A process has one number at a time, and what it is called may change.
    let caller = |row: &Row| (row.who.as_ref().map(|who| (who.pid, who.ioas)), row.site.clone());
    let same = earlier.iter().find(|(_, known)| caller(known) == caller(row));
    same.map_or_else(|| LATER_SLOTS.saturating_add(slot), |(&key, _)| key)
}

fn either<T: Clone>(a: Option<&T>, b: Option<&T>, both: impl FnOnce(&T, &T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(both(a, b)),
        (one, other) => one.or(other).cloned(),
    }
}

fn keyed<K: Ord + Clone, V: Clone>(
    a: &BTreeMap<K, V>,
    b: &BTreeMap<K, V>,
    mut both: impl FnMut(&K, &V, &V) -> V,
) -> BTreeMap<K, V> {
    let mut all = a.clone();
    for (key, value) in b {
        let sum = all.get(key).map_or_else(|| value.clone(), |known| both(key, known, value));
        all.insert(key.clone(), sum);
    }
    all
}

type Was<'a, T> = Option<&'a T>;

fn calls(a: &Calls, b: &Calls, old: Was<'_, Calls>, new: Was<'_, Calls>, sum: Was<'_, Calls>) -> Calls {
    let part = |of: fn(&Calls) -> &Histogram| histogram(of(a), of(b), old.map(of), new.map(of), sum.map(of));
    Calls {
        ok: part(|calls| &calls.ok),
        failed: part(|calls| &calls.failed),
        errors: errors(&a.errors, &b.errors),
    }
}

fn scans(a: &Scans, b: &Scans, old: Was<'_, Scans>, new: Was<'_, Scans>, sum: Was<'_, Scans>) -> Scans {
    let failed = |scans: &'_ Scans| -> Histogram { scans.failed.clone() };
    Scans {
        ok: keyed(&a.ok, &b.ok, |class, a, b| {
            let was = |of: Was<'_, Scans>| of.and_then(|scans| scans.ok.get(class)).cloned();
            histogram(a, b, was(old).as_ref(), was(new).as_ref(), was(sum).as_ref())
        }),
        failed: histogram(
            &a.failed,
            &b.failed,
            old.map(failed).as_ref(),
            new.map(failed).as_ref(),
            sum.map(failed).as_ref(),
        ),
        errors: errors(&a.errors, &b.errors),
        pages: a.pages.wrapping_add(b.pages),
        runs: keyed(&a.runs, &b.runs, |stop, a, b| {
            let was = |of: Was<'_, Scans>| of.and_then(|scans| scans.runs.get(stop)).cloned();
            histogram(a, b, was(old).as_ref(), was(new).as_ref(), was(sum).as_ref())
        }),
    }
}

/// The sum of two; the one of the last union where neither moved since.
fn histogram(
    a: &Histogram,
    b: &Histogram,
    old: Was<'_, Histogram>,
    new: Was<'_, Histogram>,
    sum: Was<'_, Histogram>,
) -> Histogram {
    if let (Some(old), Some(new), Some(sum)) = (old, new, sum)
        && is_same(a, old)
        && is_same(b, new)
    {
        return sum.clone();
    }
    let mut whole = a.clone();
    whole.merge(b);
    whole
}

fn is_same(now: &Histogram, before: &Histogram) -> bool {
    let known = |h: &Histogram| (h.count, h.sum, h.min, h.max, h.saturated);
    now.buckets.is_shared_with(&before.buckets) && known(now) == known(before)
}

fn errors(a: &BTreeMap<u32, u64>, b: &BTreeMap<u32, u64>) -> BTreeMap<u32, u64> {
    keyed(a, b, |_, a, b| a.wrapping_add(*b))
}

fn locks(a: &Locks, b: &Locks) -> Locks {
    let sum = |_: &String, a: &Histogram, b: &Histogram| {
        let mut sum = a.clone();
        sum.merge(b);
        sum
    };
    Locks {
        get_phys: keyed(&a.get_phys, &b.get_phys, sum),
        commands: keyed(&a.commands, &b.commands, sum),
        unended: a.unended.wrapping_add(b.unended),
        unstored: a.unstored.wrapping_add(b.unstored),
        missed: a.missed.wrapping_add(b.missed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::Who;
    use probe_common::bucket::{LATENCY, LATENCY_FAILED};

    fn counters(nanos: &[u64], rows: &[(u32, u32)]) -> Counters {
        let mut ok = Histogram::new(LATENCY);
        for &nanos in nanos {
            ok.record(nanos);
        }
        let row = |&(slot, pid): &(u32, u32)| {
            let who = (pid > 0).then(|| Who {
                pid,
                comm: b"a".to_vec(),
                ioas: None,
                is_threads_name: false,
                started: None,
            });
            let calls = nanos.len() as u64;
            let site = "dispatch".to_owned();
            (slot, Row { who, site, calls, failed: 0, nanos: 5, pages: 0, bytes: 0 })
        };
        Counters {
            dispatch: [(
                "IOAS_MAP".to_owned(),
                Calls { ok, failed: Histogram::new(LATENCY_FAILED), errors: [(22, 1)].into() },
            )]
            .into(),
            attribution: rows.iter().map(row).collect(),
            ..Counters::default()
        }
    }

    #[test]
    fn both_count_and_extremes_are_those_of_both() {
        let union = Succession::default().union(&counters(&[5, 900], &[]), &counters(&[7, 3, 40], &[]));
        let map = &union.dispatch["IOAS_MAP"];
        assert_eq!((map.ok.count, map.ok.sum, map.ok.min, map.ok.max), (5, 955, Some(3), Some(900)));
        assert_eq!(map.errors, [(22, 2)].into());
    }

    #[test]
    fn a_caller_has_one_row_in_both_tables_and_keeps_it() {
        let mut succession = Succession::default();
        let earlier = counters(&[5], &[(0, 0), (2, 70), (3, 71)]);
        let first = succession.union(&earlier, &counters(&[5], &[(2, 71)]));
        assert_eq!(first.attribution[&3].calls, 2);
        let second = succession.union(&earlier, &counters(&[5, 6], &[(0, 0), (2, 71), (3, 99)]));
        let calls: Vec<_> = second.attribution.iter().map(|(&key, row)| (key, row.calls)).collect();
        assert_eq!(calls, [(0, 3), (2, 1), (3, 3), (LATER_SLOTS + 3, 2)]);
        assert!(second.since(&first).attribution.values().all(|row| row.calls <= 2));
    }

    #[test]
    fn what_stood_still_is_shared() {
        let mut succession = Succession::default();
        let (earlier, later) = (counters(&[5], &[]), counters(&[6], &[]));
        let buckets = |counters: &Counters| counters.dispatch["IOAS_MAP"].ok.buckets.clone();
        let first = succession.union(&earlier, &later);
        let second = succession.union(&earlier, &later);
        assert!(buckets(&first).is_shared_with(&buckets(&second)));
        let third = succession.union(&earlier, &counters(&[6, 7], &[]));
        assert!(!buckets(&second).is_shared_with(&buckets(&third)));
        assert_eq!(third.dispatch["IOAS_MAP"].ok.count, 3);
    }
}
