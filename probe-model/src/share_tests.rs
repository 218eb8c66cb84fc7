//! Made-up shares and latencies.

use std::collections::BTreeMap;

use probe_common::bucket::{LATENCY, LATENCY_FAILED, RUN, Scheme};

use super::*;

fn amount(nanos: u64) -> Amount {
    Amount { nanos, noise: 3 }
}

fn part(inside: u64, outside: u64) -> Part {
    Part { inside: amount(inside), outside: amount(outside) }
}

fn share() -> Share {
    Share {
        backend: "fsession".into(),
        get_pa: Some(ByOutcome { ok: part(630, 600), failed: part(590, 610) }),
        other: part(100, 300),
        get_phys: Some(ByOutcome { ok: part(90, 540), failed: part(90, 500) }),
        ..Share::default()
    }
}

fn filled(scheme: Scheme, values: impl IntoIterator<Item = u64>) -> Histogram {
    let mut histogram = Histogram::new(scheme);
    values.into_iter().for_each(|value| histogram.record(value));
    histogram
}

fn scans(failed: u64, stops: &[(&str, u64)]) -> Scans {
    let runs = stops.iter().map(|&(stop, runs)| (stop.to_owned(), filled(RUN, (0..runs).map(|_| 4096))));
    Scans {
        ok: [(0, filled(LATENCY, [600; 100]))].into(),
        failed: filled(LATENCY_FAILED, (0..failed).map(|_| 200)),
        errors: BTreeMap::new(),
        pages: 100,
        runs: runs.collect(),
    }
}

fn get_pa(scans: Scans, failed: u64) -> WithoutProbes {
    let calls = Calls {
        ok: filled(LATENCY, [1940; 100]),
        failed: filled(LATENCY_FAILED, (0..failed).map(|_| 1500)),
        errors: BTreeMap::new(),
    };
    let counters = Counters { get_phys: Some(scans), ..Counters::default() };
    of_command(&share(), GET_PA, &calls, &counters)
}

#[test]
fn a_latency_is_what_was_measured_less_what_the_probes_put_inside() {
    let without = get_pa(scans(50, &[("cap", 100)]), 50);
    let (ok, failed) = (without.ok.unwrap(), without.failed.unwrap());
    // All calls are alike, so the exact sum says where in the bucket they are.
    assert_eq!((ok.p50.unwrap().nanos, ok.mean.unwrap().nanos), (1310, 1310));
    assert!(ok.p50.unwrap().plus_minus <= 16, "{ok:?}");
    assert_eq!((failed.p50.unwrap().nanos, failed.inside.nanos), (910, 590));
    assert!(!ok.at_least);
    let scans = of_scans(&share(), &scans(50, &[("cap", 100)]));
    assert_eq!(scans.ok.unwrap().p50.unwrap().nanos, 510);
    assert_eq!(scans.failed.unwrap().p50.unwrap().nanos, 110);
}

#[test]
fn failures_before_get_phys_hold_the_dispatchs_own_share_alone() {
    let failed = |came| get_pa(scans(came, &[("cap", 100)]), 50).failed.unwrap();
    assert_eq!(failed(0).inside, amount(100));
    assert_eq!(failed(50).inside, amount(590));
    // Some of them: in between, and either end is within the noise.
    let some = failed(20).inside;
    assert_eq!((some.nanos, some.noise), (345, 245 + 3));
}

#[test]
fn stops_that_are_looked_up_cost_more_and_that_is_said() {
    assert!(get_pa(scans(0, &[("cap", 50), ("area-end", 50)]), 0).ok.unwrap().at_least);
    assert!(!get_pa(scans(0, &[("cap", 500), ("unmapped", 50), ("break", 2)]), 0).ok.unwrap().at_least);
}

#[test]
fn other_commands_have_no_scan_inside() {
    let calls = Calls {
        ok: filled(LATENCY, [5000]),
        failed: Histogram::new(LATENCY_FAILED),
        errors: BTreeMap::new(),
    };
    let without = of_command(&share(), "IOAS_MAP", &calls, &Counters::default());
    assert_eq!(without.ok.unwrap().p50.unwrap().nanos, 4900);
    assert_eq!(without.failed, None);
}

#[test]
fn a_share_within_its_noise_corrects_nothing() {
    let noisy = Part { inside: Amount { nanos: 40, noise: 60 }, outside: Amount::default() };
    let without = without(&filled(LATENCY, [1000; 9]), noisy, false).unwrap();
    assert_eq!((without.p50, without.mean), (None, None));
    assert_eq!(without.inside.nanos, 40);
}

#[test]
fn what_is_left_is_never_less_than_nothing() {
    let without = without(&filled(LATENCY, [100; 9]), part(120, 0), false).unwrap();
    assert_eq!(without.p50.unwrap().nanos, 0);
}

#[test]
fn a_percentile_stays_within_its_bucket_whatever_the_sum_says() {
    // Two buckets with half of the calls each: the sum cannot tell.
    let values = (0..100).map(|call| if call % 2 == 0 { 1000 } else { 3000 });
    let histogram = filled(LATENCY_FAILED, values);
    let (value, off) = estimate(&histogram, 0.5).unwrap();
    assert!((value - 1000.0).abs() <= off && off <= 64.0, "{value} {off}");
    assert_eq!(estimate(&filled(LATENCY, [1 << 40; 3]), 0.5), None);
    assert_eq!(estimate(&Histogram::new(LATENCY), 0.5), None);
}

#[test]
fn a_difference_that_is_the_probes_own_is_said() {
    let header = |inside| {
        let get_pa = ByOutcome { ok: part(inside, 600), failed: part(590, 610) };
        let share = Share { get_pa: Some(get_pa), ..share() };
        let shares = Shares { known: vec![share], unknown: None };
        Header { backend: "fsession".into(), shares, ..Header::default() }
    };
    let said = difference(&header(630), &header(1570)).unwrap();
    assert_eq!(said, "the probes add 630 ns to each GET_PA latency of A, 1.57 µs to B's");
    assert_eq!(difference(&header(630), &header(640)), None);
    let unknown = Header { backend: "fsession".into(), ..Header::default() };
    assert!(difference(&header(630), &unknown).unwrap().contains("of B is not known"));
    assert_eq!(difference(&unknown, &unknown), None);
}
