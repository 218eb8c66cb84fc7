//! Calls that a guard took over: handed over one by one, counted here as the programs count the others.

use std::collections::BTreeMap;

use aya::maps::{MapData, RingBuf};
use probe_common::bucket::{LATENCY, LATENCY_FAILED, RUN};
use probe_common::command;
use probe_common::site::{SITES, SiteId};
use probe_common::wire::{CallRecord, CallerCell, Stop, scan_class};
use probe_model::attribution::Row;
use probe_model::histogram::Histogram;
use probe_model::sample::{Calls, Scans};
use zerocopy::FromBytes as _;

/// The ring, and what came out of it so far.
pub(super) struct Guarded {
    records: RingBuf<MapData>,
    dispatch: BTreeMap<String, Calls>,
    scans: Scans,
    callers: BTreeMap<u32, CallerCell>,
}

impl Guarded {
    pub(super) fn new(records: RingBuf<MapData>) -> Self {
        let scans = Scans {
            ok: BTreeMap::new(),
            failed: Histogram::new(LATENCY_FAILED),
            errors: BTreeMap::new(),
            pages: 0,
            runs: BTreeMap::new(),
        };
        Self { records, dispatch: BTreeMap::new(), scans, callers: BTreeMap::new() }
    }

    /// Count everything that is in the ring.
    pub(super) fn drain(&mut self) {
        while let Some(item) = self.records.next() {
            if let Ok(record) = CallRecord::read_from_bytes(&item) {
                count(&record, &mut self.dispatch, &mut self.scans, &mut self.callers);
            }
        }
    }

    /// Add the calls to those that programs counted themselves.
    pub(super) fn add_to_dispatch(&self, dispatch: &mut BTreeMap<String, Calls>) {
        for (name, calls) in &self.dispatch {
            match dispatch.get_mut(name) {
                Some(known) => {
                    known.ok.merge(&calls.ok);
                    known.failed.merge(&calls.failed);
                    add_errors(&mut known.errors, &calls.errors);
                }
                None => drop(dispatch.insert(name.clone(), calls.clone())),
            }
        }
    }

    /// The same of scans; their pages are in the rows of callers.
    pub(super) fn add_to_scans(&self, scans: &mut Scans) {
        merge(&mut scans.ok, &self.scans.ok);
        scans.failed.merge(&self.scans.failed);
        add_errors(&mut scans.errors, &self.scans.errors);
        merge(&mut scans.runs, &self.scans.runs);
    }

    /// The same of callers; `row` makes the row of a slot that programs have not counted in yet.
    pub(super) fn add_to_rows(&self, rows: &mut BTreeMap<u32, Row>, row: impl Fn(u32) -> Row) {
        for (&slot, cell) in &self.callers {
            let row = rows.entry(slot).or_insert_with(|| row(slot));
            row.calls += cell.calls;
            row.failed += cell.failed;
            row.nanos += cell.nanos;
            row.pages += cell.pages;
            row.bytes += cell.bytes;
        }
    }
}

fn count(
    record: &CallRecord,
    dispatch: &mut BTreeMap<String, Calls>,
    scans: &mut Scans,
    callers: &mut BTreeMap<u32, CallerCell>,
) {
    let is_ok = record.errno == 0;
    let caller = callers.entry(record.slot).or_default();
    caller.calls += 1;
    caller.failed += u64::from(!is_ok);
    caller.nanos += record.nanos;
    caller.pages += record.pages;
    caller.bytes += record.run;
    if record.site == SiteId::Dispatch as u32 {
        let name = command::name_of(record.kind as usize).unwrap_or("UNKNOWN");
        let calls = dispatch.entry(name.to_owned()).or_insert_with(|| Calls {
            ok: Histogram::new(LATENCY),
            failed: Histogram::new(LATENCY_FAILED),
            errors: BTreeMap::new(),
        });
        let latency = if is_ok { &mut calls.ok } else { &mut calls.failed };
        latency.record(record.nanos);
        count_error(&mut calls.errors, record.errno);
        return;
    }
    debug_assert_eq!(SITES[record.site as usize].id, SiteId::GetPhys);
    if !is_ok {
        scans.failed.record(record.nanos);
        count_error(&mut scans.errors, record.errno);
        return;
    }
    let class = u32::try_from(scan_class(record.pages)).unwrap_or(u32::MAX);
    scans.ok.entry(class).or_insert_with(|| Histogram::new(LATENCY)).record(record.nanos);
    let stop = Stop::ALL.get(record.kind as usize).copied().unwrap_or(Stop::Short).name();
    scans.runs.entry(stop.to_owned()).or_insert_with(|| Histogram::new(RUN)).record(record.run);
}

fn count_error(errors: &mut BTreeMap<u32, u64>, errno: u32) {
    if errno > 0 {
        *errors.entry(errno).or_default() += 1;
    }
}

fn add_errors(ours: &mut BTreeMap<u32, u64>, theirs: &BTreeMap<u32, u64>) {
    for (&errno, &count) in theirs {
        *ours.entry(errno).or_default() += count;
    }
}

fn merge<K: Ord + Clone>(ours: &mut BTreeMap<K, Histogram>, theirs: &BTreeMap<K, Histogram>) {
    for (key, histogram) in theirs {
        match ours.get_mut(key) {
            Some(known) => known.merge(histogram),
            None => drop(ours.insert(key.clone(), histogram.clone())),
        }
    }
}
