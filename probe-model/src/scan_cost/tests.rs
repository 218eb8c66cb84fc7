//! Made-up scans whose cost is known, drawn with a seed.

use super::*;
use probe_common::bucket::{LATENCY, LATENCY_FAILED, RUN};

const PAGE: u64 = 4096;
const PLAIN: Conditions = Conditions { page_size: PAGE, clock_step: 1 };

fn none() -> Scans {
    Scans {
        ok: [].into(),
        failed: Histogram::new(LATENCY_FAILED),
        errors: [].into(),
        pages: 0,
        runs: [].into(),
    }
}

fn add(scans: &mut Scans, stop: &str, pages: u64, nanos: u64) {
    scans.ok.entry(pages.ilog2().min(15)).or_insert_with(|| Histogram::new(LATENCY)).record(nanos);
    scans.runs.entry(stop.to_owned()).or_insert_with(|| Histogram::new(RUN)).record(pages * PAGE);
    scans.pages += pages;
}

/// Scans of these lengths, so many of each, that cost `fixed + further × pages`.
#[derive(Debug)]
struct Made {
    lengths: Vec<(u64, u32)>,
    fixed: f64,
    further: f64,
    /// Relative spread.
    spread: f64,
    /// Share of scans that were preempted for up to 4 ms.
    preempted: f64,
    /// Step of the clock, ns.
    step: u64,
}

impl Default for Made {
    fn default() -> Self {
        Self { lengths: vec![], fixed: 538.0, further: 141.0, spread: 0.03, preempted: 0.0, step: 1 }
    }
}

impl Made {
    fn draw(&self, random: &mut fastrand::Rng) -> Scans {
        let mut scans = none();
        for &(pages, count) in &self.lengths {
            for _ in 0..count {
                let noise = normal(random);
                let mut nanos = (self.fixed + self.further * pages as f64) * (self.spread * noise).exp();
                if random.f64() < self.preempted {
                    nanos += 4e6 * random.f64();
                }
                add(&mut scans, "cap", pages, self.read(nanos, random));
            }
        }
        scans
    }

    /// As a clock of this step sees it: two readings, of which each is the last step.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ns, not negative")]
    fn read(&self, nanos: f64, random: &mut fastrand::Rng) -> u64 {
        if self.step <= 1 {
            return nanos.round() as u64;
        }
        let step = self.step as f64;
        let from = random.f64() * step;
        (((from + nanos) / step).floor() * step) as u64
    }
}

fn normal(random: &mut fastrand::Rng) -> f64 {
    (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos()
}

/// How many of 400 draws hold the true fixed cost, and the true cost of a page, within their margins.
fn covered(made: &Made, conditions: Conditions, seed: u64) -> (f64, f64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut fixed, mut further) = (0, 0);
    for _ in 0..400 {
        let cost = ScanCost::of(&made.draw(&mut random), conditions);
        let holds = |estimate: Option<Estimate>, truth: f64| {
            estimate.is_some_and(|estimate| (estimate.nanos - truth).abs() <= estimate.margin)
        };
        fixed += u32::from(holds(cost.fixed, made.fixed));
        further += u32::from(holds(cost.further_page, made.further));
    }
    (f64::from(fixed) / 400.0, f64::from(further) / 400.0)
}

#[test]
fn the_margins_hold_the_truth() {
    let same = |lengths: &[u64], count| lengths.iter().map(|&pages| (pages, count)).collect::<Vec<_>>();
    let cases = [
        ("two lengths", Made { lengths: same(&[1, 512], 200), ..Made::default() }),
        ("unequal", Made { lengths: vec![(1, 3000), (512, 30)], ..Made::default() }),
        ("a window of three", Made { lengths: vec![(1, 300), (512, 3)], ..Made::default() }),
        ("five", Made { lengths: vec![(1, 300), (512, 5)], ..Made::default() }),
        ("eight", Made { lengths: vec![(1, 8), (512, 8)], ..Made::default() }),
        ("wide", Made { lengths: vec![(1, 300), (512, 30)], spread: 0.3, ..Made::default() }),
        (
            "preempted",
            Made { lengths: vec![(1, 900), (64, 90), (512, 30)], preempted: 0.05, ..Made::default() },
        ),
        ("many", Made { lengths: same(&[1, 2, 4, 8, 16, 32, 64, 128, 512, 4096], 50), ..Made::default() }),
        ("many, many calls", Made { lengths: same(&[1, 8, 64, 512], 5000), ..Made::default() }),
        (
            "many, wide",
            Made { lengths: same(&[1, 8, 64, 512], 200), spread: 0.3, preempted: 0.02, ..Made::default() },
        ),
        ("any length", Made { lengths: (1..=127).map(|pages| (pages, 5)).collect(), ..Made::default() }),
        (
            "any length, wide",
            Made { lengths: (1..=127).map(|pages| (pages, 5)).collect(), spread: 0.2, ..Made::default() },
        ),
        ("two in a class", Made { lengths: vec![(1, 400), (512, 60), (1000, 40)], ..Made::default() }),
        (
            "two in a class, wide",
            Made { lengths: vec![(1, 400), (2, 300), (3, 200), (500, 20)], spread: 0.3, ..Made::default() },
        ),
        ("long", Made { lengths: vec![(300, 400), (3000, 60), (40_000, 40)], ..Made::default() }),
    ];
    for (seed, (name, made)) in (1..).zip(cases) {
        let (fixed, further) = covered(&made, PLAIN, seed);
        assert!(fixed >= 0.95 && further >= 0.95, "{name}: fixed {fixed}, a page {further}");
    }
}

