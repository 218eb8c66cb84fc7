//! Losses are counted, named, and balance to the last call.

use serde_json::Value;

use crate::guest;

guest::by_every_backend! { contended_calls_balance }

/// 64 threads wait on one mapping's mutex *inside* `iopt_get_phys`, on 2 CPUs.
fn contended_calls_balance(backend: &str) {
    guest::huge_pages(40);
    let load = "--memory hugetlb --size 32M --cap max --step huge --threads 64 --count 640";
    let recorded = guest::record_load_by(backend, "contended", load);
    let driven = guest::driven(&recorded.load);
    assert_eq!(guest::count(&driven, "IOAS_NOIOMMU_GET_PA", "ok"), 640);
    let report = &recorded.report;
    // Every call that began is known, whatever became of it.
    assert_eq!(report["balance"]["get_phys"]["calls"].as_u64(), Some(640), "{report}");
    let all: u64 = driven.values().sum();
    assert_eq!(report["balance"]["dispatch"]["calls"].as_u64(), Some(all), "{report}");
    let mut lost = false;
    for site in ["dispatch", "get_phys"] {
        lost |= !balanced(report, site).is_empty();
    }
    assert_eq!(report["complete"], !lost);
    if backend == "kprobe" {
        said_to_bias(report);
    } else if backend == "kprobe-session" {
        assert!(!lost, "nothing can preempt it: {report}");
        guest::runs_agree(&recorded);
    } else {
        // A trampoline's program is skipped only where it was preempted in the middle, which has
        // nothing to do with how long calls take.
        assert_eq!(report["balance"]["get_phys"]["biased"], false);
    }
}

/// The laws hold at a site with nothing in flight; the causes of what was lost.
fn balanced(report: &Value, site: &str) -> Vec<String> {
    let balance = &report["balance"][site];
    let lost = balance["lost"].as_object().unwrap();
    let count: u64 = lost.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(balance["unexplained"].as_i64(), Some(0), "{balance}");
    assert_eq!(balance["in_flight"].as_u64(), Some(0), "{balance}");
    assert_eq!(
        balance["measured"].as_u64().unwrap() + count,
        balance["calls"].as_u64().unwrap(),
        "{balance}"
    );
    if let Some(found) = report["end"]["open_calls"][site].as_u64() {
        let flow = |key: &str| balance["flow"][key].as_u64().unwrap();
        assert_eq!(
            found,
            flow("entered") - flow("exited") - flow("unstored") - flow("unreadable") - flow("superseded")
        );
    } else {
        let backend = report["header"]["backend"].as_str().unwrap();
        let has_none = backend == "fsession" || (backend == "kprobe-session" && site == "dispatch");
        assert!(has_none, "{backend} has a table of the open calls of {site}");
    }
    lost.keys().cloned().collect()
}

/// The kretprobe pool of a 2-CPU guest holds 10: the calls that are lost are the ones that wait.
fn said_to_bias(report: &Value) {
    let scans = &report["balance"]["get_phys"];
    assert!(scans["lost"]["return-missed"].as_u64().unwrap() > 0, "the pool did not run empty: {scans}");
    assert_eq!(scans["biased"], true);
    let recording = guest::file("contended-kprobe.iova");
    let text = guest::stdout(&guest::succeed(guest::iovascope(&["report"]).arg(&recording)));
    assert!(text.contains("kretprobe pool empty") && text.contains("too low"), "{text}");
    let strict = guest::iovascope(&["report", "--strict"]).arg(&recording).output().unwrap();
    assert_eq!(strict.status.code(), Some(4));
}
