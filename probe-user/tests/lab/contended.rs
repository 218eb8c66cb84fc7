//! Conservation under contention: 64 threads, one mapping, 2 CPUs; all callers but one sleep inside.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::guest;
use crate::judge::{self, Shown};

/// 64 threads that drive `work` in all, by this backend: every call is measured or lost by name. How many there were.
pub(crate) fn accounted_for(backend: &str, name: &str, work: &str) -> u64 {
    guest::huge_pages(136);
    let name = format!("{name}-{backend}");
    let (recording, load) = (guest::file(format!("{name}.iova")), guest::file(format!("{name}.load.json")));
    let drive = "iovascope load --json --memory hugetlb --size 256M --cap max --step huge --threads 64";
    // The driver is done when the line comes, and the probes stand until the input ends.
    let script = format!("{drive} {work} > '{}'; echo done; cat", load.display());
    let mut command = guest::iovascope(&["record", "-q", "-i", "100ms", "--backend", backend, "-o"]);
    command.arg(&recording).args(["--", "sh", "-ec", &script]);
    let mut recorder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(recorder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "done\n", "the driver failed");
    let shown = Shown::now();
    drop(recorder.stdin.take());
    assert!(recorder.wait().unwrap().success());

    let load: Value = serde_json::from_reader(File::open(&load).unwrap()).unwrap();
    let report = guest::report(&recording);
    let driven = guest::driven(&load);
    let calls = guest::count(&driven, "IOAS_NOIOMMU_GET_PA", "ok");
    assert!(calls > 64, "{calls} calls are no contention");
    judge::all_accounted_for(&report, calls);
    let all: u64 = driven.values().sum();
    assert_eq!(report["balance"]["dispatch"]["calls"].as_u64(), Some(all), "{report}");
    shown.agrees_with(&report);
    let scans = &report["balance"]["get_phys"];
    if backend == "kprobe" {
        // The pool of a 2-CPU guest holds 10 calls, and 63 wait.
        assert!(scans["lost"]["return-missed"].as_u64().unwrap() > 0, "{scans}");
        assert_eq!(scans["biased"], true);
        let text = guest::stdout(&guest::succeed(guest::iovascope(&["report"]).arg(&recording)));
        assert!(text.contains("too low"), "p99 is not flagged: {text}");
    } else {
        assert_eq!(scans["biased"], false);
    }
    if backend == "kprobe-session" {
        // Nothing can preempt it, and it has no pool.
        assert_eq!(report["complete"], true, "{}", report["balance"]);
    }
    fs::remove_file(&recording).unwrap();
    guest::nothing_left();
    calls
}
