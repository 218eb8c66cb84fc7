//! Calls that do not stay where they began: on another CPU, of a thread whose number was another's, of a
//! process that is killed, on a CPU that goes away. Each is accounted for.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use iovascope::workload::memory::Memory;
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, gettid, sched_getcpu, sched_setaffinity};

use crate::driver::{Buffer, SetAtEnd};
use crate::guest::{self, Running};
use crate::judge;
use crate::oracle::Oracle;

guest::by_every_backend! {
    calls_that_change_their_cpu_inside calls_of_reused_thread_numbers calls_that_are_killed_inside
    calls_while_a_cpu_goes_and_comes
}

const MIB: u64 = 1 << 20;
/// `ioctl` on x86-64, as the first word of /proc/PID/task/TID/syscall.
const IN_IOCTL: &str = "16 ";
const CPU_1: &str = "/sys/devices/system/cpu/cpu1/online";

fn only(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}

/// Whether a thread of this process, or of another, is inside an ioctl and off its CPU.
fn inside(task: &str) -> bool {
    fs::read_to_string(format!("{task}/syscall")).is_ok_and(|text| text.starts_with(IN_IOCTL))
}

/// Threads that do nothing but scan are sent from CPU to CPU all the time: nearly always inside a call.
fn calls_that_change_their_cpu_inside(backend: &str) {
    const THREADS: usize = 8;
    /// Calls that must have ended on another CPU than they began on, and calls after which to give up.
    const WANTED: u64 = 200;
    const MOST: u64 = 1_000_000;
    guest::huge_pages(40);
    let buffer = Buffer::of(Memory::HUGETLB, 64 * MIB);
    let caller = buffer.caller();
    let recorder = Running::begin(backend, "migration");
    let (migrated, calls, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let ask = || {
        while !done.load(Ordering::Relaxed) {
            let before = sched_getcpu();
            let answer = caller.ask(0, u64::MAX);
            migrated.fetch_add(u64::from(sched_getcpu() != before), Ordering::Relaxed);
            calls.fetch_add(1, Ordering::Relaxed);
            answer.unwrap();
        }
    };
    let (ready, threads) = (Barrier::new(THREADS + 1), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                threads.lock().unwrap().push(gettid());
                ready.wait();
                ask();
            });
        }
        let _end = SetAtEnd(&done);
        ready.wait();
        // Before the threads that it moves.
        setpriority_process(Some(gettid()), -20).unwrap();
        let threads = threads.lock().unwrap().clone();
        let enough = || migrated.load(Ordering::Relaxed) >= WANTED || calls.load(Ordering::Relaxed) >= MOST;
        let mut cpus = [0, 1].into_iter().cycle();
        while !enough() {
            for thread in &threads {
                sched_setaffinity(Some(*thread), &only(cpus.next().unwrap_or_default())).unwrap();
            }
            // The other way round next time.
            cpus.next();
            thread::yield_now();
        }
        setpriority_process(Some(gettid()), 0).unwrap();
    });
    let report = recorder.end();
    buffer.close();
    let (migrated, calls) = (migrated.into_inner(), calls.into_inner());
    assert!(migrated >= WANTED, "{migrated} of {calls} calls ended on another CPU");
    judge::all_accounted_for(&report, calls);
}

/// Generations of threads that wait on each other, with so few numbers that they come again.
fn calls_of_reused_thread_numbers(backend: &str) {
    const LIMIT: &str = "/proc/sys/kernel/pid_max";
    const GENERATIONS: u64 = 60;
    const THREADS: u64 = 16;
    guest::huge_pages(40);
    let before = fs::read_to_string(LIMIT).unwrap();
    // The first 300 are not given twice (RESERVED_PIDS, kernel/pid.c, Linux 7.3).
    fs::write(LIMIT, "512").unwrap();
    let buffer = Buffer::of(Memory::HUGETLB, 16 * MIB);
    let caller = buffer.caller();
    let recorder = Running::begin(backend, "reuse");
    let mut numbers = BTreeSet::new();
    for _ in 0..GENERATIONS {
        let ready = Barrier::new(usize::try_from(THREADS).unwrap());
        thread::scope(|scope| {
            let ask = || {
                ready.wait();
                caller.ask(0, u64::MAX).unwrap();
                gettid().as_raw_nonzero().get()
            };
            let running: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
            numbers.extend(running.into_iter().map(|thread| thread.join().unwrap()));
        });
    }
    let report = recorder.end();
    fs::write(LIMIT, before.trim()).unwrap();
    buffer.close();
    let calls = GENERATIONS * THREADS;
    assert!(numbers.len() as u64 <= calls * 2 / 3, "{} numbers for {calls} threads", numbers.len());
    judge::all_accounted_for(&report, calls);
}

