//! Comparisons of made-up recordings whose difference is known.

mod calibration;
mod made;

use super::*;
use crate::origin::Header;
use made::Made;

fn row<'a>(comparison: &'a Comparison, name: &str) -> &'a Compared {
    let found = comparison.measures.iter().find(|row| row.measure == name);
    found.unwrap_or_else(|| panic!("no {name}: {comparison:#?}"))
}

fn judged(comparison: &Comparison) -> Vec<&str> {
    let is_verdict = |row: &&Compared| matches!(row.verdict, Verdict::Worse { .. } | Verdict::Better);
    comparison.measures.iter().filter(is_verdict).map(|row| row.measure.as_str()).collect()
}

fn of(a: &Made, b: &Made) -> Comparison {
    let mut random = fastrand::Rng::with_seed(11);
    Comparison::of(&a.side(&mut random), &b.side(&mut random), 0.05, 1)
}

fn why(row: &Compared) -> &str {
    match &row.verdict {
        Verdict::Unknown { why } => why,
        other => panic!("{}: {other:?}", row.measure),
    }
}

#[test]
fn ten_percent_are_found_and_told() {
    let plain = Made::default();
    let slower = Made {
        fixed: 1.1 * plain.fixed,
        page: 1.1 * plain.page,
        outside: 1.1 * plain.outside,
        ..plain.clone()
    };
    let comparison = of(&plain, &slower);
    let median = row(&comparison, "GET_PA median");
    assert_eq!(median.verdict, Verdict::Worse { regression: true }, "{comparison:#?}");
    let (change, margin) = (median.change.unwrap(), median.margin.unwrap());
    assert!((change - 0.1).abs() <= 1.5 * margin && margin < 0.04, "{change} ± {margin}");
    assert_eq!(comparison.distributions_differ(), Some(true));
    // The other way round it is better, and no regression.
    let back = of(&slower, &plain);
    assert_eq!((&row(&back, "GET_PA median").verdict, back.has_regression()), (&Verdict::Better, false));
    // Beyond a threshold above it, it is worse but no regression.
    let mut random = fastrand::Rng::with_seed(11);
    let sides = (plain.side(&mut random), slower.side(&mut random));
    assert!(!Comparison::of(&sides.0, &sides.1, 0.2, 1).has_regression());
}

#[test]
fn another_mix_of_equal_costs_is_no_difference() {
    let few = Made { mix: vec![(1, 300), (512, 3)], ..Made::default() };
    let many = Made { mix: vec![(1, 600), (512, 3)], ..Made::default() };
    let comparison = of(&few, &many);
    assert_eq!(judged(&comparison), [""; 0], "{comparison:#?}");
    for name in ["GET_PA median", "GET_PA 90 %", "GET_PA 99 %"] {
        let row = row(&comparison, name);
        assert_eq!((why(row), row.change), ("scan lengths differ", None));
    }
    assert!(why(row(&comparison, "mean run")).contains("one page was asked for"));
    assert_eq!(comparison.distribution, None);
    for (name, cost) in [("fixed cost", 538.0), ("a further page", 141.0)] {
        let row = row(&comparison, name);
        for value in [row.a.unwrap(), row.b.unwrap()] {
            assert!((value / cost - 1.0).abs() < 0.02, "{name}: {value}");
        }
        assert!(matches!(row.verdict, Verdict::Same { would_have_seen } if would_have_seen < 0.1), "{row:?}");
    }
    assert!(comparison.warnings.iter().any(|said| said.contains("scan lengths differ")));
}

#[test]
fn a_length_that_one_side_alone_has_is_left_out_and_said() {
    let a = Made { mix: vec![(1, 300), (8, 40), (512, 10)], ..Made::default() };
    let b = Made { mix: vec![(1, 300), (64, 40), (512, 5)], ..Made::default() };
    let comparison = of(&a, &b);
    assert_eq!(judged(&comparison), [""; 0], "{comparison:#?}");
    let said = comparison.warnings.join("\n");
    for words in
        ["scans of 8 pages are left out: only one side has it (11 % of A's scans, none of B's)", "64 pages"]
    {
        assert!(said.contains(words), "{said}");
    }
    assert!(matches!(row(&comparison, "scan median").verdict, Verdict::Same { .. }));
}

#[test]
fn other_lengths_within_a_class_are_not_compared() {
    let a = Made { mix: vec![(1, 300), (300, 20)], ..Made::default() };
    let b = Made { mix: vec![(1, 300), (500, 20)], ..Made::default() };
    let comparison = of(&a, &b);
    assert_eq!(judged(&comparison), [""; 0], "{comparison:#?}");
    assert_eq!(why(row(&comparison, "a further page")), "one length only");
    assert!(comparison.warnings.iter().any(|said| said.contains("other lengths within it")));
}

