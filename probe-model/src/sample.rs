//! Samples: every cumulative counter, read at one instant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::attribution::{self, Row};
use crate::backends::{self, ByBackend};
use crate::call::Taken;
use crate::canary::Canary;
use crate::company::Company;
use crate::cost::ProgramCost;
use crate::histogram::Histogram;
use crate::lock::Locks;
use crate::loss::Flow;

/// When a sample was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Instant {
    /// `CLOCK_MONOTONIC`, ns: the clock of every latency.
    pub monotonic: u64,
    /// `CLOCK_REALTIME`, ns since 1970 UTC: for people only, it may step.
    pub realtime: u64,
}

/// Every cumulative counter at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// What, since the probes were armed.
    pub counters: Counters,
}

/// Everything that is counted. Additive: the difference of two is what happened between them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// The dispatch site by command (`probe_common::command` names); only commands that were called.
    pub dispatch: BTreeMap<String, Calls>,
    /// The `get_phys` site; `None` when it was not called.
    pub get_phys: Option<Scans>,
    /// Fates of the calls by site name, whatever backend counted them.
    pub flow: BTreeMap<String, Flow>,
    /// The same by the backend that counted them, where backends may follow each other; else empty, and one
    /// backend counted everything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_backend: ByBackend,
    /// Whose calls, by slot of the kernel's table; only rows with calls.
    #[serde(default)]
    pub attribution: BTreeMap<u32, Row>,
    /// The recorder's own heartbeat, which is in no other figure.
    #[serde(default)]
    pub canary: Canary,
    /// Who else worked on our functions.
    #[serde(default, skip_serializing_if = "Company::is_unlooked")]
    pub company: Company,
    /// Lock waits; only where they were asked for.
    #[serde(default)]
    pub locks: Option<Locks>,
    /// Run time of our BPF programs by name; only where it was asked for.
    #[serde(default)]
    pub programs: BTreeMap<String, ProgramCost>,
    /// Calls taken for single records.
    #[serde(default)]
    pub taken: Taken,
}

/// Calls of one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// Latency of successful calls, ns.
    pub ok: Histogram,
    /// Latency of failed calls, ns.
    pub failed: Histogram,
    /// Failed calls by errno; 0 gathers errnos that were not kept apart.
    pub errors: BTreeMap<u32, u64>,
}

/// Calls of `iopt_get_phys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scans {
    /// Latency of successful calls, ns, by scan-length class: class `c` holds scans of `2^c` to
    /// `2^(c+1) - 1` pages, the last class (15) all longer ones.
    pub ok: BTreeMap<u32, Histogram>,
    /// Latency of failed calls, ns.
    pub failed: Histogram,
    /// Failed calls by errno.
    pub errors: BTreeMap<u32, u64>,
    /// Sum of the scan lengths: the pages that the returned runs touch. A scan that stopped at a
    /// discontiguity looked at one page more.
    pub pages: u64,
    /// Run lengths in bytes by stop (`probe_common::wire::Stop` names).
    pub runs: BTreeMap<String, Histogram>,
}

impl Calls {
    /// Successful and failed calls together.
    pub fn count(&self) -> u64 {
        self.ok.count + self.failed.count
    }

    fn since(&self, older: &Self) -> Self {
        Self {
            ok: self.ok.since(&older.ok),
            failed: self.failed.since(&older.failed),
            errors: errors_since(&self.errors, &older.errors),
        }
    }

    fn append(&mut self, other: &Self) {
        self.ok.append(&other.ok);
        self.failed.append(&other.failed);
        append_errors(&mut self.errors, &other.errors);
    }
}

impl Scans {
    /// Successful and failed calls together.
    pub fn count(&self) -> u64 {
        self.ok.values().map(|histogram| histogram.count).sum::<u64>() + self.failed.count
    }

    /// Latency of all successful calls, whatever their scan length.
    pub fn latency(&self) -> Option<Histogram> {
        merged(self.ok.values())
    }

    fn since(&self, older: &Self) -> Self {
        Self {
            ok: histograms_since(&self.ok, &older.ok),
            failed: self.failed.since(&older.failed),
            errors: errors_since(&self.errors, &older.errors),
            pages: self.pages.wrapping_sub(older.pages),
            runs: histograms_since(&self.runs, &older.runs),
        }
    }

