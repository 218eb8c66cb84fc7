//! The clock of latencies: its source and its step, steps of the wall clock, a time namespace; and processes that
//! are told apart by when they began.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use iovascope::recording::{Event, Reader};
use probe_model::attribution::Row;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use serde_json::Value;

use crate::guest::{self, Running};

const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
const HOUR: i64 = 3_600;

/// A clock source for a while.
struct Source(String);

impl Source {
    fn set(name: &str) -> Self {
        let before = fs::read_to_string(SOURCE).unwrap().trim().to_owned();
        assert_ne!(before, name);
        fs::write(SOURCE, name).unwrap();
        assert_eq!(fs::read_to_string(SOURCE).unwrap().trim(), name);
        Self(before)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Checked by the next one that is set.
        let _ = fs::write(SOURCE, &self.0);
    }
}

fn drive(count: u32) {
    let count = count.to_string();
    guest::succeed(&mut guest::iovascope(&["load", "--size", "1M", "--count", &count]));
}

/// Wait until a recording that grows has `count` events of a kind.
fn wait_for(recording: &Path, count: usize, wanted: fn(&Event) -> bool) {
    loop {
        let file = fs::File::open(recording).unwrap();
        let mut reader = Reader::begin(file, recording.display().to_string()).unwrap();
        let events = std::iter::from_fn(|| reader.next_event().unwrap());
        if events.filter(wanted).count() >= count {
            return;
        }
        std::thread::yield_now();
    }
}

fn text(recording: &Path) -> String {
    guest::stdout(&guest::succeed(guest::iovascope(&["report"]).arg(recording)))
}

fn is_acpi_step(step: &Value) -> bool {
    step.as_u64().is_some_and(|step| (278..=281).contains(&step))
}

#[test]
fn a_change_of_the_clock_source_is_a_mark_and_its_step_is_measured() {
    let running = Running::begin("kprobe-session", "clock-source");
    drive(20);
    let source = Source::set("acpi_pm");
    wait_for(running.path(), 1, |event| matches!(event, Event::Mark(_)));
    drive(20);
    let path = running.end_recording();
    let report = guest::report(&path);
    let mark = &report["marks"][0];
    let said = mark["text"].as_str().unwrap();
    assert!(
        said.starts_with(&format!("clock source changed from {} to acpi_pm, in steps of 2", source.0)),
        "{said}"
    );
    assert_eq!(mark["clock"]["source"], "acpi_pm");
    assert!(is_acpi_step(&mark["clock"]["step"]) && is_acpi_step(&report["clock_step"]), "{report}");
    assert_eq!(report["header"]["host"]["clocksource"], source.0.as_str());
    assert_eq!(report["marks"].as_array().unwrap().len(), 1, "{report}");

    let running = Running::begin("kprobe-session", "clock-acpi-pm");
    drive(20);
    let path = running.end_recording();
    let report = guest::report(&path);
    assert_eq!(report["header"]["host"]["clocksource"], "acpi_pm");
    assert!(is_acpi_step(&report["header"]["host"]["clock_step"]), "{report}");
    let said = text(&path);
    assert!(said.contains("acpi_pm, in steps of 2"), "{said}");
    let doctor = guest::stdout(&guest::iovascope(&["doctor"]).output().unwrap());
    let line = doctor.lines().find(|line| line.contains(" acpi_pm, in steps of 2"));
    assert!(line.is_some_and(|line| line.starts_with("coarse ")), "{doctor}");
}

fn set_wall_clock(by: i64) {
    let now = clock_gettime(ClockId::Realtime);
    clock_settime(ClockId::Realtime, Timespec { tv_sec: now.tv_sec + by, ..now }).unwrap();
}

#[test]
fn an_hour_forth_and_back_is_two_steps_and_no_sleep() {
    // A window longer than the test: only the kernel's word can tell the two apart.
    let running = Running::begin_with("fsession", "wall-clock", &["-i", "1h"]);
    let anchors = |event: &Event| matches!(event, Event::Anchor(_));
    set_wall_clock(HOUR);
    wait_for(running.path(), 3, anchors);
    set_wall_clock(-HOUR);
    wait_for(running.path(), 5, anchors);
    let path = running.end_recording();
    let report = guest::report(&path);
    let steps = report["steps"].as_array().unwrap();
    let millis: Vec<i64> = steps.iter().map(|step| step["by"].as_i64().unwrap() / 1_000_000).collect();
    assert_eq!(millis.len(), 2, "{report}");
    assert!((millis[0] - HOUR * 1_000).abs() < 500 && (millis[1] + HOUR * 1_000).abs() < 500, "{millis:?}");
    assert_eq!(report["suspended"], 0, "{report}");
    let said = text(&path);
    assert!(said.contains("stepped by +3") && said.contains("stepped by -3"), "{said}");
}

