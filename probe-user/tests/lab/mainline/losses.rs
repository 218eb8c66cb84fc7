//! Losses are counted, named, and balance to the last call.

use crate::guest;

/// 64 threads wait on one mapping's mutex *inside* `iopt_get_phys`; the kretprobe pool of a 2-CPU
/// guest holds 10. The calls that are lost are the ones that wait.
#[test]
fn contended_returns_are_lost_counted_and_said_to_bias() {
    guest::huge_pages(40);
    let load = "--memory hugetlb --size 32M --cap max --step huge --threads 64 --count 640";
    let recorded = guest::record_load_with("contended", &["--backend", "kprobe"], load);
    let driven = guest::driven(&recorded.load);
    let report = &recorded.report;
    let issued: u64 = guest::count(&driven, "IOAS_NOIOMMU_GET_PA", "ok");
    assert_eq!(issued, 640);
    let scans = &report["balance"]["get_phys"];
    assert_eq!(scans["calls"].as_u64(), Some(issued), "every call that began is known");
    for site in ["dispatch", "get_phys"] {
        let balance = &report["balance"][site];
        let lost: u64 =
            balance["lost"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(balance["unexplained"].as_i64(), Some(0), "{balance}");
        assert_eq!(balance["in_flight"].as_u64(), Some(0), "{balance}");
        assert_eq!(
            balance["measured"].as_u64().unwrap() + lost,
            balance["calls"].as_u64().unwrap(),
            "{balance}"
        );
        let found = report["end"]["open_calls"][site].as_u64().unwrap();
        let flow = |key: &str| balance["flow"][key].as_u64().unwrap();
        assert_eq!(found, flow("entered") - flow("exited") - flow("unstored") - flow("superseded"));
    }
    assert!(scans["lost"]["return-missed"].as_u64().unwrap() > 0, "the pool did not run empty: {scans}");
    assert_eq!(scans["biased"], true);
    assert_eq!(report["complete"], false);
    let text =
        guest::stdout(&guest::succeed(guest::iovascope(&["report"]).arg(guest::file("contended.iova"))));
    assert!(text.contains("kretprobe pool empty") && text.contains("too low"), "{text}");
    let strict =
        guest::iovascope(&["report", "--strict"]).arg(guest::file("contended.iova")).output().unwrap();
    assert_eq!(strict.status.code(), Some(4));
}