#[test]
fn two_calls_of_a_second_are_said_on_either_side() {
    let none = Made { windows: 10, ..Made::default() };
    let two = Made { slow: vec![1_000_000_000; 2], ..none.clone() };
    for (a, b, name, other) in [(&none, &two, "B", "A"), (&two, &none, "A", "B")] {
        let comparison = of(a, b);
        assert_eq!(judged(&comparison), [""; 0], "two of two are one in two by chance: {comparison:#?}");
        let said = comparison.findings.join("\n");
        let words = format!(
            "2 of {name}'s 3,002 scans of 1 page took longer than any of {other}'s, the longest 1.00 s"
        );
        assert!(said.contains(&words), "{said}");
        assert!(said.contains("in 50 of 100"), "{said}");
        let slow = row(&comparison, "slow scans");
        assert!(why(slow).contains("too few for a verdict"), "{slow:?}");
        assert_eq!(slow.counts.unwrap().iter().map(|count| count.0).max(), Some(2));
        assert_eq!(row(&comparison, "scan median").counts, None);
    }
    // Sixteen of them in as many windows are more than chance.
    let many = Made { slow: vec![1_000_000; 16], windows: 20, ..none.clone() };
    let comparison = of(&Made { windows: 20, ..none }, &many);
    assert_eq!(
        row(&comparison, "slow scans").verdict,
        Verdict::Worse { regression: true },
        "{comparison:#?}"
    );
}

#[test]
fn failures_are_counted_and_named() {
    let none = Made::default();
    let some = Made { failed: 5, ..Made::default() };
    let comparison = of(&none, &some);
    let failed = row(&comparison, "failed calls");
    assert_eq!((&failed.verdict, failed.change), (&Verdict::Worse { regression: true }, None));
    assert!(
        comparison.findings.join("").contains("none of A's 6,000, 100 (100 ENOENT) of B's 6,100"),
        "{comparison:#?}"
    );
    assert_eq!(judged(&comparison), ["failed calls"]);
    assert_eq!(row(&of(&some, &none), "failed calls").verdict, Verdict::Better);
    // A side of which every call failed is not an empty one.
    let all = Made { mix: Vec::new(), ..some };
    let comparison = of(&none, &all);
    assert!(
        comparison.unfit.is_empty() && comparison.findings.join("").contains("100 (100 ENOENT) of B's 100"),
        "{comparison:#?}"
    );
}

#[test]
fn equal_sides_tell_how_little_they_can_tell() {
    let same = Made {
        spread: 0.0,
        wander: 0.0,
        fixed: 859.0,
        outside: 2000.0,
        windows: 8,
        mix: vec![(1, 100)],
        ..Made::default()
    };
    let comparison = of(&same, &same);
    assert_eq!(judged(&comparison), [""; 0]);
    let Verdict::Same { would_have_seen } = row(&comparison, "GET_PA median").verdict else {
        panic!("{comparison:?}")
    };
    // Values are anywhere in their buckets.
    assert!((0.005..0.03).contains(&would_have_seen), "{would_have_seen}");
    assert!(comparison.warnings.iter().any(|said| said == "both sides are the same recordings"));
    assert!(comparison.is_whole());
}

#[test]
fn contiguity_is_compared_where_the_same_was_asked_for() {
    let runs = |mix: &[(u64, u64)], stop| Made { mix: mix.to_vec(), stop, ..Made::default() };
    // Asked for other lengths, all of which were there.
    let other = of(&runs(&[(256, 40)], "cap"), &runs(&[(512, 40)], "cap"));
    assert_eq!(why(row(&other, "mean run")), "other lengths were asked for");
    // Asked for 256 pages; on one side memory breaks after 64.
    let mut random = fastrand::Rng::with_seed(1);
    let whole = runs(&[(256, 40)], "cap").side(&mut random);
    let broken = runs(&[(64, 40)], "break").side(&mut random);
    let comparison = Comparison::of(&whole, &broken, 0.05, 1);
    assert_eq!(row(&comparison, "mean run").verdict, Verdict::Worse { regression: true }, "{comparison:#?}");
    // Breaks after more than was asked for on the other side: that asked for more.
    let more = runs(&[(512, 40)], "break").side(&mut random);
    let comparison = Comparison::of(&whole, &more, 0.05, 1);
    assert!(why(row(&comparison, "mean run")).contains("cannot be shown"), "{comparison:#?}");
    let same = of(&runs(&[(256, 40)], "cap"), &runs(&[(256, 40)], "cap"));
    assert!(matches!(row(&same, "mean run").verdict, Verdict::Same { .. }));
}