    fn append(&mut self, other: &Self) {
        append_histograms(&mut self.ok, &other.ok);
        self.failed.append(&other.failed);
        append_errors(&mut self.errors, &other.errors);
        self.pages = self.pages.wrapping_add(other.pages);
        append_histograms(&mut self.runs, &other.runs);
    }
}

impl Calls {
    fn is_still(&self) -> bool {
        self.ok.is_still() && self.failed.is_still() && self.errors.is_empty()
    }
}

impl Scans {
    fn is_still(&self) -> bool {
        let none = self.ok.is_empty() && self.runs.is_empty() && self.errors.is_empty();
        none && self.failed.is_still() && self.pages == 0
    }
}

impl Counters {
    /// What was counted since `older`, a state of the same counters before.
    #[must_use]
    pub fn since(&self, older: &Self) -> Self {
        let dispatch = self
            .dispatch
            .iter()
            .map(|(name, calls)| match older.dispatch.get(name) {
                Some(before) => (name.clone(), calls.since(before)),
                None => (name.clone(), calls.clone()),
            })
            .filter(|(_, calls)| !calls.is_still())
            .collect();
        let get_phys = match (&self.get_phys, &older.get_phys) {
            (Some(scans), Some(before)) => Some(scans.since(before)),
            (scans, _) => scans.clone(),
        };
        Self {
            dispatch,
            get_phys: get_phys.filter(|scans| !scans.is_still()),
            flow: backends::flows_since(&self.flow, &older.flow),
            by_backend: backends::since(&self.by_backend, &older.by_backend),
            attribution: rows_since(&self.attribution, &older.attribution),
            canary: self.canary.since(&older.canary),
            company: self.company.since(&older.company),
            locks: match (&self.locks, &older.locks) {
                (Some(locks), Some(before)) => Some(locks.since(before)),
                (locks, _) => locks.clone(),
            },
            programs: self
                .programs
                .iter()
                .map(|(name, cost)| {
                    (name.clone(), cost.since(&older.programs.get(name).copied().unwrap_or_default()))
                })
                .collect(),
            taken: self.taken.since(&older.taken),
        }
    }

    /// Add what the same counters counted next, as [`Counters::since`] gave it.
    pub fn append(&mut self, other: &Self) {
        for (name, calls) in &other.dispatch {
            match self.dispatch.get_mut(name) {
                Some(ours) => ours.append(calls),
                None => drop(self.dispatch.insert(name.clone(), calls.clone())),
            }
        }
        match (&mut self.get_phys, &other.get_phys) {
            (Some(ours), Some(theirs)) => ours.append(theirs),
            (ours @ None, theirs) => ours.clone_from(theirs),
            (Some(_), None) => {}
        }
        backends::append_flows(&mut self.flow, &other.flow);
        backends::append(&mut self.by_backend, &other.by_backend);
        for (&slot, row) in &other.attribution {
            match self.attribution.get_mut(&slot) {
                Some(ours) => ours.append(row),
                None => drop(self.attribution.insert(slot, row.clone())),
            }
        }
        attribution::rename(&mut self.attribution, &other.attribution);
        self.canary.append(&other.canary);
        self.company.append(&other.company);
        match (&mut self.locks, &other.locks) {
            (Some(ours), Some(theirs)) => ours.append(theirs),
            (ours @ None, theirs) => ours.clone_from(theirs),
            (Some(_), None) => {}
        }
        for (name, cost) in &other.programs {
            self.programs.entry(name.clone()).or_default().append(cost);
        }
        self.taken.append(&other.taken);
    }
}

fn rows_since(newer: &BTreeMap<u32, Row>, older: &BTreeMap<u32, Row>) -> BTreeMap<u32, Row> {
    newer
        .iter()
        .map(|(&slot, row)| (slot, older.get(&slot).map_or_else(|| row.clone(), |before| row.since(before))))
        .filter(|(_, row)| !row.is_empty())
        .collect()
}

fn merged<'a>(mut histograms: impl Iterator<Item = &'a Histogram>) -> Option<Histogram> {
    let mut all = histograms.next()?.clone();
    histograms.for_each(|histogram| all.merge(histogram));
    Some(all)
}

