//! Exports of the recording that was made in the lab: every format holds the same counts. What other
//! people's tools make of them is tested in tests/judges.

use std::collections::BTreeMap;

use probe_model::metric;
use probe_model::sample::Instant;
use probe_model::series;
use serde_json::Value;

use super::*;
use crate::recording::Reader;

const LAB: &[u8] = include_bytes!("../../tests/data/lab-format-1.iova");

fn lab() -> Recording {
    Reader::begin(LAB, "lab".into()).unwrap().whole().unwrap()
}

fn exported(name: &str, options: &Options) -> String {
    let mut export = (format(name).unwrap().make)(options);
    let mut out = Vec::new();
    let mut reader = Reader::begin(LAB, "lab".into()).unwrap();
    export.begin(reader.header(), &mut out).unwrap();
    while let Some(window) = reader.next_window().unwrap() {
        export.window(&window, &mut out).unwrap();
    }
    export.end(&lab(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn plain(name: &str) -> String {
    exported(name, &Options::default())
}

/// Count and sum by series.
fn truth() -> BTreeMap<String, (u64, u64)> {
    let lab = lab();
    let all = series::of(&lab.window.counters).into_iter();
    all.map(|series| (series.name, (series.histogram.count, series.histogram.sum))).collect()
}

#[test]
fn csv_adds_up_to_the_whole() {
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let text = plain("csv");
    let head: Vec<_> = text.lines().next().unwrap().split(',').collect();
    for line in text.lines().skip(1) {
        let cells: Vec<_> = line.split(',').collect();
        assert_eq!(cells.len(), head.len(), "{line}");
        if cells[3] != "calls" {
            let sum = sums.entry(cells[2].to_owned()).or_default();
            sum.0 += cells[4].parse::<u64>().unwrap();
            sum.1 += cells[5].parse::<u64>().unwrap();
        }
    }
    assert_eq!(sums, truth());
    let errors = text.lines().filter_map(|line| line.split(",errors.get_phys.ENOENT,calls,").nth(1));
    let errors = errors.map(|rest| rest.split(',').next().unwrap().parse::<u64>().unwrap());
    assert_eq!(errors.sum::<u64>(), 7);
}

#[test]
fn ndjson_and_json_hold_every_bucket() {
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut buckets: BTreeMap<(String, u64), u64> = BTreeMap::new();
    let mut kinds = Vec::new();
    for line in plain("ndjson").lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        kinds.push(value["kind"].as_str().unwrap().to_owned());
        for (name, series) in value["series"].as_object().into_iter().flatten() {
            let sum = sums.entry(name.clone()).or_default();
            sum.0 += series["count"].as_u64().unwrap();
            sum.1 += series["sum"].as_u64().unwrap();
            for bucket in series["buckets"].as_array().unwrap() {
                let key = (name.clone(), bucket[0].as_u64().unwrap());
                *buckets.entry(key).or_default() += bucket[2].as_u64().unwrap();
            }
        }
    }
    assert_eq!((kinds[0].as_str(), kinds.last().unwrap().as_str()), ("header", "end"));
    assert_eq!(sums, truth());
    let whole: Value = serde_json::from_str(&plain("json")).unwrap();
    for (name, series) in whole["series"].as_object().unwrap() {
        for bucket in series["buckets"].as_array().unwrap() {
            assert_eq!(buckets.remove(&(name.clone(), bucket[0].as_u64().unwrap())), bucket[2].as_u64());
        }
    }
    assert_eq!((buckets.len(), &whole["complete"]), (0, &true.into()));
}

#[test]
fn openmetrics_and_otlp_hold_the_same_counts() {
    let text = plain("openmetrics");
    assert!(text.ends_with("# EOF\n"));
    let value = |name: &str| -> &str {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("{name} in {text}"));
        line.trim()
    };
    let get_pa = "{command=\"IOAS_NOIOMMU_GET_PA\",outcome=\"ok\"}";
    let (count, sum) = truth()["dispatch.IOAS_NOIOMMU_GET_PA.ok"];
    assert_eq!(value(&format!("iovascope_ioctl_duration_seconds_count{get_pa}")), count.to_string());
    let seconds: f64 = value(&format!("iovascope_ioctl_duration_seconds_sum{get_pa}")).parse().unwrap();
    assert!((seconds - sum as f64 / 1e9).abs() < 1e-12);
    assert_eq!(value("iovascope_ioctl_errors_total{command=\"IOAS_NOIOMMU_GET_PA\",errno=\"ENOENT\"}"), "7");
    let otlp: Value = serde_json::from_str(&plain("otlp")).unwrap();
    let metrics = otlp["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
    let mut counts = BTreeMap::new();
    for metric in metrics {
        for point in metric["exponentialHistogram"]["dataPoints"].as_array().into_iter().flatten() {
            let number =
                |value: &Value| value.as_u64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap());
            let buckets = point["positive"]["bucketCounts"].as_array().unwrap();
            let inside: u64 = buckets.iter().map(number).sum();
            let count = number(&point["count"]);
            let zero = point.get("zeroCount").map_or(0, number);
            assert_eq!(count, inside + zero, "{point}");
            *counts.entry(metric["name"].as_str().unwrap().to_owned()).or_insert(0) += count;
        }
    }
    let dispatch = truth().into_iter().filter(|(name, _)| name.starts_with("dispatch.")).map(|(_, (n, _))| n);
    assert_eq!(counts["iovascope.ioctl.duration"], dispatch.sum::<u64>());
    assert_eq!(counts["iovascope.scan.duration"], truth()["get_phys.ok"].0);
}

/// Two hosts that push to one database keep their series apart.
#[test]
fn a_push_says_whose_it_is() {
    let instance = |recording: &Recording| {
        let mut out = Vec::new();
        (format("otlp").unwrap().make)(&Options::default()).end(recording, &mut out).unwrap();
        let otlp: Value = serde_json::from_slice(&out).unwrap();
        let attributes = otlp["resourceMetrics"][0]["resource"]["attributes"].as_array().unwrap().clone();
        let found = attributes.into_iter().find(|attribute| attribute["key"] == "service.instance.id");
        found.map(|attribute| attribute["value"]["stringValue"].as_str().unwrap().to_owned())
    };
    let mut recording = lab();
    recording.header.host.boot_id = None;
    assert_eq!(instance(&recording), None);
    recording.header.host.boot_id = Some("the boot".to_owned());
    assert_eq!(instance(&recording).as_deref(), Some("the boot"));
    recording.header.tags.insert("instance".to_owned(), "a1".to_owned());
    assert_eq!(instance(&recording).as_deref(), Some("a1"));
}

#[test]
fn every_metric_of_a_recording_is_in_the_table() {
    for line in plain("openmetrics").lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(metric::METRICS.iter().any(|metric| metric.name == name), "{name}");
    }
}