#[test]
fn too_little_says_nothing() {
    let empty = Side::default();
    let comparison = Comparison::of(&empty, &empty, 0.05, 1);
    assert!(!comparison.compared_any() && !comparison.is_whole() && !comparison.has_regression());
    assert_eq!(comparison.distribution, None);
    let one = of(&Made::default(), &Made { windows: 1, ..Made::default() });
    assert!(!one.compared_any() && !one.is_whole(), "{one:#?}");
    assert!(one.unfit.join("").contains("B has calls in one window only"));
    let idle = of(&Made { mix: Vec::new(), ..Made::default() }, &Made::default());
    assert!(idle.unfit.join("").contains("A holds no call") && !idle.compared_any());
    // Four windows do not say how windows vary.
    let few = of(&Made::default(), &Made { windows: 4, ..Made::default() });
    assert!(!few.compared_any());
}

#[test]
fn a_recording_given_twice_is_counted_once() {
    let mut random = fastrand::Rng::with_seed(2);
    let made = Made::default();
    let once = made.side(&mut fastrand::Rng::with_seed(3));
    let mut twice = Side::default();
    (0..2).for_each(|_| made.record(&mut twice, &mut fastrand::Rng::with_seed(3)));
    assert_eq!((twice.files(), twice.whole().calls()), (1, once.whole().calls()));
    let comparison = Comparison::of(&twice, &twice, 0.05, 1);
    assert!(comparison.unfit[0].contains("A's recording 2 is recording 1 again"), "{comparison:#?}");
    assert!(!comparison.is_whole());
    // On both sides beside others.
    let mut more = once.clone();
    made.record(&mut more, &mut random);
    let comparison = Comparison::of(&once, &more, 0.05, 1);
    assert!(comparison.unfit.join("").contains("A's 1 is B's 1"), "{comparison:#?}");
    // Another recording of the same instant on the same boot, with other content, is another one.
    let mut both = once.clone();
    made.record(&mut both, &mut random);
    assert_eq!(both.files(), 2);
}

#[test]
fn an_hour_takes_no_more_blocks_than_a_minute_and_loses_no_call() {
    let mut random = fastrand::Rng::with_seed(3);
    let long = Made { windows: 3600, mix: vec![(1, 10)], ..Made::default() }.side(&mut random);
    assert!(long.independent() <= 65);
    assert_eq!((long.whole().calls(), long.windows()), (36_000, 3600));
}

#[test]
fn what_measured_otherwise_gets_no_verdict_on_what_that_touches() {
    let plain = Made { mix: vec![(1, 300), (64, 40)], ..Made::default() };
    let with = |change: &dyn Fn(&mut Header)| {
        let mut other = Made { fixed: 2.0 * plain.fixed, outside: 2.0 * plain.outside, ..plain.clone() };
        change(&mut other.header);
        of(&plain, &other)
    };
    for (words, comparison) in [
        ("backends differ", with(&|header| header.backend = "kprobe".into())),
        ("clock sources differ", {
            let mut plain = plain.clone();
            plain.header.host.clocksource = Some("tsc".into());
            let mut other = Made { fixed: 2.0 * plain.fixed, ..plain.clone() };
            other.header.host.clocksource = Some("acpi_pm".into());
            of(&plain, &other)
        }),
    ] {
        assert_eq!(judged(&comparison), [""; 0], "{comparison:#?}");
        assert!(why(row(&comparison, "scan median")).contains(words));
        // Pages cost the same by any instrument.
        assert!(
            matches!(row(&comparison, "a further page").verdict, Verdict::Same { .. }),
            "{comparison:#?}"
        );
    }
    let pages = with(&|header| header.page_size = 65536);
    assert_eq!(why(row(&pages, "GET_PA median")), "page sizes differ");
    assert!(why(row(&pages, "mean run")).contains("page sizes differ"));
    let abi = with(&|header| {
        header.abi = "v5".into();
        header.length_is_cap = false;
    });
    assert!(why(row(&abi, "mean run")).contains("ABIs differ"), "{abi:#?}");
}

#[test]
fn a_clock_that_is_too_coarse_tells_nothing() {
    let coarse = |step| {
        let mut made = Made { mix: vec![(1, 300), (512, 20)], ..Made::default() };
        made.header.host.clock_step = Some(step);
        made
    };
    let comparison = of(&coarse(4_000_000), &coarse(4_000_000));
    assert_eq!(why(row(&comparison, "scan median")), "below what the clock tells apart");
    // A step of 279 ns says little of 679 ns, and much of 73 µs.
    let comparison = of(&coarse(279), &coarse(279));
    let told = |name| match row(&comparison, name).verdict {
        Verdict::Same { would_have_seen } => would_have_seen,
        _ => f64::INFINITY,
    };
    assert!(told("scan, 1 page") > 0.3 && told("scan, 512 pages") < 0.1, "{comparison:#?}");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let mut other = Made::default();
    (other.header.backend, other.header.page_size) = ("kprobe".into(), 65536);
    let warnings = of(&Made::default(), &other).warnings.join("\n");
    for word in [
        "backend differs (fsession; kprobe)",
        "page size differs (4 KiB; 64 KiB)",
        "each side is one recording",
    ] {
        assert!(warnings.contains(word), "{warnings}");
    }
}
