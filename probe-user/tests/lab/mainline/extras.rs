//! What is recorded only on request: single calls, lock waits, the instrument's own cost.

use probe_model::call::{Call, What};

use crate::guest::{self, Recorded};
use crate::waits;

guest::by_every_backend! { single_calls_are_those_that_were_counted waits_and_scanning_add_up own_cost_is_measured }

fn record(backend: &str, name: &str, options: &[&str], load: &str) -> Recorded {
    let options = [&["--backend", backend], options].concat();
    guest::record_load_with(&format!("{name}-{backend}"), &options, load)
}

fn single_calls_are_those_that_were_counted(backend: &str) {
    let load = "--size 1M --cap page --count 2000 --errors unmapped=50";
    let recorded = record(backend, "calls", &["--calls-every", "1"], load);
    let counters = guest::counters(&recorded);
    let calls = guest::calls(&recorded);
    assert_eq!(counters.taken.kept, calls.len() as u64);
    let all: u64 = counters.flow.values().map(|flow| flow.balance().measured).sum();
    assert_eq!(counters.taken.kept + counters.taken.dropped, all, "{:?}", counters.taken);
    assert_eq!(counters.taken.dropped, 0, "the ring has room for ten thousand");
    let scans: Vec<&Call> = calls.iter().filter(|call| matches!(call.what, What::GetPhys { .. })).collect();
    assert_eq!(scans.iter().filter(|call| call.errno == 2).count(), 50);
    let ok: Vec<&&Call> = scans.iter().filter(|call| call.errno == 0).collect();
    let sum: u64 = ok.iter().map(|call| call.nanos).sum();
    assert_eq!(sum, counters.get_phys.unwrap().latency().unwrap().sum);
    for call in ok {
        let What::GetPhys { iova, cap, run, pages, stop } = &call.what else { unreachable!() };
        assert_eq!((*iova, *cap, *run, *pages), (None, Some(4096), Some(4096), Some(1)), "{call:?}");
        assert_eq!((stop.as_deref(), call.comm.as_slice()), (Some("cap"), &b"load"[..]));
        assert!(!call.slow && call.pid > 0 && call.tid > 0);
    }
    // One in ten, and every one that is slower than nothing at all can be.
    let sampled = record(backend, "calls-10", &["--calls-every", "10"], "--size 1M --count 2000");
    let scans = guest::calls(&sampled).into_iter().filter(|call| matches!(call.what, What::GetPhys { .. }));
    let count = scans.count();
    assert!((196..=200).contains(&count), "{count} of 2000, by CPU");
    let slow = record(backend, "calls-slow", &["--slower", "1ns", "--include-iova"], "--size 1M --count 500");
    let slow = guest::calls(&slow);
    assert!(slow.iter().all(|call| call.slow));
    let iovas = slow.iter().filter_map(|call| match &call.what {
        What::GetPhys { iova, .. } => Some(iova.unwrap()),
        What::Dispatch { .. } => None,
    });
    assert_eq!(iovas.filter(|iova| (0x1_0000_0000..0x1_0010_0000).contains(iova)).count(), 500);
}

/// Threads that scan one mapping wait for the mutex of its pages.
fn waits_and_scanning_add_up(backend: &str) {
    guest::huge_pages(40);
    let load = "--memory hugetlb --size 8M --cap max --step huge --threads 8 --count 160";
    let recorded = record(backend, "locks", &["--locks"], load);
    let counters = guest::counters(&recorded);
    let (locks, scans) = (counters.locks.unwrap(), counters.get_phys.unwrap());
    let parts = &locks.get_phys;
    let mutex = &parts["pages_mutex"];
    let waited = &locks.commands["IOAS_NOIOMMU_GET_PA"];
    assert!(mutex.sum > 0 && waited.count > 0, "eight threads, one mutex: some wait: {mutex:?}, {waited:?}");
    let is_complete = counters.flow.values().all(|flow| flow.balance().is_complete());
    assert!(is_complete || backend != "kprobe-session", "{:?}", counters.flow);
    // A thread whose dispatch was missed has no place for its waits.
    if is_complete {
        assert_eq!((locks.unended, locks.unstored), (0, 0));
        let measured = scans.latency().unwrap();
        assert!(parts.values().all(|part| part.count == measured.count), "{parts:?}");
        let sum: u64 = parts.values().map(|part| part.sum).sum();
        assert_eq!(sum, measured.sum, "the parts of every call's latency");
        assert!(waited.sum >= mutex.sum, "{waited:?}");
    }
    // Without the flag nothing of it is recorded.
    let without = record(backend, "no-locks", &[], "--size 1M --count 100");
    assert_eq!(guest::counters(&without).locks, None);
}

#[test]
fn scans_and_commands_that_waited_are_shown() {
    waits::of_scans_and_mappers();
}

fn own_cost_is_measured(backend: &str) {
    let recorded = record(backend, "cost", &["--self-cost"], "--size 1M --cap page --count 3000");
    let counters = guest::counters(&recorded);
    let runs: u64 = counters.programs.values().map(|program| program.runs).sum();
    let calls: u64 = counters.flow.values().map(|flow| flow.entered + flow.exited).sum();
    // Every entry and return of both sites is a run of a program, and statistics began before counting.
    assert!(runs >= calls && runs < calls + 200, "{runs} runs for {calls}");
    assert!(counters.programs.values().all(|program| program.nanos > program.runs));
    let shares = guest::header(&recorded).shares;
    let share = shares.of(backend).unwrap_or_else(|| panic!("no share: {shares:?}"));
    let statistics = share.statistics.expect("what statistics add");
    assert!(statistics.get_pa.nanos > 0, "{share:?}");
    let statistics = std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").unwrap();
    assert_eq!(statistics.trim(), "0", "the machine's setting is as before");
    guest::nothing_left();
}
