//! Comparisons of made-up recordings whose difference is known.

use super::*;
use crate::histogram::Histogram;
use crate::sample::{Calls, Counters, Instant, Scans};
use crate::window::Window;
use probe_common::bucket::{LATENCY, LATENCY_FAILED, RUN};

/// Twenty windows of 400 calls whose latencies scatter, whose level wanders from window to window, and from
/// recording to recording by `wander`.
fn record(side: &mut Side, random: &mut fastrand::Rng, slower: f64, wander: f64) {
    side.begin(&Header { page_size: 4096, ..Header::default() });
    let run = 1.0 + wander * (random.f64() - 0.5);
    for number in 0..20u64 {
        let level = slower * run * (1.0 + 0.04 * (random.f64() - 0.5));
        let mut ok = Histogram::new(LATENCY);
        let mut runs = Histogram::new(RUN);
        for _ in 0..400 {
            // A body and a tail, as latencies have.
            let tail = if random.f64() < 0.02 { 10.0 * random.f64() } else { 0.0 };
            let value = level * (2000.0 * (1.0 + 0.3 * random.f64()) + 2000.0 * tail);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand")]
            ok.record(value as u64);
            runs.record(4096 * (1 + random.u64(..64)));
        }
        let failed = Histogram::new(LATENCY_FAILED);
        let at = |number: u64| Instant { monotonic: number * 1_000_000_000, realtime: 0 };
        let scans = Scans {
            ok: [(0, ok.clone())].into(),
            failed: failed.clone(),
            errors: [].into(),
            pages: 400,
            runs: [("cap".to_owned(), runs)].into(),
        };
        let calls = Calls { ok, failed, errors: [].into() };
        let counters = Counters {
            dispatch: [("IOAS_NOIOMMU_GET_PA".to_owned(), calls)].into(),
            get_phys: Some(scans),
            ..Counters::default()
        };
        side.window(&Window { from: at(number), to: at(number + 1), counters });
    }
}

fn side(random: &mut fastrand::Rng, files: usize, slower: f64, wander: f64) -> Side {
    let mut side = Side::default();
    (0..files).for_each(|_| record(&mut side, random, slower, wander));
    side
}

#[test]
fn the_same_setting_is_rarely_a_regression() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut regressions = 0;
    for seed in 0..20 {
        let (a, b) = (side(&mut random, 1, 1.0, 0.0), side(&mut random, 1, 1.0, 0.0));
        // Any worse verdict counts, as if there were no threshold.
        regressions += usize::from(Comparison::of(&a, &b, 0.0, seed).has_regression());
    }
    assert!(regressions <= 1, "{regressions} of 20");
}

#[test]
fn ten_percent_are_found_and_told() {
    let mut random = fastrand::Rng::with_seed(8);
    for seed in 0..5 {
        let (a, b) = (side(&mut random, 1, 1.0, 0.0), side(&mut random, 1, 1.1, 0.0));
        let comparison = Comparison::of(&a, &b, 0.05, seed);
        let median = &comparison.measures[0];
        assert_eq!(median.verdict, Verdict::Worse { regression: true }, "{comparison:?}");
        let (change, margin) = (median.change.unwrap(), median.margin.unwrap());
        assert!((change - 0.1).abs() <= 1.5 * margin && margin < 0.04, "{change} ± {margin}");
        assert!(comparison.distribution.unwrap() < 0.01);
        // The other way round it is better, and no regression.
        let back = Comparison::of(&b, &a, 0.05, seed);
        assert_eq!((back.measures[0].verdict, back.has_regression()), (Verdict::Better, false));
        // Beyond a threshold above it, it is worse but no regression.
        assert!(!Comparison::of(&a, &b, 0.2, seed).has_regression());
    }
}

#[test]
fn several_recordings_show_how_runs_differ() {
    let mut random = fastrand::Rng::with_seed(9);
    // Runs of one setting differ by up to 10 %: windows alone would call that a difference.
    let mut wrong = 0;
    for seed in 0..6 {
        let (a, b) = (side(&mut random, 4, 1.0, 0.1), side(&mut random, 4, 1.0, 0.1));
        wrong += usize::from(Comparison::of(&a, &b, 0.0, seed).has_regression());
    }
    assert!(wrong <= 1, "{wrong} of 6");
}

#[test]
fn too_little_says_nothing() {
    let empty = Side::default();
    let comparison = Comparison::of(&empty, &empty, 0.05, 1);
    assert!(comparison.measures.iter().all(|row| matches!(row.verdict, Verdict::Unknown { .. })));
    assert_eq!((comparison.distribution, comparison.has_regression()), (None, false));
}

#[test]
fn an_hour_takes_no_more_blocks_than_a_minute_and_loses_no_call() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut long = Side::default();
    long.begin(&Header::default());
    let mut short = side(&mut random, 1, 1.0, 0.0);
    let block = short.blocks().next().unwrap()[0].clone();
    let window = Window {
        from: Instant::default(),
        to: Instant { monotonic: 1, realtime: 0 },
        counters: Counters {
            dispatch: [(
                "IOAS_NOIOMMU_GET_PA".to_owned(),
                Calls {
                    ok: block.get_pa.unwrap(),
                    failed: Histogram::new(LATENCY_FAILED),
                    errors: [].into(),
                },
            )]
            .into(),
            ..Counters::default()
        },
    };
    (0..3600).for_each(|_| long.window(&window));
    assert!(long.independent() <= 65);
    assert_eq!(long.whole().calls(), 3600 * 400);
    short.begin(&Header::default());
    assert_eq!(short.files(), 2);
}

#[test]
fn what_cannot_be_compared_is_said() {
    let mut random = fastrand::Rng::with_seed(5);
    let (a, mut b) = (side(&mut random, 1, 1.0, 0.0), Side::default());
    b.begin(&Header { backend: "kprobe".into(), page_size: 65536, ..Header::default() });
    let warnings = Comparison::of(&a, &b, 0.05, 1).warnings.join("\n");
    for word in ["backend differs", "page size differs", "one recording"] {
        assert!(warnings.contains(word), "{warnings}");
    }
}
