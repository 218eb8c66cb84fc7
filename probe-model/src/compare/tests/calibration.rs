//! How often verdicts are wrong, and how often a difference is found: hundreds of comparisons of made-up
//! recordings.

use super::*;

/// Comparisons of which at most 5 % may have a verdict.
const TIMES: u64 = 200;

/// How many of so many comparisons have any verdict, whatever the threshold, and which measures had one.
fn verdicts(times: u64, seed: u64, sides: impl Fn(&mut fastrand::Rng) -> (Side, Side)) -> (u64, Vec<String>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut found, mut which) = (0, Vec::new());
    for seed in 0..times {
        let (a, b) = sides(&mut random);
        let comparison = Comparison::of(&a, &b, 0.0, seed);
        assert!(comparison.compared_any());
        let mut names: Vec<String> = judged(&comparison).into_iter().map(str::to_owned).collect();
        names.extend((comparison.distributions_differ() == Some(true)).then(|| "distribution".to_owned()));
        found += u64::from(!names.is_empty());
        which.extend(names);
    }
    println!("{found} of {times}: {which:?}");
    (found, which)
}

/// Latencies as they are: a body, a tail, windows that differ.
fn plain() -> Made {
    Made {
        mix: vec![(1, 100), (8, 20), (64, 8)],
        spread: 0.15,
        wander: 0.02,
        tail: Some((50, 20_000.0)),
        by_chance: true,
        ..Made::default()
    }
}

#[test]
fn one_setting_against_itself_has_a_verdict_in_at_most_one_of_twenty() {
    let made = plain();
    let (found, which) = verdicts(TIMES, 7, |random| (made.side(random), made.side(random)));
    assert!(found <= TIMES / 20, "{found} of {TIMES}: {which:?}");
}

#[test]
fn another_mix_alone_has_a_verdict_in_at_most_one_of_twenty() {
    let lengths = [1u64, 3, 8, 20, 64, 200, 512];
    let (found, which) = verdicts(TIMES, 8, |random| {
        // Two or three lengths on both sides, one more on one of them, numbers of their own.
        let mut lengths = lengths;
        random.shuffle(&mut lengths);
        let common = 2 + random.usize(..2);
        let mut side = |more: usize| {
            let mix = lengths[..common].iter().chain(&lengths[common..common + more]);
            let mix = mix.map(|&pages| (pages, 3 + random.u64(..60))).collect();
            Made { mix, ..plain() }.side(random)
        };
        (side(1), side(0))
    });
    assert!(found <= TIMES / 20, "{found} of {TIMES}: {which:?}");
}

#[test]
fn several_recordings_show_how_runs_differ() {
    // Runs of one setting differ by up to 10 %: windows alone would call that a difference.
    let made = Made { runs_wander: 0.1, windows: 10, ..plain() };
    let (found, which) = verdicts(100, 9, |random| (made.sides(4, random), made.sides(4, random)));
    assert!(found <= 5, "{found} of 100: {which:?}");
}

/// In how many of so many comparisons a measure is worse.
fn found(times: u64, seed: u64, name: &str, a: &Made, b: &Made) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let worse = |seed| {
        let comparison = Comparison::of(&a.side(&mut random), &b.side(&mut random), 0.05, seed);
        matches!(row(&comparison, name).verdict, Verdict::Worse { regression: true })
    };
    (0..times).map(worse).filter(|found| *found).count() as u64
}

#[test]
fn a_tenth_more_of_either_part_is_found_in_four_of_five_whatever_the_mixes() {
    let a = plain();
    let other = Made { mix: vec![(1, 60), (8, 40), (64, 16)], ..plain() };
    for mix in [&a, &other] {
        let fixed = Made { fixed: 1.1 * a.fixed, ..mix.clone() };
        let page = Made { page: 1.1 * a.page, ..mix.clone() };
        for (name, b) in [("fixed cost", fixed), ("a further page", page)] {
            let found = found(40, 10, name, &a, &b);
            println!("{name}: {found} of 40");
            assert!(found >= 32, "{name}: {found} of 40");
        }
    }
}
