//! Each pattern does what its name says: by the page tables, by what came back, and by what was called.

use serde_json::Value;

use super::{load, number};
use crate::guest;

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;

/// Runs and pages of a buffer of 8 MiB, or of one unit where that is more.
#[derive(Debug)]
struct Layout {
    shortest: u64,
    median: u64,
    longest: u64,
    page: u64,
    transparent: u64,
}

fn layout(memory: &str) -> (Layout, Value) {
    let result = load(&format!("--memory {memory} --size 8M --queries random --cap max --count 50 --verify"));
    let of = |field: &str| number(&result, &format!("/buffer/layout/{field}"));
    let layout = Layout {
        shortest: of("shortest_run_bytes"),
        median: of("median_run_bytes"),
        longest: of("longest_run_bytes"),
        page: of("page_bytes"),
        transparent: of("transparent_bytes"),
    };
    assert_eq!(number(&result, "/verify/differences"), 0, "{memory}");
    (layout, result)
}

#[test]
fn base_pages_are_base_pages_and_shuffled_ones_are_fragmented() {
    for memory in ["anon", "shuffled", "alternating"] {
        let (layout, _) = layout(memory);
        assert_eq!((layout.page, layout.transparent), (PAGE, 0), "{memory}: {layout:?}");
        if memory != "anon" {
            assert!(layout.median < 3 * PAGE, "{memory}: {layout:?}");
        }
    }
    let (layout, _) = layout("alternating");
    assert_eq!(layout.median, PAGE);
    assert!(layout.longest < 64 * PAGE, "{layout:?}");
}

#[test]
fn contiguous_pages_are_base_pages_in_runs_of_2_mib() {
    let (layout, _) = layout("contiguous");
    assert_eq!((layout.page, layout.transparent), (PAGE, 0), "{layout:?}");
    assert!(layout.shortest >= 2 * MIB, "{layout:?}");
}

#[test]
fn huge_pages_are_huge() {
    guest::huge_pages(40);
    let (thp, _) = layout("thp");
    assert_eq!((thp.page, thp.transparent), (PAGE, 8 * MIB), "{thp:?}");
    assert!(thp.shortest >= 2 * MIB, "{thp:?}");
    let (pool, _) = layout("hugetlb");
    assert_eq!(pool.page, 2 * MIB, "{pool:?}");
    assert!(pool.shortest >= 2 * MIB, "{pool:?}");
    let giant = load("--memory hugetlb-1g --size 1G --queries rescan --cap max --count 2 --verify");
    assert_eq!(number(&giant, "/buffer/layout/page_bytes"), 1 << 30);
    assert_eq!(number(&giant, "/run_bytes/min"), 1 << 30, "one scan of 262,144 pages");
    assert_eq!(number(&giant, "/verify/differences"), 0);
}

#[test]
fn a_memfd_is_mapped_as_a_file() {
    let (layout, result) = layout("memfd");
    assert_eq!(layout.page, PAGE, "{layout:?}");
    let driven = guest::driven(&result);
    assert_eq!(guest::count(&driven, "IOAS_MAP_FILE", "ok"), 1, "{driven:?}");
    assert_eq!(guest::count(&driven, "IOAS_MAP", "ok"), 0, "{driven:?}");
}

#[test]
fn queries_go_where_they_say() {
    guest::huge_pages(40);
    let by = |queries: &str, cap: &str, count: u64| {
        load(&format!("--memory hugetlb --size 8M --queries {queries} --cap {cap} --count {count} --verify"))
    };
    // One pass by runs covers every byte once.
    let fragmented = "--memory shuffled --size 2M --queries returned --cap max --verify";
    let runs = number(&load(&format!("{fragmented} --count 1")), "/buffer/layout/runs");
    // Another run of the driver has other memory: its runs are looked up in its own result.
    let pass = load(&format!("{fragmented} --count {runs}"));
    let covered = number(&pass, "/run_bytes/sum");
    assert!(covered >= 2 * MIB - 8 * PAGE * 2, "{covered} bytes by {runs} runs");
    let pages = by("page", "page", 2048);
    assert_eq!(number(&pages, "/run_bytes/sum"), 8 * MIB);
    let huge = by("huge", "2M", 4);
    assert_eq!(number(&huge, "/run_bytes/sum"), 8 * MIB);
    let same = by("rescan", "1M", 20);
    assert_eq!((number(&same, "/run_bytes/min"), number(&same, "/run_bytes/max")), (MIB, MIB));
    // Bytes inside pages: a run from there to the end is no whole number of pages.
    let unaligned = by("unaligned", "max", 50);
    assert!(!number(&unaligned, "/run_bytes/min").is_multiple_of(PAGE));
    let sweep = by("cap-sweep", "page", 120);
    let caps = guest::job(&sweep)["by_cap"].as_array().unwrap();
    let lengths: Vec<u64> = caps.iter().map(|cap| cap["cap_bytes"].as_u64().unwrap()).collect();
    assert_eq!(lengths, (0..12).map(|step| PAGE << step).collect::<Vec<_>>());
    assert!(caps.iter().all(|cap| cap["service_ns"]["count"] == 10), "{caps:?}");
}

#[test]
fn churn_comes_and_goes_and_leaves_everything_mapped() {
    for (churn, ioases, areas) in [("beside", 0, 1), ("apart", 2, 1), ("under", 0, 4)] {
        let flags = format!("--size 8M --queries random --count 3000 --churn {churn} --churn-threads 2");
        let result = load(&flags);
        let driven = guest::driven(&result);
        let (map, unmap) =
            (guest::count(&driven, "IOAS_MAP", "ok"), guest::count(&driven, "IOAS_UNMAP", "ok"));
        assert_eq!(map, unmap, "{churn}: {driven:?}");
        let moved = number(&result, "/churn/map_ns/ok/count");
        assert!(moved > 0 && map == moved + if churn == "under" { 4 } else { 3 }, "{churn}: {driven:?}");
        assert_eq!(guest::count(&driven, "HWPT_ALLOC", "ok"), ioases, "{churn}");
        assert_eq!(number(&result, "/buffer/areas"), areas, "{churn}");
    }
}

#[test]
fn an_ioas_can_do_without_huge_pages_and_a_buffer_be_in_many() {
    guest::huge_pages(40);
    let result =
        load("--memory hugetlb --size 4M --no-huge-pages --ioases 3 --threads 3 --count 300 --verify");
    let driven = guest::driven(&result);
    let counts = ["OPTION", "HWPT_ALLOC", "IOAS_MAP"].map(|command| guest::count(&driven, command, "ok"));
    assert_eq!(counts, [3, 2, 3], "{driven:?}");
    assert_eq!(number(&result, "/verify/differences"), 0);
}
