//! Recorded counts = the driver's = an independent count, exactly.

use crate::guest::{self, Counts, Recorded};
use crate::oracle::Oracle;

guest::by_every_backend! { one_page_calls known_failures latencies_lie_within_the_drivers }

fn agree(backend: &str, name: &str, load: &str) -> (Recorded, Counts) {
    let oracle = Oracle::start();
    let recorded = guest::record_load_by(backend, name, load);
    let seen = oracle.seen();
    let driven = guest::driven(&recorded.load);
    let dispatched = guest::dispatched(&recorded.report);
    assert_eq!(dispatched, driven, "recorder and driver");
    // The recorder asks for the ABI before it records; the oracle saw that.
    assert_eq!(seen.without(recorded.recorder, "dispatch"), driven, "oracle and driver");
    let scanned = guest::scanned(&recorded.report);
    assert_eq!(seen.without(recorded.recorder, "get_phys"), scanned, "oracle and recorder");
    assert_eq!(recorded.report["complete"], true, "{}", recorded.said);
    (recorded, driven)
}

fn one_page_calls(backend: &str) {
    guest::huge_pages(8);
    let (recorded, driven) =
        agree(backend, "one-page", "--memory hugetlb --size 2M --cap page --step page --count 20000");
    assert_eq!(guest::count(&driven, "IOAS_NOIOMMU_GET_PA", "ok"), 20_000);
    let scans = &recorded.report["get_phys"];
    assert_eq!(scans["pages"], 20_000);
    assert_eq!(scans["runs"]["cap"]["sum"], 20_000 * 4096);
    assert_eq!(scans["by_scan_length"].as_array().unwrap().len(), 1);
    guest::runs_agree(&recorded);
}

fn known_failures(backend: &str) {
    let (recorded, driven) = agree(
        backend,
        "failures",
        "--size 1M --cap page --count 1000 --errors unmapped=100,zero-length=50,bad-ioas=25,flags=10,overflow=5",
    );
    // The driver's canary is one call of length 0 more.
    let get_pa = |outcome| guest::count(&driven, "IOAS_NOIOMMU_GET_PA", outcome);
    let outcomes = ["ok", "ENOENT", "EINVAL", "EOPNOTSUPP", "EOVERFLOW"].map(get_pa);
    assert_eq!(outcomes, [1000, 100 + 25, 50 + 1, 10, 5]);
    // Only an unmapped IOVA gets as far as the scan.
    let scanned = guest::scanned(&recorded.report);
    assert_eq!(guest::count(&scanned, "get_phys", "ENOENT"), 100);
    assert_eq!(scanned.len(), 2);
    let failed = &recorded.report["dispatch"]["IOAS_NOIOMMU_GET_PA"]["failed"];
    assert_eq!(failed["count"], 191);
}

fn latencies_lie_within_the_drivers(backend: &str) {
    let (recorded, _) = agree(backend, "latency", "--size 1M --cap page --count 5000");
    let (ours, drivers) = (
        &recorded.report["dispatch"]["IOAS_NOIOMMU_GET_PA"]["ok"],
        &guest::job(&recorded.load)["service_ns"]["ok"],
    );
    let number = |figures: &serde_json::Value, key: &str| figures[key].as_u64().unwrap();
    // The driver's interval holds ours, call by call.
    assert!(number(ours, "sum") < number(drivers, "sum"));
    assert!(number(ours, "min") < number(drivers, "min"));
    let scans = &recorded.report["get_phys"]["ok"];
    // And ours that of the scan inside it.
    assert!(number(scans, "sum") < number(ours, "sum"));
    assert!(number(scans, "min") > 0);
}
