//! A database of other people's takes a push of OTLP: what it then holds is what the recording holds, series by
//! series and bucket by bucket. `VictoriaMetrics`, because Debian builds Prometheus without its receiver.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use iovascope::recording::Reader;
use probe_model::metric::{self, Family, Value};
use probe_model::sample::Sample;
use probe_model::series::Unit;

use crate::process::{self, Process, get, until};
use crate::prometheus::{LATER, Prometheus, STABLE, recorded_now};
use crate::tool;

/// A series: its name, and those of its labels that are ours.
type Series = (String, BTreeMap<String, String>);

struct Database {
    _process: Process,
    url: String,
}

impl Database {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new("victoria-metrics");
        command
            .arg(format!("-storageDataPath={}", folder.join("data").display()))
            .args(["-httpListenAddr=127.0.0.1:0", "-memory.allowedBytes=256MiB"]);
        let (process, address) = process::start(&mut command, folder, ["started server", "http://"]);
        Self { _process: process, url: format!("http://{address}") }
    }

    /// Every series of ours with its values; none while nothing was pushed.
    fn series(&self) -> Option<BTreeMap<Series, Vec<f64>>> {
        get(&format!("{}/internal/force_flush", self.url))?;
        let export = ureq::get(format!("{}/api/v1/export", self.url));
        let mut answer = export.query("match[]", "{__name__=~\"iovascope.+\"}").call().ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        let mut all = BTreeMap::new();
        for line in text.lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let mut labels: BTreeMap<String, String> = serde_json::from_value(row["metric"].clone()).unwrap();
            let name = labels.remove("__name__").unwrap();
            // Of the resource, which all series share.
            labels.retain(|label, _| !label.contains('.'));
            let values = serde_json::from_value(row["values"].clone()).unwrap();
            let before = all.insert((name, labels), values);
            assert_eq!(before, None, "a series of the same name and labels: {line}");
        }
        (!all.is_empty()).then_some(all)
    }
}

/// What the recording holds, under OpenTelemetry's names. Buckets by their order.
fn expected(families: &[Family]) -> (BTreeMap<Series, f64>, BTreeMap<Series, Vec<u64>>) {
    let (mut numbers, mut buckets) = (BTreeMap::new(), BTreeMap::new());
    for Family { metric, points } in families {
        for point in points {
            let labels: BTreeMap<_, _> =
                point.labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            let mut number = |end: &str, value: f64| {
                numbers.insert((format!("{}{end}", metric.otel), labels.clone()), value);
            };
            let Value::Distribution(unit, histogram) = &point.value else {
                number("", point.value.number().unwrap());
                continue;
            };
            let base = if *unit == Unit::Nanos { 1e9 } else { 1.0 };
            #[allow(clippy::cast_precision_loss, reason = "a few thousand calls, and sums that fit")]
            let (count, sum) = (histogram.count as f64, histogram.sum as f64 / base);
            number("_count", count);
            number("_sum", sum);
            let exponential = metric::exponential(*unit, histogram);
            let zero = Some(exponential.zero).filter(|&count| count > 0);
            let counts: Vec<u64> = zero.into_iter().chain(exponential.buckets.into_values()).collect();
            if !counts.is_empty() {
                buckets.insert((metric.otel.to_owned(), labels.clone()), counts);
            }
        }
    }
    (numbers, buckets)
}

#[test]
fn a_database_that_takes_otlp_holds_the_same_counts() {
    let folder = tool::folder("otlp");
    let database = Database::start(&folder);
    let path = recorded_now(&folder);
    let target = format!("{}/opentelemetry/v1/metrics", database.url);
    let (_server, _) = process::serve(&path, &["--otlp", &target]);

    let whole = Reader::begin(std::fs::File::open(&path).unwrap(), "now".into()).unwrap().whole().unwrap();
    let sample = Sample { at: whole.window.to, counters: whole.window.counters.clone() };
    let (numbers, buckets) = expected(&metric::families(&whole.header, &sample, 5));
    assert!(numbers.len() > 60 && buckets.len() > 15, "{} {}", numbers.len(), buckets.len());

    // One push holds all: once the last series is there, so are the others.
    let arrived = until("as many series arrive as were pushed", || {
        let all = database.series()?;
        let plain = all.keys().filter(|(name, _)| !name.ends_with("_bucket")).count();
        (plain >= numbers.len()).then_some(all)
    });
    let mut seen = BTreeMap::new();
    let mut ranges: BTreeMap<Series, Vec<(f64, u64)>> = BTreeMap::new();
    for ((name, mut labels), values) in arrived {
        let last = *values.last().unwrap();
        let Some(name) = name.strip_suffix("_bucket") else {
            seen.insert((name, labels), last);
            continue;
        };
        let range = labels.remove("vmrange").unwrap();
        let low: f64 = range.split_once("...").unwrap().0.parse().unwrap();
        if last > 0.0 {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            ranges.entry((name.to_owned(), labels)).or_default().push((low, last as u64));
        }
    }
    assert_eq!(seen.keys().collect::<Vec<_>>(), numbers.keys().collect::<Vec<_>>());
    for (series, value) in &numbers {
        // Sums in seconds are no whole numbers, and the database keeps 15 digits.
        let close = (seen[series] - value).abs() <= value.abs() * 1e-12;
        let exact =
            series.0.ends_with("_sum") || series.0.ends_with("time") || series.0.contains("timestamp");
        assert!(seen[series] == *value || (exact && close), "{series:?}: {} {value}", seen[series]);
    }
    assert_eq!(ranges.keys().collect::<Vec<_>>(), buckets.keys().collect::<Vec<_>>());
    for (series, mut counts) in ranges {
        counts.sort_by(|a, b| a.0.total_cmp(&b.0));
        let counts: Vec<u64> = counts.into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, buckets[&series], "{series:?}");
    }
}

/// What `docs/fleet.md` says of Debian's Prometheus: when this fails, a push can be judged there too.
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
