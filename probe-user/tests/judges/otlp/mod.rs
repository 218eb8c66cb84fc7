//! Databases of other people's take a push of OTLP: what they then hold is what the recording holds, series by
//! series and bucket by bucket.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use iovascope::recording::Reader;
use probe_model::metric::{self, Exponential, Family, Metric, Value};
use probe_model::sample::Sample;
use probe_model::series::Unit;

use crate::process::{self, Process};
use crate::prometheus::recorded_now;

mod prometheus;
mod victoria;

/// A series: its name, and those of its labels that are ours.
type Series = (String, BTreeMap<String, String>);

/// What a database holds, or should.
#[derive(Default)]
struct Held {
    /// Values, and of histograms their counts and sums, named with `_count` and `_sum`.
    numbers: BTreeMap<Series, f64>,
    /// Buckets of those histograms that hold anything.
    buckets: BTreeMap<Series, Exponential>,
}

/// What is pushed.
struct Pushed {
    families: Vec<Family>,
    /// As of when, ms since 1970 UTC.
    at: u64,
    /// By whom.
    instance: String,
    _server: Process,
}

impl Pushed {
    /// The lab's recording to this URL, as if it had ended now.
    fn to(target: &str, folder: &Path) -> Self {
        let path = recorded_now(folder);
        let (server, _) = process::serve(&path, &["--otlp", target]);
        let whole = Reader::begin(File::open(&path).unwrap(), "now".into()).unwrap().whole().unwrap();
        let sample = Sample { at: whole.window.to, counters: whole.window.counters.clone() };
        let families = metric::families(&whole.header, &sample, 5);
        let instance = whole.header.host.boot_id.unwrap();
        Self { families, at: sample.at.realtime / 1_000_000, instance, _server: server }
    }

    /// What the recording holds, under a database's names for metrics.
    fn held(&self, named: impl Fn(&Metric) -> String) -> Held {
        let mut held = Held::default();
        for Family { metric, points } in &self.families {
            let name = named(metric);
            for point in points {
                let labels: BTreeMap<_, _> =
                    point.labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
                let mut number = |end: &str, value: f64| {
                    held.numbers.insert((format!("{name}{end}"), labels.clone()), value);
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
                if exponential != Exponential::default() {
                    held.buckets.insert((name.clone(), labels), exponential);
                }
            }
        }
        let (numbers, buckets) = (held.numbers.len(), held.buckets.len());
        assert!(numbers > 60 && buckets > 15, "{numbers} {buckets}");
        held
    }
}

/// The same series with the same values, `close` to each other for those that a database rounds.
fn assert_numbers(
    seen: &BTreeMap<Series, f64>,
    pushed: &BTreeMap<Series, f64>,
    close: impl Fn(&str, f64) -> f64,
) {
    assert_eq!(seen.keys().collect::<Vec<_>>(), pushed.keys().collect::<Vec<_>>());
    for (series, value) in pushed {
        let off = (seen[series] - value).abs();
        assert!(off <= close(&series.0, *value), "{series:?}: {} {value}", seen[series]);
    }
}
