//! One made-up recording shown by every face: what a scan costs is the same everywhere, to the last digit
//! that is shown.

use std::io::Cursor;

use probe_common::bucket::{LATENCY, LATENCY_FAILED, RUN};
use probe_model::finding;
use probe_model::histogram::Histogram;
use probe_model::loss::Flow;
use probe_model::metric;
use probe_model::origin::{End, EndReason, Header, Recording};
use probe_model::sample::{Counters, Instant, Sample, Scans};
use probe_model::scan_cost::{Conditions, Estimate, Linearity, MEAN, ScanCost};
use serde_json::Value;

use crate::export::{self, Options};
use crate::recording::{Reader, Writer};
use crate::report::html::Timeline;
use crate::report::{Report, write_html, write_markdown, write_text};
use crate::tui::testing::scan_view;

/// Scans of so many pages that take so many ns, so often a second.
type Kind = (u64, u64, u64);

/// A recording of four seconds of these scans, as bytes.
fn recorded(kinds: &[Kind]) -> Vec<u8> {
    let header = Header {
        format: 2,
        tool: "0.1.0".to_owned(),
        kernel: "7.3.4".to_owned(),
        backend: "fsession".to_owned(),
        length_is_cap: true,
        page_size: 4096,
        cpus: 2,
        started: Instant { monotonic: 1_000_000_000, realtime: 1_795_000_000_000_000_000 },
        ..Header::default()
    };
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(Cursor::new(&mut bytes), "made up".to_owned(), &header).unwrap();
    let mut scans = Scans {
        ok: [].into(),
        failed: Histogram::new(LATENCY_FAILED),
        errors: [].into(),
        pages: 0,
        runs: [("cap".to_owned(), Histogram::new(RUN))].into(),
    };
    let mut calls = 0;
    for second in 2..=5u64 {
        for &(pages, nanos, count) in kinds {
            for call in 0..count {
                // Within 3 %, the same on both sides.
                let nanos = nanos + nanos * (call % 7) / 100 - nanos * 3 / 100;
                scans.ok.entry(pages.ilog2()).or_insert_with(|| Histogram::new(LATENCY)).record(nanos);
                scans.runs.get_mut("cap").unwrap().record(pages * 4096);
                scans.pages += pages;
                calls += 1;
            }
        }
        let flow = Flow { entered: calls, exited: calls, ..Flow::default() };
        let counters = Counters {
            get_phys: Some(scans.clone()),
            flow: [("get_phys".to_owned(), flow)].into(),
            ..Counters::default()
        };
        let at = Instant { monotonic: second * 1_000_000_000, realtime: header.started.realtime + second };
        writer.sample(Sample { at, counters }).unwrap();
    }
    writer.end(&End { reason: EndReason::Duration, open_calls: [].into(), doubt: 0 }).unwrap();
    bytes
}

fn whole(bytes: &[u8]) -> Recording {
    Reader::begin(bytes, "made up".to_owned()).unwrap().whole().unwrap()
}