pub(crate) fn histograms_since<K: Ord + Clone>(
    newer: &BTreeMap<K, Histogram>,
    older: &BTreeMap<K, Histogram>,
) -> BTreeMap<K, Histogram> {
    newer
        .iter()
        .map(|(key, histogram)| match older.get(key) {
            Some(before) => (key.clone(), histogram.since(before)),
            None => (key.clone(), histogram.clone()),
        })
        .filter(|(_, histogram)| !histogram.is_still())
        .collect()
}

pub(crate) fn append_histograms<K: Ord + Clone>(
    ours: &mut BTreeMap<K, Histogram>,
    theirs: &BTreeMap<K, Histogram>,
) {
    for (key, histogram) in theirs {
        match ours.get_mut(key) {
            Some(known) => known.append(histogram),
            None => drop(ours.insert(key.clone(), histogram.clone())),
        }
    }
}

fn errors_since(newer: &BTreeMap<u32, u64>, older: &BTreeMap<u32, u64>) -> BTreeMap<u32, u64> {
    newer
        .iter()
        .map(|(&errno, &count)| (errno, count.wrapping_sub(older.get(&errno).copied().unwrap_or(0))))
        .filter(|&(_, count)| count > 0)
        .collect()
}

fn append_errors(ours: &mut BTreeMap<u32, u64>, theirs: &BTreeMap<u32, u64>) {
    for (&errno, &count) in theirs {
        *ours.entry(errno).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use probe_common::bucket::{LATENCY, LATENCY_FAILED};

    fn calls(ok: &[u64], failed: &[(u32, u64)]) -> Calls {
        let mut calls = Calls {
            ok: Histogram::new(LATENCY),
            failed: Histogram::new(LATENCY_FAILED),
            errors: BTreeMap::new(),
        };
        for &ns in ok {
            calls.ok.record(ns);
        }
        for &(errno, ns) in failed {
            calls.failed.record(ns);
            *calls.errors.entry(errno).or_default() += 1;
        }
        calls
    }

    #[test]
    fn what_is_read_a_window_late_is_not_lost() {
        let scans = |pages, ok: &[u64]| Scans {
            ok: [(
                0,
                ok.iter().fold(Histogram::new(LATENCY), |mut all, &ns| {
                    all.record(ns);
                    all
                }),
            )]
            .into(),
            failed: Histogram::new(LATENCY_FAILED),
            errors: BTreeMap::new(),
            pages,
            runs: BTreeMap::new(),
        };
        let counters = |get_phys| Counters { get_phys: Some(get_phys), ..Counters::default() };
        // The second call was counted, and its pages, its sum and that it is the longest not yet read.
        let mut torn = scans(1, &[5, 900]);
        let all = torn.ok.get_mut(&0).unwrap();
        (all.sum, all.max) = (5, Some(5));
        let (torn, whole) = (counters(torn), counters(scans(2, &[5, 900])));
        let late = whole.since(&torn);
        assert_eq!(late.get_phys.as_ref().map(Scans::count), Some(0));
        let mut sum = torn;
        sum.append(&late);
        assert_eq!(sum, whole);
        assert_eq!(whole.since(&whole).get_phys, None);
    }

    #[test]
    fn windows_add_up_to_the_whole() {
        let older = Counters {
            dispatch: [("IOAS_MAP".into(), calls(&[5], &[(22, 7)]))].into(),
            flow: [("dispatch".into(), Flow { entered: 2, exited: 2, ..Flow::default() })].into(),
            ..Counters::default()
        };
        let newer = Counters {
            dispatch: [
                ("IOAS_MAP".into(), calls(&[5, 900], &[(22, 7), (2, 1)])),
                ("DESTROY".into(), calls(&[], &[(2, 3)])),
            ]
            .into(),
            flow: [("dispatch".into(), Flow { entered: 5, exited: 5, ..Flow::default() })].into(),
            ..Counters::default()
        };
        let window = newer.since(&older);
        assert_eq!(window.dispatch["IOAS_MAP"].errors, [(2, 1)].into());
        assert_eq!(window.dispatch["DESTROY"].count(), 1);
        assert_eq!(window.flow["dispatch"].entered, 3);
        let mut whole = older;
        whole.append(&window);
        assert_eq!(whole, newer);
    }
}