#[test]
fn a_coarse_clock_is_in_the_margins() {
    for (seed, fixed) in (1..).zip([538.0, 600.0, 697.5, 750.0]) {
        let made = Made { lengths: vec![(1, 400), (512, 200)], step: 279, fixed, ..Made::default() };
        for conditions in [PLAIN, Conditions { clock_step: 279, ..PLAIN }] {
            let (fixed, further) = covered(&made, conditions, seed);
            assert!(fixed >= 0.95 && further >= 0.95, "{made:?}: fixed {fixed}, a page {further}");
        }
    }
}

fn made(lengths: &[(u64, u32, u64)]) -> Scans {
    let mut scans = none();
    for &(pages, count, nanos) in lengths {
        (0..count).for_each(|_| add(&mut scans, "cap", pages, nanos));
    }
    scans
}

#[test]
fn equal_costs_are_equal_whatever_the_mix() {
    let mut random = fastrand::Rng::with_seed(4);
    let draw = |lengths: Vec<(u64, u32)>, random: &mut _| {
        ScanCost::of(&Made { lengths, ..Made::default() }.draw(random), PLAIN)
    };
    let (a, b) =
        (draw(vec![(1, 3000), (512, 30)], &mut random), draw(vec![(1, 6000), (512, 30)], &mut random));
    for cost in [&a, &b] {
        let (fixed, further) = cost.parts().unwrap();
        assert!((fixed.nanos - 538.0).abs() <= fixed.margin && fixed.margin < 6.0, "{cost:?}");
        assert!((further.nanos - 141.0).abs() <= further.margin && further.margin < 5.0, "{cost:?}");
        assert_eq!(cost.linearity, Linearity::TwoLengthsOnly { from: 1.0, to: 512.0 });
        assert!(cost.known().ends_with("linearity between them not tested"));
        // What is between, or beyond, was not tested.
        assert_eq!([1.0, 64.0, 262_144.0].map(|pages| cost.at(pages)), [None; 3]);
    }
}

#[test]
fn a_cost_that_falls_is_said_and_never_shown_as_none() {
    let cost = ScanCost::of(&made(&[(1, 800, 5000), (512, 800, 3000)]), PLAIN);
    let Linearity::DoesNotGrow { slope, .. } = cost.linearity else { panic!("{cost:?}") };
    assert!((slope.nanos + 2000.0 / 511.0).abs() < slope.margin && slope.margin < 0.1, "{slope:?}");
    assert_eq!((cost.parts(), cost.at(512.0), cost.break_even()), (None, None, None));
    let said = cost.sentence();
    assert!(said.starts_with("does not grow with pages here: 1 page took 5.0"), "{said}");
    // What falls by less than its margin may grow by the rest of it.
    let about = |pages, middle: u64| (0..20).map(move |call| (pages, 1, middle - 100 + 50 * (call % 5)));
    let flat: Vec<_> = about(1, 5000).chain(about(512, 4990)).collect();
    let cost = ScanCost::of(&made(&flat), PLAIN);
    let Linearity::DoesNotGrow { slope, .. } = cost.linearity else { panic!("{cost:?}") };
    assert!(slope.nanos + slope.margin > 0.0, "{slope:?}");
    assert!(cost.sentence().starts_with("is not seen to grow with pages here, by 0."), "{}", cost.sentence());
}