fn exported(name: &str, recording: &Recording) -> String {
    let mut export = (export::format(name).unwrap().make)(&Options::default());
    let mut out = Vec::new();
    export.begin(&recording.header, &mut out).unwrap();
    export.window(&recording.window, &mut out).unwrap();
    export.end(recording, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Words of a text without its line breaks, frames, columns and markup.
fn words(text: &str) -> String {
    let kept = |c: char| if c.is_whitespace() || "│|<>/".contains(c) { ' ' } else { c };
    text.chars().map(kept).collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Every face for people, by name.
fn for_people(bytes: &[u8]) -> [(&'static str, String); 5] {
    let counters = whole(bytes).window.counters;
    let report = Report::of(whole(bytes));
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        words(&String::from_utf8(out).unwrap())
    };
    let (text, markdown) = (
        written(&|out| write_text(&report, out).unwrap()),
        written(&|out| write_markdown(&report, out).unwrap()),
    );
    let html = written(&|out| write_html(&report, &counters, &Timeline::new(0), out).unwrap());
    let view = words(&scan_view(bytes));
    [
        ("text", text),
        ("markdown", markdown),
        ("page", html),
        ("Scan view", view),
        ("exported page", words(&exported("html", &whole(bytes)))),
    ]
}

/// The same to the last digit but one, which a reader of JSON may round.
fn is(value: &Value, truth: Option<Estimate>) -> bool {
    let near = |name: &str, truth: f64| {
        value[name].as_f64().is_some_and(|shown| (shown - truth).abs() <= 1e-12 * truth.abs())
    };
    truth.map_or(value.is_null(), |truth| near("nanos", truth.nanos) && near("margin", truth.margin))
}

/// Every face for programs holds `cost`.
fn same_for_programs(bytes: &[u8], cost: &ScanCost) {
    let recording = whole(bytes);
    let report = serde_json::to_value(Report::of(recording.clone())).unwrap();
    let json: Value = serde_json::from_str(&exported("json", &recording)).unwrap();
    let lines = exported("ndjson", &recording);
    let line: Value = serde_json::from_str(lines.lines().nth(1).unwrap()).unwrap();
    for (name, face) in [("report", &report), ("json", &json), ("ndjson", &line)] {
        let shown = &face["scan_cost"];
        assert!(is(&shown["fixed"], cost.fixed), "{name}: {shown}");
        assert!(is(&shown["further_page"], cost.further_page), "{name}: {shown}");
        assert_eq!(shown["linearity"]["is"], cost.linearity.name(), "{name}");
        assert_eq!(shown["text"], cost.sentence(), "{name}");
    }
    assert_eq!(report.get("nanos_per_page"), None);
    let metrics = exported("openmetrics", &recording);
    let value = |name: &str, label: &str| -> Option<f64> {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name}{{{label}}} ")))?;
        Some(line.parse().unwrap())
    };
    let (costs, margins) = (metric::SCAN_COST.name, metric::SCAN_COST_MARGIN.name);
    for (part, truth) in [("part=\"fixed\"", cost.fixed), ("part=\"further_page\"", cost.further_page)] {
        let shown = value(costs, part).zip(value(margins, part));
        let truth = truth.map(|truth| (truth.nanos / 1e9, truth.margin / 1e9));
        assert_eq!(shown, truth, "{part}");
    }
    for name in Linearity::NAMES {
        let is = value(metric::SCAN_LINEARITY.name, &format!("is=\"{name}\"")).unwrap();
        assert_eq!(is > 0.0, name == cost.linearity.name(), "{name}");
    }
}

#[test]
fn what_a_scan_costs_is_the_same_everywhere() {
    let line = |pages: u64| 538 + 141 * pages;
    let cases: [(&str, Vec<Kind>); 5] = [
        ("two-lengths-only", vec![(1, line(1), 75), (512, line(512), 8)]),
        ("linear", vec![(1, line(1), 75), (16, line(16), 20), (512, line(512), 8)]),
        ("one-length", vec![(512, line(512), 20)]),
        ("not-linear", vec![(1, 700, 20), (16, 20_000, 20), (512, 9_000_000, 20)]),
        ("does-not-grow", vec![(1, 5000, 200), (512, 3000, 200)]),
    ];
    for (is, kinds) in cases {
        let bytes = recorded(&kinds);
        let recording = whole(&bytes);
        let scans = recording.window.counters.get_phys.as_ref().unwrap();
        let cost = ScanCost::of(scans, Conditions::of(&recording.header));
        assert_eq!(cost.linearity.name(), is);
        same_for_programs(&bytes, &cost);
        for (face, text) in for_people(&bytes) {
            assert!(text.contains(&cost.known()), "{face} lacks {:?}: {text}", cost.known());
            for part in cost.parts().into_iter().flat_map(|(fixed, further)| [fixed, further]) {
                assert!(text.contains(&part.to_string()), "{face} lacks {part}: {text}");
            }
            assert!(!text.contains("a page takes") && !text.contains("1 GiB takes"), "{face}: {text}");
            // The mean over pages is nowhere without its name.
            if let Some(mean) = probe_model::scan_cost::mean_per_page(scans) {
                let shared_out = format!("{mean:.1} ns, fixed cost shared out");
                assert!(text.contains(MEAN) || text.contains(&shared_out), "{face}: {text}");
            }
        }
        let found = finding::of(&recording.window, Conditions::of(&recording.header), "fsession");
        let found = found.iter().map(|finding| finding.what.as_str()).collect::<Vec<_>>().join("\n");
        match is {
            "two-lengths-only" | "linear" => {
                assert!(found.contains(&format!("a further page costs {}", cost.further_page.unwrap())));
            }
            "not-linear" | "does-not-grow" => assert!(found.contains(&cost.known()), "{found}"),
            _ => assert!(!found.contains("page"), "{found}"),
        }
    }
}