#[test]
fn a_label_that_tries_to_break_out_stays_a_label() {
    use probe_model::metric::{Family, INFO, Point, Value as Number};
    let point = Point { labels: vec![("kernel", "a\"b\\c\nd".to_owned())], value: Number::Count(1) };
    let family = Family { metric: INFO, points: vec![point] };
    let text = openmetrics::text(&[family], openmetrics::Dialect::Prometheus);
    assert_eq!(text.lines().nth(2), Some(r#"iovascope_build_info{kernel="a\"b\\c\nd"} 1"#));
}

#[test]
fn a_series_that_is_not_there_is_named_with_those_that_are() {
    for name in ["hgrm", "svg"] {
        let options = Options { series: Some("get_phys.nothing".into()), ..Options::default() };
        let mut export = (format(name).unwrap().make)(&options);
        let error = export.end(&lab(), &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("get_phys.nothing") && error.contains("get_phys.ok"), "{error}");
    }
}

#[test]
fn what_is_beyond_the_range_is_said() {
    let mut beyond = lab();
    let calls = beyond.window.counters.dispatch.get_mut("IOAS_NOIOMMU_GET_PA").unwrap();
    calls.ok.record(1 << 40);
    let said = |name: &str| {
        let mut export = (format(name).unwrap().make)(&Options::default());
        let mut out = Vec::new();
        export.begin(&beyond.header, &mut out).unwrap();
        export.window(&beyond.window, &mut out).unwrap();
        export.end(&beyond, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert!(said("hlog").contains("1 values of dispatch.IOAS_NOIOMMU_GET_PA.ok are beyond"));
    assert!(said("hgrm").contains("1 more values are beyond"));
    let text = said("openmetrics");
    assert!(text.contains("iovascope_values_saturated_total{series=\"dispatch.IOAS_NOIOMMU_GET_PA.ok\"} 1"));
}

#[test]
fn plots_are_well_formed_and_escape_names() {
    let text = plain("svg");
    assert!(text.starts_with("<svg ") && text.trim_end().ends_with("</svg>"));
    assert!(text.contains("get_phys.ok: median 723 ns"), "{text}");
    assert_eq!(crate::plot::escaped("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
}

/// Three windows of a second each of a made-up recording; the second is idle.
fn with_an_idle_second(name: &str) -> String {
    let mut export = (format(name).unwrap().make)(&Options::default());
    let mut out = Vec::new();
    let lab = lab();
    let at = |second: u64| Instant { monotonic: second * 1_000_000_000, realtime: 0 };
    let header = Header { started: at(0), ..lab.header.clone() };
    export.begin(&header, &mut out).unwrap();
    for second in 0..3 {
        let mut counters = lab.window.counters.clone();
        if second == 1 {
            counters = counters.since(&lab.window.counters);
        }
        export.window(&Window { from: at(second), to: at(second + 1), counters }, &mut out).unwrap();
    }
    export.end(&lab, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn csv_has_lines_of_idle_time() {
    let text = with_an_idle_second("csv");
    let idle: Vec<_> = text.lines().filter(|line| line.starts_with("1.000000000,2.000000000,")).collect();
    let began =
        ["dispatch", "get_phys"].map(|site| format!("1.000000000,2.000000000,began.{site},calls,0,,,,,,,,"));
    assert_eq!(idle, began);
}

#[test]
fn the_interval_log_has_empty_histograms_of_idle_time() {
    let text = with_an_idle_second("hlog");
    let tags = |second: &str| -> Vec<String> {
        let tagged = text.lines().filter_map(|line| line.strip_prefix("Tag=")?.split_once(','));
        tagged.filter(|(_, rest)| rest.starts_with(second)).map(|(tag, _)| tag.to_owned()).collect()
    };
    let mut idle = tags("1.000");
    idle.sort();
    let mut busy = tags("0.000");
    busy.sort();
    assert!(!busy.is_empty());
    assert_eq!(idle, busy);
    let line = text.lines().find(|line| line.contains(",1.000,1.000,0.000,")).unwrap();
    let encoded = line.rsplit(',').next().unwrap();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded).unwrap();
    let read: hdrhistogram::Histogram<u64> =
        hdrhistogram::serialization::Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
    assert_eq!(read.len(), 0);
}
