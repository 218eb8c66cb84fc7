//! The seed's semantics: the length argument is ignored, every scan goes to the end of its run.

use crate::guest;

#[test]
fn the_abi_is_found_and_no_stop_is_called_cap() {
    guest::huge_pages(4);
    let load = "--memory hugetlb --size 4M --cap page --step page --count 1024 --verify";
    let recorded = guest::record_load("v5", load);
    let report = &recorded.report;
    let abi = report["header"]["abi"].as_str().unwrap();
    assert!(abi.contains("v5"), "{abi}");
    assert_eq!(report["header"]["length_is_cap"], false);
    assert_eq!(guest::dispatched(report), guest::driven(&recorded.load));
    assert_eq!(recorded.load["abi"], "v5");
    assert_eq!(guest::job(&recorded.load)["verify"]["differences"], 0);
    let stops: Vec<_> = report["get_phys"]["runs"].as_object().unwrap().keys().cloned().collect();
    assert!(stops.iter().all(|stop| stop == "area-end" || stop == "break"), "{stops:?}");
    // The driver tells v5 from later drafts by an answer of its own, which its loop does not count.
    let runs = report["get_phys"]["runs"].as_object().unwrap();
    let figure = |key: &str| runs.values().map(|run| run[key].as_u64().unwrap()).collect::<Vec<_>>();
    let answered = guest::count(&guest::driven(&recorded.load), "IOAS_NOIOMMU_GET_PA", "ok");
    assert_eq!(figure("count").iter().sum::<u64>(), answered);
    assert!(
        figure("sum").iter().sum::<u64>() >= guest::job(&recorded.load)["run_bytes"]["sum"].as_u64().unwrap()
    );
    let longest = figure("max").into_iter().max().unwrap();
    assert!(longest > 4096, "a scan went beyond the cap of one page");
}

#[test]
fn failures_are_those_of_v5() {
    let load = "--size 1M --count 10 --errors unmapped=7,zero-length=5,bad-ioas=3,flags=2";
    let recorded = guest::record_load("v5-failures", load);
    let driven = guest::driven(&recorded.load);
    assert_eq!(guest::dispatched(&recorded.report), driven);
    assert_eq!(guest::count(&driven, "IOAS_NOIOMMU_GET_PA", "EINVAL"), 0, "v5 does not refuse length 0");
    guest::nothing_left();
}

#[test]
fn every_ready_job_is_counted_by_recorder_and_driver_alike() {
    // Every scan goes to the end of its run whatever is asked for: fewer calls say as much.
    crate::library::agrees("v5", "--count 200");
}
