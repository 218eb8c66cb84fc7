//! Prometheus's own receiver: names as it makes them, and native histograms. Debian builds Prometheus without
//! it; `cargo xtask test judges` builds Debian's source with it.

use std::collections::BTreeMap;
use std::process::Command;

use probe_model::metric::{Exponential, Kind, Metric, SCHEMA};
use serde_json::Value;

use super::{Held, Pushed, Series, assert_numbers};
use crate::process::until;
use crate::prometheus::{LATER, Prometheus, STABLE};
use crate::tool;

/// Built with the receiver.
const BUILT: &str = "/lab/build/prometheus";

/// As a scrape names it.
fn named(metric: &Metric) -> String {
    let total = if metric.kind == Kind::Counter { "_total" } else { "" };
    format!("{}{total}", metric.name)
}

/// What Prometheus answers, as what it holds of `instance`.
fn held(rows: &[Value], instance: &str) -> Held {
    let mut held = Held::default();
    for row in rows {
        let mut labels: BTreeMap<String, String> = serde_json::from_value(row["metric"].clone()).unwrap();
        let name = labels.remove("__name__").unwrap();
        // Of the resource: its `service.name` and `service.instance.id`.
        assert_eq!(labels.remove("job").as_deref(), Some("iovascope"), "{row}");
        assert_eq!(labels.remove("instance").as_deref(), Some(instance), "{row}");
        let mut number = |end: &str, value: &Value| {
            let before = held.numbers.insert((format!("{name}{end}"), labels.clone()), float(value));
            assert_eq!(before, None, "a series of the same name and labels: {row}");
        };
        let Some(histogram) = row["histogram"].get(1) else {
            number("", &row["value"][1]);
            continue;
        };
        number("_count", &histogram["count"]);
        number("_sum", &histogram["sum"]);
        if let Some(buckets) = histogram["buckets"].as_array() {
            held.buckets.insert((name, labels), exponential(buckets));
        }
    }
    held
}

/// Buckets as Prometheus writes them: which ends belong to it, the ends, the count.
fn exponential(buckets: &[Value]) -> Exponential {
    let mut all = Exponential::default();
    for bucket in buckets {
        let [low, high] = [float(&bucket[1]), float(&bucket[2])];
        let count = bucket[3].as_str().unwrap().parse().unwrap();
        // Around zero, both ends belong to it.
        if bucket[0] == 3 {
            assert!(low == -high && all.zero == 0, "{bucket}");
            all.zero = count;
            continue;
        }
        // Else the upper one.
        let ends = f64::from(1 << SCHEMA);
        #[allow(clippy::cast_possible_truncation, reason = "logarithms of what 64 bits hold are small")]
        let index = (high.log2() * ends).round() as i32;
        for (end, index) in [(low, index - 1), (high, index)] {
            let exact = (f64::from(index) / ends).exp2();
            assert!((end - exact).abs() <= exact * 1e-12, "{bucket}: {index}");
        }
        assert!(bucket[0] == 0 && all.buckets.insert(index, count).is_none(), "{bucket}");
    }
    all
}

fn float(value: &Value) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn prometheus_takes_a_push_and_holds_the_same_counts() {
    let folder = tool::folder("otlp-prometheus");
    let version = |program: &str| {
        let said = tool::stdout(Command::new(program).arg("--version"));
        said.split_once(" (").unwrap().0.to_owned()
    };
    assert_eq!(version(BUILT), version(STABLE), "built of Debian's source");
    let options = ["--enable-feature=otlp-write-receiver,native-histograms"];
    let prometheus = Prometheus::start_with(&folder, BUILT, "", &options);
    let pushed = Pushed::to(&format!("{}/api/v1/otlp/v1/metrics", prometheus.url()), &folder);
    let expected = pushed.held(named);

    // Asked for the push's own time, so however late the answer is, it holds the push. A query sees all of one or none.
    let rows = until("a push arrives", || prometheus.query_at("{__name__=~\"iovascope.+\"}", pushed.at));
    let seen = held(&rows, &pushed.instance);
    assert_numbers(&seen.numbers, &expected.numbers, |_, _| 0.0);
    let series = |held: &Held| held.buckets.keys().cloned().collect::<Vec<Series>>();
    assert_eq!(series(&seen), series(&expected));
    for (series, buckets) in &expected.buckets {
        assert_eq!(&seen.buckets[series], buckets, "{series:?}");
    }
}

/// What `docs/fleet.md` says of Debian's own: when this fails, a push can be judged there, and nothing need be built.
#[test]
fn debian_builds_prometheus_without_a_receiver() {
    let folder = tool::folder("receiver");
    let receiver = ["--enable-feature=otlp-write-receiver"];
    let prometheus = Prometheus::start_with(&folder, STABLE, "", &receiver);
    let answer = ureq::post(format!("{}/api/v1/otlp/v1/metrics", prometheus.url())).send_empty();
    assert!(matches!(answer, Err(ureq::Error::StatusCode(404))), "{answer:?}");
    let later = Command::new(LATER).args(["--web.enable-otlp-receiver", "--version"]).output().unwrap();
    let said = String::from_utf8_lossy(&later.stderr);
    assert!(!later.status.success() && said.contains("unknown long flag"), "{said}");
}
