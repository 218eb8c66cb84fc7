//! `VictoriaMetrics`: keeps OpenTelemetry's names, 15 digits of a value, and its own buckets.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::{Pushed, Series, assert_numbers};
use crate::process::{self, Process, get, until};
use crate::tool;

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

#[test]
fn a_database_that_takes_otlp_holds_the_same_counts() {
    let folder = tool::folder("otlp");
    let database = Database::start(&folder);
    let pushed = Pushed::to(&format!("{}/opentelemetry/v1/metrics", database.url), &folder);
    let expected = pushed.held(|metric| metric.otel.to_owned());

    // One push holds all: once the last series is there, so are the others.
    let arrived = until("as many series arrive as were pushed", || {
        let all = database.series()?;
        let plain = all.keys().filter(|(name, _)| !name.ends_with("_bucket")).count();
        (plain >= expected.numbers.len()).then_some(all)
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
    // Sums in seconds are no whole numbers.
    assert_numbers(&seen, &expected.numbers, |name, value| {
        let whole = !(name.ends_with("_sum") || name.ends_with("time") || name.contains("timestamp"));
        if whole { 0.0 } else { value.abs() * 1e-12 }
    });
    assert_eq!(ranges.keys().collect::<Vec<_>>(), expected.buckets.keys().collect::<Vec<_>>());
    for (series, mut counts) in ranges {
        counts.sort_by(|a, b| a.0.total_cmp(&b.0));
        let counts: Vec<u64> = counts.into_iter().map(|(_, count)| count).collect();
        let of = &expected.buckets[&series];
        let zero = Some(of.zero).filter(|&count| count > 0);
        let pushed: Vec<u64> = zero.into_iter().chain(of.buckets.values().copied()).collect();
        assert_eq!(counts, pushed, "{series:?}");
    }
}
