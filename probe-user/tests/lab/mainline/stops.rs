//! Why scans ended, the finer reasons of short ones included; by each backend.

use crate::guest;

guest::by_every_backend! { a_mapping_without_breaks_ends_at_its_end single_pages_end_at_breaks }

/// One huge page, scanned to its end from each of its base pages.
fn a_mapping_without_breaks_ends_at_its_end(backend: &str) {
    guest::huge_pages(8);
    let load = "--memory hugetlb --size 2M --cap max --step page --count 512";
    let recorded = guest::record_load_by(backend, "area-end", load);
    let scans = guest::counters(&recorded).get_phys.unwrap();
    let count = |stop: &str| scans.runs.get(stop).map_or(0, |runs| runs.count);
    assert_eq!(["area-end", "break", "short", "cap", "unmapped"].map(count), [512, 0, 0, 0, 0]);
    assert_eq!(scans.pages, 512 * 513 / 2);
    // As many bytes as pages: every run is of whole pages.
    assert_eq!(scans.runs["area-end"].sum, scans.pages * 4096);
}

/// Pages whose neighbours are elsewhere, but for the last one, which ends with the mapping.
fn single_pages_end_at_breaks(backend: &str) {
    let load = "--memory fragmented --size 1M --cap max --step page --count 512 --verify";
    let recorded = guest::record_load_by(backend, "break", load);
    let scans = guest::counters(&recorded).get_phys.unwrap();
    let count = |stop: &str| scans.runs.get(stop).map_or(0, |runs| runs.count);
    assert_eq!(count("short") + count("cap") + count("unmapped"), 0, "{:?}", scans.runs.keys());
    // Two rounds over 256 pages: each round meets the mapping's end at least once.
    assert!(count("area-end") >= 2 && count("break") > 256, "{} {}", count("area-end"), count("break"));
    assert_eq!(count("area-end") + count("break"), 512);
}
