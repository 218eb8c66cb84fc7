//! Debian's `PREEMPT_RT` kernel: mutexes and semaphores are real-time mutexes, and programs at trampolines are preempted
//! more than elsewhere.

use crate::{contended, guest, waits};

guest::by_every_backend! { every_contended_call_is_accounted_for }

#[test]
fn the_guest_runs_preempt_rt() {
    let version = rustix::system::uname().version().to_string_lossy().into_owned();
    assert!(version.contains("PREEMPT_RT"), "{version}");
}

/// 64 threads, ten calls each: 640 of 640, or named losses.
fn every_contended_call_is_accounted_for(backend: &str) {
    let calls = contended::accounted_for(backend, "rt-contention", "--count 640");
    assert_eq!(calls, 640);
}

#[test]
fn waits_are_told_apart() {
    waits::of_scans_and_mappers();
}
