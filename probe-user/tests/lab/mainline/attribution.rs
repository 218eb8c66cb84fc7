//! Whose calls they were, by each backend; and what happens when the table of callers is full.

use std::collections::BTreeMap;
use std::path::Path;

use iovascope::workload::iommufd::{Iommufd, Query};
use iovascope::workload::quantity::Iova;
use probe_common::wire::CALLERS;
use probe_model::attribution::Row;
use probe_model::sample::{Calls, Counters};
use rustix::io::Errno;

use crate::background::Recorder;
use crate::guest;

guest::by_every_backend! { every_call_is_someones }

/// Two drivers, one after the other.
fn every_call_is_someones(backend: &str) {
    let file = guest::file(format!("attribution-{backend}.iova"));
    let load = |count| {
        format!("iovascope load --size 1M --cap page --count {count} -o /tmp/attribution-{count}.json")
    };
    let script = format!("{} && {}; rm /tmp/attribution-*", load(300), load(700));
    let mut record = guest::iovascope(&["record", "--backend", backend, "-o"]);
    guest::succeed(record.arg(&file).args(["--", "sh", "-c", &script]));
    let counters = guest::counters_of(&file);
    all_is_attributed(&counters);
    let scans: Vec<&Row> = rows(&counters, "get_phys");
    let mut counts: Vec<u64> = scans.iter().map(|row| row.calls).collect();
    counts.sort_unstable();
    assert_eq!(counts, [300, 700]);
    for row in scans {
        let who = row.who.as_ref().unwrap();
        // The name of the thread that calls.
        assert_eq!((who.comm.as_slice(), who.ioas.is_some()), (&b"load"[..], true), "{row:?}");
        assert_eq!((row.pages, row.bytes), (row.calls, row.calls * 4096));
        let process =
            rows(&counters, "dispatch").into_iter().find(|row| row.who.as_ref().unwrap().pid == who.pid);
        assert!(process.unwrap().calls > row.calls, "the process made other calls too");
    }
}

/// More IOASes than the table has rows: those that come too late share one, and nothing is lost.
#[test]
fn a_full_table_keeps_the_totals() {
    let recorder = Recorder::start("attribution-full", &[]);
    let iommufd = Iommufd::open(Path::new("/dev/iommu")).unwrap();
    let ioases = CALLERS as u64 + 20;
    for _ in 0..ioases {
        let ioas = iommufd.ioas_alloc().unwrap();
        for _ in 0..3 {
            let query = Query { ioas, flags: 0, iova: Iova(0), length: 4096 };
            assert_eq!(iommufd.get_pa(query).unwrap_err(), Errno::NOENT);
        }
    }
    drop(iommufd);
    let (status, counters) = recorder.end();
    assert_eq!(status, Some(0));
    all_is_attributed(&counters);
    assert_eq!(counters.get_phys.as_ref().unwrap().failed.count, 3 * ioases);
    let is_other = |row: &&Row| row.who.is_none();
    let others: u64 = rows(&counters, "get_phys").into_iter().filter(is_other).map(|row| row.calls).sum();
    let named = counters.attribution.values().filter(|row| row.who.is_some()).count();
    // Two rows are for those who find it full, one is this process at the dispatch.
    assert_eq!(named, CALLERS - 2);
    assert_eq!(others, 3 * (ioases - (CALLERS as u64 - 3)));
}

/// An IOAS where another one was is not taken for it.
#[test]
fn ioases_one_after_the_other_are_told_apart_by_their_numbers() {
    let recorder = Recorder::start("attribution-reuse", &[]);
    let iommufd = Iommufd::open(Path::new("/dev/iommu")).unwrap();
    let mut numbers = BTreeMap::new();
    for round in 1..=6 {
        // The number of a destroyed one is free again; one that stays in between takes it.
        let ioas = iommufd.ioas_alloc().unwrap();
        for _ in 0..round {
            iommufd.get_pa(Query { ioas, flags: 0, iova: Iova(0), length: 4096 }).unwrap_err();
        }
        *numbers.entry(ioas.0).or_insert(0) += round;
        iommufd.destroy(ioas).unwrap();
        iommufd.ioas_alloc().unwrap();
    }
    drop(iommufd);
    let (_, counters) = recorder.end();
    all_is_attributed(&counters);
    let mut seen = BTreeMap::new();
    for row in rows(&counters, "get_phys") {
        *seen.entry(row.who.as_ref().unwrap().ioas.unwrap()).or_insert(0) += row.calls;
    }
    assert!(numbers.len() > 1);
    assert_eq!(seen, numbers);
}

fn rows<'a>(counters: &'a Counters, site: &str) -> Vec<&'a Row> {
    counters.attribution.values().filter(|row| row.site == site).collect()
}

/// The rows of a site add up to what is counted of it without them.
fn all_is_attributed(counters: &Counters) {
    let sum = |site, what: fn(&Row) -> u64| rows(counters, site).into_iter().map(what).sum::<u64>();
    let scans = counters.get_phys.as_ref().unwrap();
    let ok: u64 = scans.ok.values().map(|latency| latency.sum).sum();
    assert_eq!(sum("get_phys", |row| row.calls), scans.count());
    assert_eq!(sum("get_phys", |row| row.failed), scans.failed.count);
    assert_eq!(sum("get_phys", |row| row.nanos), ok + scans.failed.sum);
    assert_eq!(sum("get_phys", |row| row.bytes), scans.runs.values().map(|runs| runs.sum).sum::<u64>());
    let commands = counters.dispatch.values();
    assert_eq!(sum("dispatch", |row| row.calls), commands.clone().map(Calls::count).sum::<u64>());
    assert_eq!(
        sum("dispatch", |row| row.failed),
        commands.clone().map(|calls| calls.failed.count).sum::<u64>()
    );
    assert_eq!(
        sum("dispatch", |row| row.nanos),
        commands.map(|calls| calls.ok.sum + calls.failed.sum).sum::<u64>()
    );
}
