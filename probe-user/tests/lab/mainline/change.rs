//! The backend changes while calls go on: where the default loses calls, the complete one takes over, and every
//! call is counted by exactly one of them, but for those that the change itself names.

use std::collections::BTreeMap;
use std::fs;

use probe_model::backends::Change;
use serde_json::Value;

use crate::guest::{self, Counts, Running};

/// More threads than CPUs, in calls that are long enough to be preempted in.
const BUSY: &str = "load --json --memory hugetlb --size 16M --cap max --step huge --threads 64 --count 640";
/// Loads until one backend takes over from the other: far more than it ever takes.
const MOST: u32 = 40;

/// Drive once; what was driven is added up.
fn drive(driven: &mut Counts) {
    let words: Vec<&str> = BUSY.split_whitespace().collect();
    let load: Value = serde_json::from_slice(&guest::succeed(&mut guest::iovascope(&words)).stdout).unwrap();
    for (what, count) in guest::driven(&load) {
        *driven.entry(what).or_default() += count;
    }
}

fn changes(report: &Value) -> Vec<Change> {
    let marks = report["marks"].as_array().unwrap().iter().map(|mark| mark["change"].clone());
    marks.filter(|change| !change.is_null()).map(|change| serde_json::from_value(change).unwrap()).collect()
}

/// Calls of a site that a backend measured, and that it lost.
fn share(report: &Value, backend: &str, site: &str) -> (u64, u64) {
    let backends = report["backends"].as_array().unwrap();
    let share = &backends.iter().find(|known| known["backend"] == backend).unwrap()["calls"][site];
    let lost: BTreeMap<String, u64> = serde_json::from_value(share["lost"].clone()).unwrap();
    (share["measured"].as_u64().unwrap(), lost.values().sum())
}

#[test]
fn what_the_default_loses_another_backend_counts() {
    guest::huge_pages(16);
    let recorder = Running::begin("auto", "change");
    let mut driven = Counts::new();
    let mut loads = 0;
    while !recorder.has_changed() {
        assert!(loads < MOST, "fsession loses nothing in {driven:?}");
        drive(&mut driven);
        loads += 1;
    }
    drive(&mut driven);
    let recording = recorder.end_recording();
    let report = guest::report(&recording);
    assert_eq!(report["header"]["backend"], "fsession");
    let changes = changes(&report);
    let [change] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((change.from.as_str(), change.to.as_str()), ("fsession", "kprobe-session"));

    let doubt = report["end"]["doubt"].as_u64().unwrap();
    let mut kept = vec![format!("{change:?}, doubt {doubt}, {loads} loads before")];
    let scans = guest::count(&driven, "IOAS_NOIOMMU_GET_PA", "ok");
    for (site, truth) in [("dispatch", driven.values().sum()), ("get_phys", scans)] {
        let balance = &report["balance"][site];
        let calls = balance["calls"].as_u64().unwrap();
        let (earlier, lost) = share(&report, "fsession", site);
        let (later, none) = share(&report, "kprobe-session", site);
        kept.push(format!(
            "{site}: {truth} calls, {calls} known: fsession {earlier} and {lost} lost, then {later}"
        ));
        fs::write(guest::file("change.txt"), kept.join("\n")).unwrap();
        assert!(
            truth.abs_diff(calls) <= doubt,
            "{site}: {truth} calls, {calls} known, {change:?}: {report:#}"
        );
        assert_eq!((&balance["in_flight"], &balance["unexplained"]), (&0.into(), &0.into()), "{balance}");
        assert_eq!(Some(earlier + later), balance["measured"].as_u64(), "{report:#}");
        // All of the last load, at the least.
        assert!(later >= 640 && none == 0, "{report:#}");
    }
    // As many calls can be inside at the change as there are threads, and each was missed or not.
    let (_, lost) = share(&report, "fsession", "get_phys");
    assert!(doubt <= lost + 64, "a doubt of {doubt} calls says nothing: {kept:?}");

    let text = guest::stdout(&guest::succeed(guest::iovascope(&["report"]).arg(&recording)));
    assert!(text.contains("BY BACKEND") && text.contains("on kprobe-session"), "{text}");
    guest::nothing_left();
}

#[test]
fn what_was_asked_for_by_name_stays() {
    guest::huge_pages(16);
    let recorder = Running::begin("fsession", "no-change");
    let mut driven = Counts::new();
    let lost = |recorder: &Running| recorder.so_far().balances()["get_phys"].lost_calls();
    for _ in 0..MOST {
        if lost(&recorder) > 0 {
            break;
        }
        drive(&mut driven);
    }
    drive(&mut driven);
    let report = recorder.end();
    assert!(!report["balance"]["get_phys"]["lost"].as_object().unwrap().is_empty(), "{report:#}");
    assert!(changes(&report).is_empty(), "{report:#}");
    assert_eq!(report["backends"], serde_json::json!([]));
    guest::nothing_left();
}