/// A killed thread ends when its call has returned: nothing of it is open afterwards.
fn calls_that_are_killed_inside(backend: &str) {
    const THREADS: usize = 16;
    guest::huge_pages(136);
    let oracle = Oracle::start();
    let recorder = Running::begin(backend, "killed-calls");
    let mut seen_inside = 0;
    for _ in 0..3 {
        let load = "load --memory hugetlb --size 256M --cap max --step huge --duration 1h --threads 16";
        let arguments: Vec<&str> = load.split(' ').collect();
        let mut driver = guest::iovascope(&arguments).stdout(Stdio::null()).spawn().unwrap();
        let tasks = format!("/proc/{}/task", driver.id());
        let waiting = || {
            let tasks = fs::read_dir(&tasks).into_iter().flatten().flatten();
            tasks.filter(|task| inside(&task.path().display().to_string())).count()
        };
        let found = loop {
            assert!(driver.try_wait().unwrap().is_none(), "the driver ended early");
            match waiting() {
                found if found > THREADS / 2 => break found,
                _ => thread::yield_now(),
            }
        };
        seen_inside += found;
        guest::succeed(Command::new("kill").args(["-KILL", &driver.id().to_string()]));
        assert!(!driver.wait().unwrap().success());
    }
    assert!(seen_inside > 0);
    let id = recorder.id();
    let report = recorder.end();
    let scans: u64 = oracle.seen().without(id, "get_phys").values().sum();
    judge::all_accounted_for(&report, scans);
    let dispatched: u64 = oracle.seen().without(id, "dispatch").values().sum();
    assert_eq!(report["balance"]["dispatch"]["calls"].as_u64(), Some(dispatched));
    drop(oracle);
    guest::nothing_left();
}

/// A CPU's counters stay when it goes, and count on when it is back.
fn calls_while_a_cpu_goes_and_comes(backend: &str) {
    const THREADS: u64 = 8;
    guest::huge_pages(8);
    let buffer = Buffer::of(Memory::HUGETLB, 2 * MIB);
    let caller = buffer.caller();
    let recorder = Running::begin(backend, "offline");
    let (done, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let seen: [AtomicU64; 2] = Default::default();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    caller.ask(0, u64::MAX).unwrap();
                    calls.fetch_add(1, Ordering::Relaxed);
                    seen[sched_getcpu()].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _end = SetAtEnd(&done);
        let both_called = || {
            let before = seen.each_ref().map(|count| count.load(Ordering::Relaxed));
            while seen.iter().zip(before).any(|(now, before)| now.load(Ordering::Relaxed) == before) {
                thread::yield_now();
            }
        };
        for _ in 0..3 {
            both_called();
            fs::write(CPU_1, "0").unwrap();
            let (offline, all) = (seen[1].load(Ordering::Relaxed), calls.load(Ordering::Relaxed));
            while calls.load(Ordering::Relaxed) < all + 100 {
                thread::yield_now();
            }
            // Threads that were between a call and their count may add one each.
            assert!(seen[1].load(Ordering::Relaxed) <= offline + THREADS, "a CPU that was off called");
            fs::write(CPU_1, "1").unwrap();
        }
        both_called();
    });
    let report = recorder.end();
    buffer.close();
    judge::all_accounted_for(&report, calls.into_inner());
}