#[test]
fn in_a_time_namespace_windows_and_calls_are_on_the_kernels_clock() {
    let path = guest::file("time-namespace.iova");
    let now = || u64::try_from(clock_gettime(ClockId::Monotonic).tv_sec).unwrap();
    let before = now();
    let mut command = Command::new("unshare");
    command.args([
        "--time",
        "--monotonic",
        "100000",
        "--boottime",
        "300000",
        "--fork",
        "iovascope",
        "record",
    ]);
    command.args(["-q", "-i", "100ms", "--calls-every", "1", "-o"]).arg(&path);
    command.args(["--", "iovascope", "load", "--size", "1M", "--count", "50"]);
    guest::succeed(&mut command);
    let after = now() + 1;
    let mut reader = Reader::begin(fs::File::open(&path).unwrap(), "time-namespace".to_owned()).unwrap();
    let (mut window, mut calls) = (Vec::new(), Vec::new());
    while let Some(event) = reader.next_event().unwrap() {
        match event {
            Event::Window(next) => window.extend([next.from.monotonic, next.to.monotonic]),
            Event::Calls(more) => calls.extend(more),
            Event::Anchor(anchor) => {
                let asleep = anchor.boottime.abs_diff(anchor.at.monotonic);
                assert!(asleep <= anchor.uncertainty(), "{anchor:?}");
            }
            Event::Mark(mark) => panic!("{mark:?}"),
        }
    }
    let (first, last) = (*window.first().unwrap(), *window.last().unwrap());
    assert!(before <= first / 1_000_000_000 && last / 1_000_000_000 <= after, "{first} {last}");
    assert!(calls.len() >= 50, "{}", calls.len());
    let outside = calls.iter().filter(|call| !(first..=last).contains(&call.at)).count();
    assert_eq!(outside, 0);
}

/// A driver that has this number and has not begun: a line on its input lets it.
fn driver_numbered(pid: u32) -> Child {
    loop {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let script = "read go && exec iovascope load --size 1M --cap page --count 50 >/dev/null";
        let mut child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        if child.id() == pid {
            return child;
        }
        // Another process took the number first, and has it as long as it lives.
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}

fn a_number_that_is_used_again_is_another_process(backend: &str) {
    let running = Running::begin_with(backend, "number-used-again", &["-i", "1h"]);
    let mut first = guest::iovascope(&["load", "--size", "1M", "--cap", "page", "--count", "30"]);
    let mut first = first.stdout(Stdio::null()).spawn().unwrap();
    let pid = first.id();
    assert!(first.wait().unwrap().success());
    let mut second = driver_numbered(pid);
    second.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(second.wait().unwrap().success());
    let counters = guest::counters_of(&running.end_recording());
    let calls = |site: &str| -> Vec<u64> {
        let rows = counters.attribution.values().filter(|row| row.site == site);
        let of_number = rows.filter(|row| row.who.as_ref().is_some_and(|who| who.pid == pid));
        let mut rows: Vec<&Row> = of_number.collect();
        rows.sort_by_key(|row| row.who.as_ref().unwrap().started.unwrap());
        rows.iter().map(|row| row.calls).collect()
    };
    assert_eq!(calls("get_phys"), [30, 50]);
    let dispatched = calls("dispatch");
    assert_eq!(dispatched.len(), 2, "{dispatched:?}");
    assert_eq!(dispatched[0] - 30, dispatched[1] - 50, "the rest of each is the same");
}

#[test]
fn a_number_that_is_used_again_is_another_process_by_fsession() {
    a_number_that_is_used_again_is_another_process("fsession");
}

#[test]
fn a_number_that_is_used_again_is_another_process_by_kprobe() {
    a_number_that_is_used_again_is_another_process("kprobe");
}