#[test]
fn one_length_tells_nothing_of_a_page() {
    for lengths in [vec![(512, 50, 72_730)], vec![(512, 50, 72_730), (1, 2, 600)]] {
        let cost = ScanCost::of(&made(&lengths), PLAIN);
        let Linearity::OneLength { pages, cost: whole } = cost.linearity else { panic!("{cost:?}") };
        assert!((whole.nanos - 72_730.0).abs() <= whole.margin && whole.margin < 600.0, "{whole:?}");
        assert_eq!((pages, cost.parts()), (512.0, None));
    }
    // Neighbours whose latencies overlap.
    let near: Vec<_> = (64..=127).map(|pages| (pages, 5, 538 + 141 * pages)).collect();
    let cost = ScanCost::of(&made(&near), PLAIN);
    assert!(matches!(cost.linearity, Linearity::OneLength { .. }), "{cost:?}");
    assert!(cost.known().starts_with("lengths that cannot be told apart"), "{}", cost.known());
    let few = ScanCost::of(&made(&[(512, 2, 72_730)]), PLAIN);
    assert_eq!((few.linearity, few.lengths.len()), (Linearity::TooFew, 0));
    assert_eq!(ScanCost::of(&none(), PLAIN).linearity, Linearity::TooFew);
}

#[test]
fn three_lengths_say_whether_it_is_linear() {
    let line = |pages: u64| 538 + 141 * pages;
    let straight = |pages| (pages, 40, line(pages));
    let cost = ScanCost::of(&made(&[1, 16, 512].map(straight)), PLAIN);
    let Linearity::Linear { from, to, lengths, within } = cost.linearity else { panic!("{cost:?}") };
    assert_eq!((from, to, lengths), (1.0, 512.0, 3));
    assert!(within < 0.02, "{within}");
    assert!((cost.at(64.0).unwrap() / line(64) as f64 - 1.0).abs() < 0.01);
    assert_eq!((cost.at(513.0), cost.at(0.5)), (None, None));
    assert!((cost.break_even().unwrap() - 538.0 / 141.0).abs() < 0.1);
    // Each page dearer than the one before; and a step.
    for bent in [[700, 20_000, 9_000_000], [700, 3000, 3100], [700, 70_000, 72_000]] {
        let bent: Vec<_> = [1, 16, 512].into_iter().zip(bent).map(|(pages, ns)| (pages, 40, ns)).collect();
        let cost = ScanCost::of(&made(&bent), PLAIN);
        assert!(matches!(cost.linearity, Linearity::NotLinear { .. }), "{cost:?}");
        assert_eq!((cost.parts(), cost.at(16.0)), (None, None));
        assert!(cost.sentence().starts_with("not linear"), "{}", cost.sentence());
    }
    // Neighbours are no third length.
    let cost = ScanCost::of(&made(&[1, 500, 510].map(straight)), PLAIN);
    assert!(matches!(cost.linearity, Linearity::TwoLengthsOnly { .. }), "{cost:?}");
    // A line whose fixed cost no call can have.
    let cost = ScanCost::of(&made(&[(64, 40, 10_000), (512, 40, 200_000)]), PLAIN);
    assert!(matches!(cost.linearity, Linearity::NotLinear { off: None, .. }), "{cost:?}");
}

#[test]
fn the_page_that_ended_a_scan_was_looked_at_too() {
    let mut scans = none();
    for pages in [1, 511] {
        (0..100).for_each(|_| add(&mut scans, "break", pages, 538 + 141 * (pages + 1)));
    }
    let cost = ScanCost::of(&scans, PLAIN);
    let (fixed, further) = cost.parts().unwrap_or_else(|| panic!("{cost:?}"));
    assert!((fixed.nanos - 538.0).abs() <= fixed.margin && fixed.margin < 10.0, "{fixed:?}");
    assert!((further.nanos - 141.0).abs() <= further.margin, "{further:?}");
    // Where it is not known whether there was one, the fixed cost is as uncertain as a page.
    let runs = scans.runs.remove("break").unwrap();
    scans.runs.insert("short".to_owned(), runs);
    let cost = ScanCost::of(&scans, PLAIN);
    let (fixed, further) = cost.parts().unwrap_or_else(|| panic!("{cost:?}"));
    assert!((fixed.nanos - 538.0).abs() <= fixed.margin && fixed.margin > 141.0, "{fixed:?}");
    assert!((further.nanos - 141.0).abs() <= further.margin, "{further:?}");
}

#[test]
fn figures_are_no_finer_than_their_margin() {
    let shown = |nanos, margin| Estimate { nanos, margin }.to_string();
    assert_eq!(shown(538.2, 4.68), "538.2 ± 4.7 ns");
    assert_eq!(shown(141.03, 0.53), "141.03 ± 0.53 ns");
    assert_eq!(shown(2513.0, 158.0), "2.51 ± 0.16 µs");
    assert_eq!(shown(-3.9, 12.0), "-4 ± 12 ns");
    assert_eq!(shown(72_730.0, 290.0), "72.73 ± 0.29 µs");
}
