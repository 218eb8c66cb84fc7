//! Metrics of made-up counters.

use super::*;
use crate::attribution::Who;
use probe_common::bucket::{LATENCY, RUN as RUNS};
use proptest::prelude::*;

fn filled(scheme: probe_common::bucket::Scheme, values: &[u64]) -> Histogram {
    let mut histogram = Histogram::new(scheme);
    for &value in values {
        histogram.record(value);
    }
    histogram
}

#[test]
fn names_follow_the_conventions() {
    for metric in METRICS {
        let name = metric.name;
        assert!(name.starts_with("iovascope_"), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        assert!(!["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end)), "{name}");
        let unit = match metric.unit {
            "s" => "_seconds",
            "By" => "_bytes",
            // Prometheus takes no word from braces, and makes a ratio of a plain 1.
            unit => unit.strip_prefix('{').and_then(|unit| unit.strip_suffix('}')).map(|_| "").unwrap(),
        };
        assert_eq!(name, metric.otel.replace('.', "_") + unit);
        assert!(metric.help.ends_with('.') || metric.kind == Kind::Gauge, "{name}");
    }
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len());
}

#[test]
fn processes_are_bounded_and_keep_their_labels() {
    let row = |comm: &str, calls| Row {
        who: Some(Who { pid: 1, comm: comm.into(), ioas: None, is_threads_name: false, started: None }),
        site: "dispatch".into(),
        calls,
        failed: 0,
        nanos: 10 * calls,
        pages: 0,
        bytes: 0,
    };
    let mut sample = Sample::default();
    sample.counters.attribution =
        [(0, row("a", 1)), (1, row("b", 2)), (2, row("c", 4)), (3, row("a", 8)), (9, row("d\u{1b}", 16))]
            .into();
    let calls = |most| -> Vec<_> {
        let families = families(&Header::default(), &sample, most);
        let family = families.into_iter().find(|family| family.metric.name == PROCESS_CALLS.name);
        let points = family.map(|family| family.points).unwrap_or_default();
        points.into_iter().map(|point| (point.labels[1].1.clone(), point.value)).collect()
    };
    let count = |name: &str, count| (name.to_owned(), Value::Count(count));
    assert_eq!(calls(0), []);
    assert_eq!(calls(2), [count("a", 9), count("b", 2), count("other", 20)]);
    assert_eq!(calls(9), [count("a", 9), count("b", 2), count("c", 4), count("d\\x1b", 16)]);
}

#[test]
fn dead_probes_are_never_complete() {
    let mut sample = Sample::default();
    let complete = |sample: &Sample| {
        let families = families(&Header::default(), sample, 0);
        families.into_iter().find(|family| family.metric.name == COMPLETE.name).unwrap().points[0]
            .value
            .clone()
    };
    assert_eq!(complete(&sample), Value::Count(1));
    sample.counters.canary.unseen.insert("get_phys".into(), 1);
    assert_eq!(complete(&sample), Value::Count(0));
}

proptest! {
    #[test]
    fn classic_buckets_are_exact(values in prop::collection::vec(0u64..1 << 40, 0..200)) {
        for (unit, scheme) in [(Unit::Nanos, LATENCY), (Unit::Bytes, RUNS)] {
            let counted = cumulative(&filled(scheme, &values), bounds(unit));
            for (bound, counted) in bounds(unit).zip(counted) {
                let truth = values.iter().filter(|&&value| value <= bound).count() as u64;
                prop_assert_eq!(counted, truth, "at most {}", bound);
            }
        }
    }

    #[test]
    fn exponential_buckets_hold_every_value_near_its_place(values in prop::collection::vec(any::<u64>(), 1..100)) {
        let values: Vec<u64> = values.into_iter().map(|value| value >> (value % 60)).collect();
        let exponential = exponential(Unit::Nanos, &filled(LATENCY, &values));
        prop_assert_eq!(exponential.zero + exponential.buckets.values().sum::<u64>(), values.len() as u64);
        for value in values.into_iter().filter(|&value| value > 0 && value < 1 << 38) {
            let exact = index(value as f64 / SECOND);
            prop_assert!((exact - 1..=exact + 1).any(|index| exponential.buckets.contains_key(&index)));
        }
    }
}
