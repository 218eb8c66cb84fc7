//! Who else works on our functions is seen, and we are not taken for others.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use probe_common::site::Backend;
use probe_model::company::{Company, Known};
use probe_model::sample::Counters;

use crate::guest::{self, Running};
use crate::oracle::Oracle;

const TRACING: &str = "/sys/kernel/tracing";

/// Two recorders at once, the other one by each backend: each sees the other, and by which way.
#[test]
fn recorders_see_each_other() {
    for backend in Backend::ALL {
        let (one, other) =
            (Running::begin("fsession", "company-one"), Running::begin(backend.name(), "company-other"));
        let (one_is, other_is) = (one.id(), other.id());
        let seen = guest::counters_of(&one.end_recording()).company;
        let ways: &[&str] = match backend {
            Backend::Fsession => &["fsession"],
            Backend::Fentry => &["fentry", "fexit"],
            Backend::KprobeSession => &["kprobe.multi"],
            Backend::Kprobe => &["kprobe"],
        };
        // Of a kprobe of a perf event the kernel says where it is, and not whose.
        let who = match backend {
            Backend::Kprobe => "somebody".to_owned(),
            _ => format!("another iovascope (process {other_is})"),
        };
        sees(&seen, &who, ways, &["dispatch", "get_phys"]);
        // It begins alone with the first one, and ends alone.
        let file = other.end_recording();
        let seen = guest::counters_of(&file).company;
        sees(
            &seen,
            &format!("another iovascope (process {one_is})"),
            &["fsession"],
            &["dispatch", "get_phys"],
        );
        let text = guest::stdout(&guest::succeed(guest::iovascope(&["report"]).arg(&file)));
        assert!(
            text.contains(&format!("company    another iovascope (process {one_is}): fsession on")),
            "{text}"
        );
    }
}

/// Tracers, and events of tracefs, by each backend; doctor sees them too.
#[test]
fn tracers_and_events_are_seen() {
    let both = "iommufd_fops_ioctl\niopt_get_phys";
    for (tracer, filter, sites) in [
        ("function_graph", both, &["dispatch", "get_phys"][..]),
        ("function", "iopt_get_phys", &["get_phys"]),
    ] {
        write("set_ftrace_filter", filter);
        write("current_tracer", tracer);
        for backend in Backend::ALL {
            sees(&company_by(backend), "ftrace", &[tracer], sites);
        }
        let doctor = guest::stdout(&guest::succeed(&mut guest::iovascope(&["doctor"])));
        assert!(doctor.contains(&format!("company: ftrace: {tracer} on")), "{doctor}");
        write("current_tracer", "nop");
        write("set_ftrace_filter", "");
    }
    append("kprobe_events", "p:lab/entry iommufd:iopt_get_phys");
    write("events/lab/entry/enable", "1");
    for backend in Backend::ALL {
        sees(&company_by(backend), "event lab/entry", &["kprobe"], &["get_phys"]);
    }
    write("events/lab/entry/enable", "0");
    append("kprobe_events", "-:lab/entry");
    let oracle = Oracle::start();
    let seen = company_by(Backend::Fsession);
    drop(oracle);
    assert_eq!(seen.others.keys().collect::<Vec<_>>(), ["event oracle/dispatch", "event oracle/get_phys"]);
    assert_eq!(company_by(Backend::Kprobe).known(), Known::Alone);
}

/// Another tool that comes while we record, and goes.
#[test]
fn bpftrace_is_seen_as_long_as_it_is_there() {
    let running = Running::begin("fsession", "company-bpftrace");
    let mut bpftrace = Command::new("bpftrace");
    let mut bpftrace = bpftrace
        .args(["-e", "fentry:iommufd:iopt_get_phys { @ = count(); }"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while running.so_far().company.known() != Known::Others {
        assert!(bpftrace.try_wait().unwrap().is_none(), "it ended early");
    }
    bpftrace.kill().unwrap();
    bpftrace.wait().unwrap();
    let there = running.so_far().company;
    // Its last look is at the end.
    let seen = guest::counters_of(&running.end_recording()).company;
    let who = format!("bpftrace (process {})", bpftrace.id());
    sees(&seen, &who, &["fentry"], &["get_phys"]);
    assert_eq!(seen.others[&who].first, there.others[&who].first);
    assert!(seen.looks > seen.others[&who].looks, "it was not there at the beginning: {seen:?}");
}

/// Without tracefs and debugfs it is not known.
#[test]
fn what_cannot_be_looked_at_is_not_known() {
    let file = guest::file("company-blind.iova");
    let script = "umount -l /sys/kernel/debug; umount -l /sys/kernel/tracing; exec \"$@\"";
    let mut record = Command::new("unshare");
    record.args(["-m", "sh", "-c", script, "sh", "iovascope", "record", "-o"]);
    guest::succeed(record.arg(&file).args(["--", "true"]));
    let company = guest::counters_of(&file).company;
    assert_eq!((company.known(), company.unseen.len()), (Known::NotAll, 2), "{company:?}");
}

/// A recording of nothing by a backend: the company at it.
fn company_by(backend: Backend) -> Company {
    let file = guest::file("company.iova");
    let mut record = guest::iovascope(&["record", "--backend", backend.name(), "-o"]);
    guest::succeed(record.arg(&file).args(["--", "true"]));
    let counters: Counters = guest::counters_of(&file);
    fs::remove_file(&file).unwrap();
    counters.company
}

fn sees(company: &Company, who: &str, ways: &[&str], sites: &[&str]) {
    assert_eq!(company.others.keys().collect::<Vec<_>>(), [who]);
    let stay = &company.others[who];
    assert!(stay.ways.iter().eq(ways), "{company:?}");
    assert!(stay.sites.iter().eq(sites), "{company:?}");
    assert_eq!(company.unseen.len(), 0, "{company:?}");
}

fn write(file: &str, text: &str) {
    fs::write(Path::new(TRACING).join(file), text).unwrap_or_else(|error| panic!("{file}: {error}"));
}

fn append(file: &str, text: &str) {
    let path = Path::new(TRACING).join(file);
    writeln!(OpenOptions::new().append(true).open(path).unwrap(), "{text}").unwrap();
}
