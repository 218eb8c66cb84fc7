//! Lock waits against an independent count: a hist trigger on `contention_end` by the waiter's stack, which names what
//! it waited for. Our programs tell locks by their addresses.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use iovascope::workload::memory::Memory;
use probe_model::histogram::Histogram;
use probe_model::lock::Locks;
use probe_model::loss::Flow;

use crate::driver::{Buffer, SetAtEnd};
use crate::guest::{self, Running};

const EVENT: &str = "/sys/kernel/tracing/events/lock/contention_end";
const TRIGGER: &str = "hist:keys=common_stacktrace:size=4096";

/// Waits inside `iopt_get_phys`, by the parts of its latency.
#[derive(Debug, PartialEq, Eq, Default)]
struct Waits {
    iova_rwsem: u64,
    pages_mutex: u64,
}

impl Waits {
    fn begin() {
        fs::write(format!("{EVENT}/trigger"), TRIGGER).unwrap();
    }

    fn end() -> Self {
        let text = fs::read_to_string(format!("{EVENT}/hist")).unwrap();
        fs::write(format!("{EVENT}/trigger"), format!("!{TRIGGER}")).unwrap();
        fs::write(guest::file("waits.txt"), &text).unwrap();
        assert!(text.contains("Dropped: 0"), "the trigger lost counts:\n{text}");
        Self::of(&text)
    }

    /// A stack is its functions, the innermost first, between `{` and `} hitcount: N`.
    fn of(text: &str) -> Self {
        let mut waits = Self::default();
        for entry in text.split("{ common_stacktrace:").skip(1) {
            let (stack, rest) = entry.split_once("} hitcount:").unwrap();
            let count: u64 = rest.split_whitespace().next().unwrap().parse().unwrap();
            let functions: Vec<&str> = stack.split_whitespace().collect();
            let Some(caller) = functions.iter().position(|function| function.starts_with("iopt_get_phys+"))
            else {
                continue;
            };
            let waited_in = &functions[..caller];
            let is_in = |part: &str| waited_in.iter().any(|function| function.contains(part));
            if !is_in("rwsem_down_read") && !is_in("rwbase") && !is_in("down_read") {
                assert!(is_in("mutex"), "a wait for neither: {functions:?}");
                waits.pages_mutex += count;
            } else if !waited_in[0].contains("rt_mutex") {
                // Else the mutex inside of a semaphore, a part of that wait.
                waits.iova_rwsem += count;
            }
        }
        waits
    }
}

/// Calls that waited at all.
fn waited(part: &Histogram) -> u64 {
    part.count - part.buckets.get(&0).copied().unwrap_or(0)
}

fn of_scans(locks: &Locks) -> Waits {
    let part = |name: &str| locks.get_phys.get(name).map_or(0, waited);
    Waits { iova_rwsem: part("iova_rwsem"), pages_mutex: part("pages_mutex") }
}

/// Scans hold the IOAS's lock for reading all the while and wait for each other's mutex; MAP and UNMAP want the lock
/// for writing, and scans wait for these. Goes on until each has waited, and then counts as the kernel does.
pub(crate) fn of_scans_and_mappers() {
    const COMMANDS: [&str; 2] = ["IOAS_MAP", "IOAS_UNMAP"];
    guest::huge_pages(40);
    let buffer = Buffer::of(Memory::HUGETLB, 32 << 20);
    Waits::begin();
    let recorder = Running::begin_with("kprobe-session", "waited", &["--locks"]);
    let done = AtomicBool::new(false);
    let (caller, is_done) = (buffer.caller(), || done.load(Ordering::Relaxed));
    let times = thread::scope(|scope| {
        let end = SetAtEnd(&done);
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done() {
                    caller.ask(0, u64::MAX).unwrap();
                }
            });
        }
        let mapper = scope.spawn(|| {
            let mut times = 0u64;
            while !is_done() {
                caller.map_and_unmap(2 << 20).unwrap();
                times += 1;
            }
            times
        });
        let have_all_waited = |locks: Locks| {
            let scans = of_scans(&locks);
            COMMANDS.iter().all(|command| locks.commands.contains_key(*command))
                && scans.iova_rwsem > 0
                && scans.pages_mutex > 0
        };
        // As long as it takes.
        while !recorder.so_far().locks.is_some_and(have_all_waited) {
            assert!(!mapper.is_finished(), "mapping failed");
            thread::yield_now();
        }
        drop(end);
        mapper.join().unwrap()
    });
    let counters = guest::counters_of(&recorder.end_recording());
    let independent = Waits::end();
    buffer.close();
    let is_complete = |flow: &Flow| flow.balance().is_complete();
    assert!(counters.flow.values().all(is_complete), "{:?}", counters.flow);
    let locks = counters.locks.unwrap();
    assert_eq!(of_scans(&locks), independent, "{} runs refused", locks.missed);
    for command in COMMANDS {
        let (waited, calls) = (&locks.commands[command], &counters.dispatch[command].ok);
        assert_eq!(calls.count, times, "{command}");
        assert!((1..=times).contains(&waited.count) && waited.sum <= calls.sum, "{command}: {waited:?}");
    }
    guest::nothing_left();
}
