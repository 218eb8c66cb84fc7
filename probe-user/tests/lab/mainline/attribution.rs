//! Whose calls they were, by each backend; and what happens when the table of callers is full.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use iovascope::workload::iommufd::{Iommufd, Query};
use iovascope::workload::quantity::Iova;
use probe_common::wire::CALLERS;
use probe_model::attribution::Row;
use probe_model::company::Known;
use probe_model::sample::{Calls, Counters};
use rustix::io::Errno;

use crate::background::Recorder;
use crate::guest::{self, Running};

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
    assert_eq!(counters.company.known(), Known::Alone, "{:?}", counters.company);
    let scans: Vec<&Row> = rows(&counters, "get_phys");
    let mut counts: Vec<u64> = scans.iter().map(|row| row.calls).collect();
    counts.sort_unstable();
    assert_eq!(counts, [300, 700]);
    for row in scans {
        let who = row.who.as_ref().unwrap();
        assert!(who.ioas.is_some(), "{row:?}");
        assert_eq!((row.pages, row.bytes), (row.calls, row.calls * 4096));
        let process =
            rows(&counters, "dispatch").into_iter().find(|row| row.who.as_ref().unwrap().pid == who.pid);
        assert!(process.unwrap().calls > row.calls, "the process made other calls too");
    }
    // The driver's threads are called `load`.
    let names: BTreeSet<_> = counters.attribution.values().map(name).collect();
    assert_eq!(names, [("iovascope".to_owned(), false)].into());
}

/// A row's name, and whether it is a thread's.
fn name(row: &Row) -> (String, bool) {
    let who = row.who.as_ref().unwrap();
    (String::from_utf8(who.comm.clone()).unwrap(), who.is_threads_name)
}

/// Where the kernel's types cannot be read, a thread's name is said to be one.
#[test]
fn without_types_a_row_has_a_threads_name_and_says_so() {
    let file = guest::file("attribution-untyped.iova");
    let script = "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"";
    let mut record = Command::new("unshare");
    record.args(["-m", "sh", "-c", script, "sh", "iovascope", "record", "--backend", "kprobe", "-o"]);
    record.arg(&file).args(["--", "iovascope", "load", "--size", "1M", "--cap", "page", "--count", "100"]);
    guest::succeed(&mut record);
    let counters = guest::counters_of(&file);
    let scans: Vec<_> = rows(&counters, "get_phys").into_iter().map(name).collect();
    assert_eq!(scans, [("load".to_owned(), true)]);
    let text = guest::stdout(&guest::succeed(guest::iovascope(&["report"]).arg(&file)));
    assert!(text.contains("names are of threads"), "{text}");
}

/// Set the name of this process.
fn call_this(name: &str) {
    fs::write("/proc/self/comm", name).unwrap();
}

/// Ask for a page of a new IOAS, `calls` times: it is not mapped.
fn ask(calls: u64) {
    let iommufd = Iommufd::open(Path::new("/dev/iommu")).unwrap();
    let query = Query { ioas: iommufd.ioas_alloc().unwrap(), flags: 0, iova: Iova(0), length: 4096 };
    for _ in 0..calls {
        assert_eq!(iommufd.get_pa(query).unwrap_err(), Errno::NOENT);
    }
}

/// A process has the name that it has now, at both sites, whenever its rows were made.
#[test]
fn a_renamed_process_has_its_last_name_at_both_sites() {
    let own = fs::read_to_string("/proc/self/comm").unwrap();
    let running = Running::begin("fsession", "attribution-renamed");
    let names = |counters: &Counters| {
        counters.attribution.values().map(name).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    let only = |text: &str| vec![(text.to_owned(), false)];
    call_this("before");
    ask(1);
    // A sample with the first name in it; the next look is that of the call after.
    while names(&running.so_far()) != only("before") {}
    call_this("after");
    ask(2);
    let counters = guest::counters_of(&running.end_recording());
    call_this(own.trim_end());
    assert_eq!(names(&counters), only("after"));
    assert_eq!(rows(&counters, "dispatch").iter().map(|row| row.calls).collect::<Vec<_>>(), [5]);
    assert_eq!(rows(&counters, "get_phys").iter().map(|row| row.calls).sum::<u64>(), 3);
}

/// The environment variable that makes a process of these tests one caller of this name.
const CALLER: &str = "LAB_CALLER";

/// More processes than a table of 254 rows for two sites has room for, each by its name.
#[test]
fn more_processes_than_127_have_rows_of_their_own() {
    processes_have_rows("more_processes_than_127_have_rows_of_their_own", 130);
}

/// `cargo xtask test long`.
mod long {
    #[test]
    fn a_thousand_processes_have_rows_of_their_own() {
        super::processes_have_rows("long::a_thousand_processes_have_rows_of_their_own", 1000);
    }
}

/// The test `test` again and again, in processes that are callers.
fn processes_have_rows(test: &str, processes: u64) {
    if let Ok(number) = std::env::var(CALLER) {
        call_this(&format!("child-{number}"));
        return ask(1 + number.parse::<u64>().unwrap() % 2);
    }
    // The backend that misses no call of threads that are in each other's way: each is counted here.
    let recorder = Recorder::start("attribution-many", &["--backend", "kprobe-session"]);
    for number in 0..processes {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", &format!("mainline::attribution::{test}")]);
        guest::succeed(child.env(CALLER, number.to_string()));
    }
    let (status, counters) = recorder.end();
    assert_eq!(status, Some(0));
    all_is_attributed(&counters);
    for (site, others) in [("dispatch", 1), ("get_phys", 0)] {
        let seen: BTreeMap<_, _> =
            rows(&counters, site).into_iter().map(|row| (name(row).0, row.calls)).collect();
        let calls = |number| (format!("child-{number}"), 1 + number % 2 + others);
        assert_eq!(seen, (0..processes).map(calls).collect());
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
    // A row is for those who find it full; the other site's table has this process alone.
    assert_eq!(named, CALLERS - 1 + 1);
    assert_eq!(others, 3 * (ioases - (CALLERS as u64 - 1)));
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
