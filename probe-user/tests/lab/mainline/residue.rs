//! Attaching and detaching under load, and dying in the middle of it: the counts are exact and nothing stays.
//!
//! The short forms run always, the long ones by `cargo xtask test long`.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use iovascope::workload::memory::Memory;

use crate::chance::Chance;
use crate::driver::{Buffer, Caller, SetAtEnd};
use crate::guest::{self, Running, begun};
use crate::judge;

const BACKENDS: [&str; 4] = ["fsession", "fentry", "kprobe-session", "kprobe"];
/// Of the load.
const THREADS: u64 = 2;
/// Calls of a thread between two pauses, and the pause: the two CPUs of the guest have recorders to run too.
const BURST: u64 = 20;
const PAUSE: Duration = Duration::from_millis(1);
/// Between two looks.
const A_LITTLE: Duration = Duration::from_micros(200);
/// The same choices at every run.
const SEED: u64 = 0x10a5_c09e;

#[test]
fn recorders_come_and_go_under_load() {
    come_and_go(8);
}

#[test]
fn recorders_killed_at_any_time_leave_nothing() {
    killed(8);
}

/// `cargo xtask test long`.
mod long {
    #[test]
    fn a_thousand_recorders_come_and_go_under_load() {
        super::come_and_go(1000);
    }

    #[test]
    fn three_hundred_recorders_killed_at_any_time_leave_nothing() {
        super::killed(300);
    }
}

/// Calls from some threads for as long as `work` takes; it can see how many there were.
fn under_load(work: impl FnOnce(&AtomicU64)) {
    guest::huge_pages(8);
    let buffer = Buffer::of(Memory::HUGETLB, 2 << 20);
    let (done, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let ask = |caller: Caller<'_>| {
        while !done.load(Ordering::Relaxed) {
            for _ in 0..BURST {
                caller.ask(0, 4096).unwrap();
                calls.fetch_add(1, Ordering::Relaxed);
            }
            thread::sleep(PAUSE);
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let caller = buffer.caller();
            scope.spawn(move || ask(caller));
        }
        let _end = SetAtEnd(&done);
        work(&calls);
    });
    buffer.close();
}

fn come_and_go(times: usize) {
    under_load(|calls| {
        for (time, backend) in (0..times).zip(BACKENDS.iter().cycle()) {
            let recorder = Running::begin(backend, "come-and-go");
            // Those that were inside when it began, and one more at least.
            let enough = calls.load(Ordering::Relaxed) + THREADS + 1;
            while calls.load(Ordering::Relaxed) < enough {
                thread::sleep(A_LITTLE);
            }
            let report = recorder.end();
            for site in judge::BOTH {
                judge::balanced_under_load(&report, site, THREADS);
            }
            let calls = report["balance"]["get_phys"]["calls"].as_u64().unwrap();
            assert!(calls > 0, "time {time}, {backend}: it saw no call");
        }
        guest::nothing_left();
    });
}

/// Kill recorders after so many calls of the load as chance decides: before, while and after they attach.
fn killed(times: usize) {
    under_load(|calls| {
        let passed = |since: u64| calls.load(Ordering::Relaxed) - since;
        let mut chance = Chance::new(SEED);
        let mut early = 0;
        for (time, backend) in (0..times).zip(BACKENDS.iter().cycle()) {
            let path = guest::file("killed-anywhere.iova");
            let mut record = guest::iovascope(&["record", "-q", "-i", "10ms", "--backend", backend, "-o"]);
            record.arg(&path).stderr(Stdio::null());
            let start = |record: &mut Command| (calls.load(Ordering::Relaxed), record.spawn().unwrap());
            // How long beginning takes, in calls of now: the host's other work decides about that.
            let (since, mut whole) = start(&mut record);
            while !begun(&path) {
                assert!(whole.try_wait().unwrap().is_none(), "time {time}, {backend}: it ended early");
                thread::sleep(A_LITTLE);
            }
            let needed = passed(since).max(1);
            whole.kill().unwrap();
            whole.wait().unwrap();
            fs::remove_file(&path).unwrap();
            let (since, mut victim) = start(&mut record);
            let patience = chance.below(needed + needed / 4);
            while passed(since) < patience {
                thread::sleep(A_LITTLE);
            }
            victim.kill().unwrap();
            victim.wait().unwrap();
            early += usize::from(!begun(&path));
            let _ = fs::remove_file(&path);
            guest::nothing_left();
        }
        assert!(early > times / 4, "{early} of {times} were killed before they counted");
    });
}
