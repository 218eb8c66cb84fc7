//! Run lengths against /proc/self/pagemap, for every call.

use crate::guest::{self, Recorded};

guest::by_every_backend! { caps_that_end_within_a_page }

fn verified(name: &str, load: &str, calls: u64) {
    agrees(&guest::record_load(name, &format!("{load} --verify --count {calls}")), calls);
}

fn agrees(recorded: &Recorded, calls: u64) {
    let verify = &guest::job(&recorded.load)["verify"];
    assert_eq!((verify["checked"].as_u64(), verify["differences"].as_u64()), (Some(calls), Some(0)));
    assert_eq!(guest::dispatched(&recorded.report), guest::driven(&recorded.load));
    guest::runs_agree(recorded);
}

#[test]
fn fragmented_pages() {
    let name = "fragmented";
    verified(name, "--memory fragmented --size 64M --cap max --step page", 16_384);
    let report = guest::report(&guest::file(format!("{name}.iova")));
    let runs = &report["get_phys"]["runs"]["break"];
    assert!(runs["p50"].as_u64().unwrap() < 3 * 4096, "not fragmented: {runs}");
}

#[test]
fn anonymous_pages_asked_by_run() {
    verified("anonymous", "--memory anon --size 64M --cap max --step returned", 4_000);
}

#[test]
fn huge_pages() {
    guest::huge_pages(40);
    verified("huge", "--memory hugetlb --size 64M --cap max --step huge", 128);
    let report = guest::report(&guest::file("huge.iova"));
    let runs = report["get_phys"]["runs"].as_object().unwrap();
    let figure = |key: &str| runs.values().map(|run| run[key].as_u64().unwrap()).collect::<Vec<_>>();
    assert!(figure("min").into_iter().min().unwrap() >= 2 << 20, "shorter than a huge page: {runs:?}");
    let pages = report["get_phys"]["pages"].as_u64().unwrap();
    assert_eq!(pages, figure("sum").iter().sum::<u64>() / 4096);
}

fn caps_that_end_within_a_page(backend: &str) {
    guest::huge_pages(8);
    let load = "--memory hugetlb --size 4M --cap 10000 --step page --verify --count 1024";
    let recorded = guest::record_load_by(backend, "unaligned-cap", load);
    agrees(&recorded, 1_024);
    let report = &recorded.report;
    assert_eq!(report["get_phys"]["runs"]["cap"]["max"], 10_000);
    assert_eq!(report["get_phys"]["by_scan_length"].as_array().unwrap().last().unwrap()["from"], 2);
}
