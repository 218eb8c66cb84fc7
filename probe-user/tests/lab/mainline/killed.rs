//! Recorders that are killed while they record: each file opens, holds a prefix of what happened, and says that
//! it is unclean.
//!
//! The short form runs always, the long one by `cargo xtask test long`.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use iovascope::recording::Reader;
use iovascope::workload::memory::Memory;

use crate::chance::Chance;
use crate::driver::{Buffer, Caller, SetAtEnd};
use crate::guest;

/// The same choices at every run.
const SEED: u64 = 0x5ee_dfac_e009;
/// Bytes that a recorder has written when it is killed, at most: hundreds of windows.
const LONGEST: u64 = 32 << 10;
/// Between two looks.
const A_LITTLE: Duration = Duration::from_millis(1);
const GET_PA: &str = "IOAS_NOIOMMU_GET_PA";

#[test]
fn killed_at_any_time_a_recording_is_a_prefix_that_says_so() {
    killed(3);
}

/// `cargo xtask test long`.
mod long {
    #[test]
    fn killed_at_two_hundred_times_a_recording_is_a_prefix_that_says_so() {
        super::killed(200);
    }
}

fn killed(times: usize) {
    guest::huge_pages(8);
    let buffer = Buffer::of(Memory::HUGETLB, 2 << 20);
    let (done, recorded) = (AtomicBool::new(false), AtomicBool::new(false));
    let (calls, returned) = (AtomicU64::new(0), AtomicU64::new(0));
    let ask = |caller: Caller<'_>| {
        while !done.load(Ordering::Relaxed) {
            // Not in the way of a recorder that begins, nor of those who read what it left.
            while !recorded.load(Ordering::Relaxed) && !done.load(Ordering::Relaxed) {
                thread::sleep(A_LITTLE);
            }
            // Before the call: what a recorder can have seen is never more.
            calls.fetch_add(1, Ordering::SeqCst);
            caller.ask(0, 4096).unwrap();
            returned.fetch_add(1, Ordering::SeqCst);
        }
    };
    thread::scope(|scope| {
        let caller = buffer.caller();
        scope.spawn(move || ask(caller));
        let _end = SetAtEnd(&done);
        let mut chance = Chance::new(SEED);
        let mut lengths = Vec::new();
        for time in 0..times {
            // A call that was counted and has not returned could be the next recorder's.
            while returned.load(Ordering::SeqCst) < calls.load(Ordering::SeqCst) {
                thread::sleep(A_LITTLE);
            }
            lengths.push(killed_once(time, &calls, &recorded, &mut chance));
        }
        lengths.sort_unstable();
        lengths.dedup();
        assert!(lengths.len() > times / 2, "they were killed at different times: {lengths:?}");
    });
    buffer.close();
    guest::nothing_left();
}

/// Kill a recorder that has written so much, by chance, and a little later; bytes of its file.
fn killed_once(time: usize, calls: &AtomicU64, recorded: &AtomicBool, chance: &mut Chance) -> u64 {
    // In memory, where writing a window every ms keeps up.
    let path = Path::new("/tmp/killed-while-recording.iova");
    let mut record = guest::iovascope(&["record", "-q", "-i", "1ms", "-o"]);
    let before = calls.load(Ordering::SeqCst);
    let mut victim = record.arg(path).stderr(Stdio::null()).spawn().unwrap();
    while !guest::begun(path) {
        assert!(victim.try_wait().unwrap().is_none(), "time {time}: it ended early");
        thread::sleep(A_LITTLE);
    }
    recorded.store(true, Ordering::Relaxed);
    let enough = chance.below(LONGEST);
    while fs::metadata(path).unwrap().len() < enough {
        assert!(victim.try_wait().unwrap().is_none(), "time {time}: it ended early");
        thread::sleep(A_LITTLE);
    }
    thread::sleep(Duration::from_micros(chance.below(2_000)));
    victim.kill().unwrap();
    victim.wait().unwrap();
    recorded.store(false, Ordering::Relaxed);
    let issued = calls.load(Ordering::SeqCst) - before;

    let mut reader = Reader::begin(fs::File::open(path).unwrap(), path.display().to_string()).unwrap();
    let (mut at, mut seen, mut windows) = (reader.header().started.monotonic, 0, 0);
    while let Some(window) = reader.next_window().unwrap() {
        assert!(window.from.monotonic == at && window.to.monotonic > at, "time {time}: a gap");
        at = window.to.monotonic;
        seen += window.counters.dispatch.get(GET_PA).map_or(0, |calls| calls.ok.count);
        windows += 1;
    }
    let unclean = reader.unclean();
    assert!(unclean.is_some() && reader.end().is_none(), "time {time}: it does not say that it was cut off");
    assert!(seen <= issued, "time {time}: {seen} calls in it, {issued} issued");
    let report = guest::report(path);
    assert_eq!((&report["unclean"], report["windows"].as_u64()), (&unclean.unwrap().into(), Some(windows)));
    let strict = guest::iovascope(&["report", "--strict"]).arg(path).output().unwrap();
    assert_eq!(strict.status.code(), Some(4), "time {time}");
    let bytes = fs::metadata(path).unwrap().len();
    fs::remove_file(path).unwrap();
    bytes
}
