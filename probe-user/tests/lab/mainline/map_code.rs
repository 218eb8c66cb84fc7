//! Calls of a thread that took its CPU from one inside the kernel's map code. Until that is through, the CPU runs no
//! program of a kprobe or a kprobe session: `bpf_prog_active` is held (`bpf_disable_instrumentation` in
//! include/linux/bpf.h, `trace_call_bpf` and `kprobe_multi_link_prog_run` in `kernel/trace/bpf_trace.c`, Linux 7.3).
//! Any tool that works on a large map does this to them; each such call is counted as missed, whether its beginning
//! or its end fell into it. Trampolines do not ask.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use aya::maps::{Array, MapData};
use iovascope::workload::memory::Memory;
use rustix::thread::{CpuSet, gettid, sched_setaffinity};

use crate::driver::{Buffer, SetAtEnd};
use crate::guest::{self, Running};
use crate::judge::{self, Shown};

guest::by_every_backend! { calls_from_inside_map_code_are_counted }

const MIB: u64 = 1 << 20;
/// Of a value, bytes. The kernel copies it twice, once of that with instrumentation off; what is larger takes it
/// longer to find room for.
const LARGE: usize = 8 << 10;
/// Of the thread that takes the CPU: so many at least, and so many after which to give up.
const CALLS: u64 = 200;
const MOST: u64 = 20_000;

fn calls_from_inside_map_code_are_counted(backend: &str) {
    let may_miss = backend.starts_with("kprobe");
    guest::huge_pages(24);
    let buffer = Buffer::of(Memory::HUGETLB, 32 * MIB);
    let caller = buffer.caller();
    let recorder = Running::begin(backend, "map-code");
    let (done, scans, asked) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let on = |cpu: usize, work: &mut dyn FnMut()| {
        on_cpu(cpu);
        while !done.load(Ordering::Relaxed) {
            work();
        }
    };
    let mut missed = Missed::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut map: Array<MapData, [u8; LARGE]> = Array::create(1, 0).unwrap();
            let value = vec![0; LARGE];
            let value: &[u8; LARGE] = value.as_slice().try_into().unwrap();
            on(0, &mut || map.set(0, value, 0).unwrap());
        });
        // A long scan, and behind it a MAP that wants the lock for itself: a call that comes then sleeps inside, and
        // takes the CPU when it wakes.
        scope.spawn(|| {
            on(1, &mut || {
                caller.ask(0, u64::MAX).unwrap();
                scans.fetch_add(1, Ordering::Relaxed);
            });
        });
        scope.spawn(|| on(1, &mut || caller.map_and_unmap(2 * MIB).unwrap()));
        scope.spawn(|| {
            before_all_others();
            on(0, &mut || {
                thread::sleep(Duration::from_millis(1));
                caller.ask(0, 4096).unwrap();
                asked.fetch_add(1, Ordering::Relaxed);
            });
        });
        let _end = SetAtEnd(&done);
        let asked = || asked.load(Ordering::Relaxed);
        while asked() < CALLS || (may_miss && !missed.at_both_ends() && asked() < MOST) {
            missed = Missed::so_far(&recorder);
        }
    });
    let shown = Shown::now();
    let report = recorder.end();
    buffer.close();
    // Trampolines may have missed calls too: of threads that found the program preempted.
    judge::all_accounted_for(&report, scans.into_inner() + asked.into_inner());
    shown.agrees_with(&report);
    assert!(missed.at_both_ends() || !may_miss, "{missed:?}, {report}");
}

/// Scans that the kernel did not show to a kprobe's or a kprobe session's program.
#[derive(Debug, Default)]
struct Missed {
    at_entries: u64,
    at_returns: u64,
}

impl Missed {
    fn so_far(recorder: &Running) -> Self {
        let flow = recorder.so_far().flow["get_phys"];
        // The open call of a thread that calls again has lost its return.
        Self {
            at_entries: flow.entry_missed + flow.call_missed.saturating_sub(flow.due()),
            at_returns: flow.superseded,
        }
    }

    fn at_both_ends(&self) -> bool {
        self.at_entries > 0 && self.at_returns > 0
    }
}

fn on_cpu(number: usize) {
    let mut cpu = CpuSet::new();
    cpu.set(number);
    sched_setaffinity(None, &cpu).unwrap();
}

/// When this thread wakes, its CPU is its own at once.
fn before_all_others() {
    let thread = gettid().as_raw_nonzero().to_string();
    guest::succeed(Command::new("chrt").args(["--fifo", "--pid", "1", &thread]));
}
