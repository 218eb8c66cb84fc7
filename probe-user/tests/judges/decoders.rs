//! HdrHistogram's decoders in four languages read a log of a lab run: every count of every bucket, and the
//! percentiles, are the same in all and are those of the recording.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use iovascope::recording::Reader;
use probe_model::series;

use crate::tool;

const JAVA: &str = include_str!("Decode.java");
const PYTHON: &str = include_str!("decode.py");
const NODE: &str = include_str!("decode.js");

/// Which value a percentile is: HdrHistogram's ports do not agree.
#[derive(Clone, Copy)]
enum Rank {
    /// The share of the count, rounded up (Rust, JavaScript, Java).
    Up,
    /// The share of the count, rounded to the nearest (Python 0.10).
    Nearest,
}

/// What a decoder says of a line of the log: tag, count, percentiles 50, 90, 99, 99.9 and 100, and every
/// bucket as `highest value:count`.
fn said(tag: &str, hdr: &hdrhistogram::Histogram<u64>, rank: Rank) -> String {
    let percentile = |percent: f64| {
        let share = percent / 100.0 * hdr.len() as f64;
        let rank = match rank {
            Rank::Up => return hdr.value_at_percentile(percent),
            Rank::Nearest => (share + 0.5).floor().max(1.0),
        };
        let mut seen = 0.0;
        let mut steps = hdr.iter_recorded();
        let found = steps.find(|step| {
            seen += step.count_at_value() as f64;
            seen >= rank
        });
        // Of an empty histogram, in which a series was idle: 0, as every port has it.
        found.map_or(0, |step| step.value_iterated_to())
    };
    let quantiles = [50.0, 90.0, 99.0, 99.9, 100.0].map(|percent| percentile(percent).to_string()).join(" ");
    let buckets: Vec<_> = hdr
        .iter_recorded()
        .map(|step| format!("{}:{}", step.value_iterated_to(), step.count_at_value()))
        .collect();
    format!("{tag} {} {quantiles} {}", hdr.len(), buckets.join(","))
}

fn by_rust(log: &Path, rank: Rank) -> Vec<String> {
    let bytes = fs::read(log).unwrap();
    let mut deserializer = Deserializer::new();
    let mut lines = Vec::new();
    for entry in IntervalLogIterator::new(&bytes) {
        if let LogEntry::Interval(interval) = entry.unwrap() {
            let encoded = base64::Engine::decode(
                &base64::engine::general_purpose::STANDARD,
                interval.encoded_histogram(),
            );
            let hdr = deserializer.deserialize(&mut encoded.unwrap().as_slice()).unwrap();
            lines.push(said(interval.tag().unwrap().as_str(), &hdr, rank));
        }
    }
    lines
}

/// What the recording holds, without a decoder.
fn recorded() -> Vec<String> {
    let mut reader = Reader::begin(tool::LAB, "lab".into()).unwrap();
    let mut lines = Vec::new();
    while let Some(window) = reader.next_window().unwrap() {
        for series in series::of(&window.counters) {
            let scheme = series.histogram.scheme();
            let buckets = series.histogram.buckets.iter();
            let buckets: Vec<_> = buckets
                .map(|(&index, count)| format!("{}:{count}", scheme.highest(index as usize)))
                .collect();
            lines.push((series.name, series.histogram.count, buckets.join(",")));
        }
    }
    lines.into_iter().map(|(name, count, buckets)| format!("{name} {count} {buckets}")).collect()
}

#[test]
fn a_log_decodes_the_same_in_four_languages() {
    let folder = tool::folder("decoders");
    let log = tool::export(&folder, &tool::recording(&folder), "hlog", &[]);
    let (rust, nearest) = (by_rust(&log, Rank::Up), by_rust(&log, Rank::Nearest));
    // Idle time has lines too; the recording has no series there.
    let without_percentiles: Vec<_> = rust
        .iter()
        .filter(|line| line.split(' ').nth(1) != Some("0"))
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            format!("{} {} {}", words[0], words[1], words.last().unwrap())
        })
        .collect();
    assert!(rust.len() > 20, "{rust:?}");
    assert_eq!(without_percentiles, recorded());
    let script = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let lines = |command: &mut Command| -> Vec<String> {
        tool::stdout(command.arg(&log)).lines().map(str::to_owned).collect()
    };
    let mut python = Command::new("python3");
    assert_eq!(lines(python.arg(script("decode.py", PYTHON))), nearest, "Python");
    let mut node = Command::new("node");
    assert_eq!(lines(node.arg(script("decode.js", NODE))), rust, "JavaScript");
    let mut java = Command::new("java");
    java.args(["-cp", "/usr/share/java/hdrhistogram.jar"]).arg(script("Decode.java", JAVA));
    assert_eq!(lines(&mut java), rust, "Java");
}

#[test]
fn percentile_text_is_that_of_the_java_library() {
    let folder = tool::folder("hgrm");
    let recording = tool::recording(&folder);
    let log = tool::export(&folder, &recording, "hlog", &[]);
    for series in ["dispatch.IOAS_NOIOMMU_GET_PA.ok", "dispatch.IOAS_NOIOMMU_GET_PA.failed", "run.cap"] {
        let ours = tool::export(&folder, &recording, "hgrm", &["--series", series]);
        let mut java = Command::new("java");
        java.args(["-cp", "/usr/share/java/hdrhistogram.jar", "org.HdrHistogram.HistogramLogProcessor"]);
        java.arg("-i").arg(&log).args(["-tag", series, "-outputValueUnitRatio", "1.0"]);
        let theirs = tool::stdout(&mut java);
        // The processor prints a table of intervals first.
        let begins = theirs.find("       Value     Percentile").unwrap();
        assert_eq!(fs::read_to_string(ours).unwrap(), theirs[begins..], "{series}");
    }
}

/// What hdr-plot (BrunoBonacci/hdr-plot) takes from a file: rows of four numbers, the mean and the maximum.
#[test]
fn percentile_text_has_what_hdr_plot_reads() {
    let folder = tool::folder("hdr-plot");
    let path = tool::export(&folder, &tool::recording(&folder), "hgrm", &[]);
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| !line.starts_with('#') && line.split_whitespace().count() == 4);
    assert!(rows.skip(1).all(|row| row.split_whitespace().all(|word| word.parse::<f64>().is_ok())));
    let footer: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#[")?.strip_suffix(']'))
        .flat_map(|line| line.split(','))
        .filter_map(|field| field.split_once('='))
        .map(|(name, value)| (name.trim(), value.trim().parse::<f64>().unwrap()))
        .collect();
    assert!(
        ["Mean", "StdDeviation", "Max", "Total count", "Buckets", "SubBuckets"]
            .iter()
            .all(|n| footer.contains_key(n))
    );
    assert!(footer["Total count"] > 2999.0, "{footer:?}");
}
