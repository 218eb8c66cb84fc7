//! Every bucket, against counts and clocks that are not ours.

use std::collections::BTreeMap;

use probe_common::bucket::RUN;
use probe_common::wire::scan_class;
use probe_model::errno;
use probe_model::histogram::Histogram;
use serde_json::Value;

use crate::guest;
use crate::oracle::Oracle;

guest::by_every_backend! { every_bucket_agrees_with_the_oracle quantiles_are_the_drivers }

const PAGE: u64 = 4096;

/// Values in buckets, and beyond them.
fn values(histogram: &Histogram) -> u64 {
    histogram.buckets.values().sum::<u64>() + histogram.saturated
}

/// A distribution of the driver's own.
fn drivers(distribution: &Value) -> Histogram {
    serde_json::from_value(distribution["histogram"].clone()).unwrap()
}

/// Runs of many lengths, caps and failures: errnos by command, runs by bucket and stop, scans by length.
fn every_bucket_agrees_with_the_oracle(backend: &str) {
    const CAP: u64 = 9 * PAGE;
    // The last pages of a run are shorter than the cap, whatever the memory of this boot looks like.
    guest::huge_pages(2);
    let oracle = Oracle::start();
    let load = "--memory hugetlb --size 4M --cap 36864 --step page --count 6000 \
                --errors unmapped=60,zero-length=50,bad-ioas=25,flags=10,overflow=5";
    let recorded = guest::record_load_by(backend, "buckets", load);
    let seen = oracle.seen();
    let counters = guest::counters(&recorded);

    let dispatched = seen.without(recorded.recorder, "dispatch");
    for (command, calls) in &counters.dispatch {
        let count = |outcome: &str| guest::count(&dispatched, command, outcome);
        assert_eq!(values(&calls.ok), count("ok"), "{command}");
        assert_eq!(values(&calls.failed), calls.errors.values().sum::<u64>(), "{command}");
        for (&number, &failed) in &calls.errors {
            assert_eq!(failed, count(&errno::name(number)), "{command}, errno {number}");
        }
    }
    let commands: Vec<&String> = counters.dispatch.keys().collect();
    assert!(
        dispatched.keys().all(|(command, _)| commands.contains(&command)),
        "{commands:?}, {dispatched:?}"
    );

    let scans = counters.get_phys.unwrap();
    let runs = seen.runs_without(recorded.recorder);
    assert!(runs.len() > 4, "too few lengths to show anything: {runs:?}");
    let (mut capped, mut others) = (Histogram::new(RUN), Histogram::new(RUN));
    let mut classes: BTreeMap<u32, u64> = BTreeMap::new();
    for (&bytes, &count) in &runs {
        // Every query begins at a page.
        let class = u32::try_from(scan_class(bytes.div_ceil(PAGE))).unwrap();
        *classes.entry(class).or_default() += count;
        for _ in 0..count {
            if bytes == CAP { &mut capped } else { &mut others }.record(bytes);
        }
    }
    let mut short = Histogram::new(RUN);
    for (_, histogram) in scans.runs.iter().filter(|(stop, _)| *stop != "cap") {
        short.merge(histogram);
    }
    assert_eq!(scans.runs["cap"], capped);
    assert_eq!(short, others);
    capped.merge(&others);
    assert_eq!(drivers(&guest::job(&recorded.load)["run_bytes"]), capped, "driver and oracle");
    let ours: BTreeMap<u32, u64> = scans.ok.iter().map(|(&class, all)| (class, values(all))).collect();
    assert_eq!(ours, classes);
    assert_eq!(scans.pages, runs.iter().map(|(bytes, count)| bytes.div_ceil(PAGE) * count).sum::<u64>());
}

/// Between the driver's clock and ours, in the emulator: the system call's entry and exit, and the programs, ns.
const WAY: u64 = 6_000;

/// Each quantile is the driver's, from below, and less so by no more than the buckets are wide and the way into
/// the kernel and out is long.
fn quantiles_are_the_drivers(backend: &str) {
    guest::huge_pages(40);
    let load = "--memory hugetlb --size 32M --cap max --step huge --count 320";
    let recorded = guest::record_load_by(backend, "quantiles", load);
    let ours = &guest::counters(&recorded).dispatch["IOAS_NOIOMMU_GET_PA"].ok;
    let drivers = drivers(&guest::job(&recorded.load)["service_ns"]["ok"]);
    let count = ours.count;
    assert_eq!(drivers.count, count);
    // Lowest and highest value that the bucket of a rank may hold.
    let at = |histogram: &Histogram, rank: u64| {
        let quantile = histogram.quantile(rank as f64 / count as f64);
        (quantile.lower().unwrap(), quantile.upper().unwrap())
    };
    // An interruption between the clocks moves a call up the driver's ranks: some are allowed to be.
    let moved = count / 20;
    for rank in (moved + 1..=count - moved).step_by(7) {
        let (low, high) = at(ours, rank);
        let most = at(&drivers, rank).1;
        assert!(low <= most, "rank {rank} of {count}: {low} is above the driver's {most}");
        let least = at(&drivers, rank - moved).0;
        // A bucket each, of 1/128.
        let bound = (least - least / 60).saturating_sub(WAY);
        assert!(high >= bound, "rank {rank} of {count}: {high}, the driver's {least}");
    }
}
