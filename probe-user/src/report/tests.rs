//! Reports of made-up recordings: not a kernel's numbers.

use std::collections::BTreeMap;

use probe_common::bucket::{LATENCY, LATENCY_FAILED, RUN, Scheme};
use probe_model::attribution::{Row, Who};
use probe_model::company::Look;
use probe_model::histogram::Histogram;
use probe_model::loss::Flow;
use probe_model::sample::{Calls, Counters, Instant, Sample, Scans};
use probe_model::share::{Amount, ByOutcome, Part, Share, Statistics};
use probe_model::window::Window;

use super::*;
use crate::recording::{End, EndReason, Header, Recording};

fn filled(scheme: Scheme, values: impl IntoIterator<Item = u64>) -> Histogram {
    let mut histogram = Histogram::new(scheme);
    values.into_iter().for_each(|value| histogram.record(value));
    histogram
}

fn recording(flow: Flow) -> Recording {
    let get_pa = Calls {
        ok: filled(LATENCY, (0..20_000).map(|call| 900 + call % 400)),
        failed: filled(LATENCY_FAILED, [400, 420, 7000]),
        errors: [(2, 2), (22, 1)].into(),
    };
    let scans = Scans {
        ok: [
            (0, filled(LATENCY, (0..19_000).map(|call| 300 + call % 100))),
            (9, filled(LATENCY, (0..1_000).map(|call| 90_000 + call))),
        ]
        .into(),
        failed: filled(LATENCY_FAILED, [100, 110]),
        errors: [(2, 2)].into(),
        pages: 19_000 + 1_000 * 512,
        runs: [
            ("cap".to_owned(), filled(RUN, (0..19_000).map(|_| 4096))),
            ("short".to_owned(), filled(RUN, (0..1_000).map(|_| 2 << 20))),
        ]
        .into(),
    };
    let started = Instant { monotonic: 10, realtime: 1_795_000_000_000_000_000 };
    let ended = Sample {
        at: Instant { monotonic: 2_000_000_010, realtime: 1_795_000_002_000_000_000 },
        counters: Counters {
            dispatch: [("IOAS_NOIOMMU_GET_PA".to_owned(), get_pa)].into(),
            get_phys: Some(scans),
            flow: [
                ("dispatch".to_owned(), Flow { entered: 20_003, exited: 20_003, ..Flow::default() }),
                ("get_phys".to_owned(), flow),
            ]
            .into(),
            ..Counters::default()
        },
    };
    let header = Header {
        format: 2,
        tool: "0.1.0".into(),
        kernel: "7.3.4".into(),
        machine: "x86_64".into(),
        abi: "as merged in Linux 7.3 (length caps the scan, 0 is refused)".into(),
        length_is_cap: true,
        backend: "kprobe".into(),
        declined: Vec::new(),
        page_size: 4096,
        cpus: 2,
        sites: BTreeMap::new(),
        started,
        ..Header::default()
    };
    let open = u64::try_from(flow.open()).unwrap();
    Recording {
        window: Window::between(&Sample { at: started, ..Sample::default() }, &ended),
        header,
        windows: 2,
        part: false,
        end: Some(End {
            reason: EndReason::Duration,
            open_calls: [("dispatch".to_owned(), 0), ("get_phys".to_owned(), open)].into(),
            doubt: 0,
        }),
        unclean: None,
        skipped: 0,
        marks: Vec::new(),
        anchors: Vec::new(),
        earlier: None,
    }
}

/// A recording whose probes' share is known.
fn weighed() -> Recording {
    let mut weighed = recording(COMPLETE);
    let part = |inside, outside| Part {
        inside: Amount { nanos: inside, noise: 4 },
        outside: Amount { nanos: outside, noise: 6 },
    };
    let share = Share {
        backend: "kprobe".into(),
        calls: 32,
        rounds: 24,
        bare: Amount { nanos: 1_318, noise: 5 },
        get_pa: Some(ByOutcome { ok: part(600, 380), failed: part(280, 390) }),
        other: part(120, 390),
        get_phys: Some(ByOutcome { ok: part(130, 420), failed: part(130, 400) }),
        statistics: Some(Statistics {
            get_pa: Amount { nanos: 200, noise: 5 },
            scan: Amount { nanos: 60, noise: 5 },
        }),
        took: 30_000_000,
    };
    weighed.header.shares.known.push(share);
    weighed
}

fn text(recording: Recording) -> String {
    let mut out = Vec::new();
    write(&Report::of(recording), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    for line in text.lines() {
        assert!(line.chars().count() < 80, "{line:?} has 80 columns or more");
    }
    text
}

const COMPLETE: Flow = Flow {
    entered: 20_002,
    exited: 20_002,
    unmatched: 0,
    unstored: 0,
    unreadable: 0,
    superseded: 0,
    backwards: 0,
    unread: 0,
    unseen: 0,
    canary: 0,
    canary_missed: 0,
    unarmed: 0,
    entry_missed: 0,
    return_missed: 0,
    return_recursion: 0,
    session_missed: 0,
    call_missed: 0,
};

#[test]
fn a_complete_recording() {
    let recording = recording(COMPLETE);
    assert!(Report::of(recording.clone()).complete);
    insta::assert_snapshot!(text(recording));
}

#[test]
fn rows_and_company_are_told() {
    let mut recording = recording(COMPLETE);
    let row = |site: &str, pid, comm: &[u8], ioas, is_threads_name| Row {
        who: Some(Who { pid, comm: comm.to_vec(), ioas, is_threads_name, started: None }),
        site: site.to_owned(),
        calls: 3,
        failed: 0,
        nanos: u64::from(pid),
        pages: 3,
        bytes: 3 << 12,
    };
    let counters = &mut recording.window.counters;
    counters.attribution = [
        (1, row("dispatch", 12, b"one", None, false)),
        (1025, row("get_phys", 12, b"one", Some(1), false)),
        (1026, row("get_phys", 12, b"one", Some(4), false)),
        (1027, row("get_phys", 11, b"two", Some(1), true)),
    ]
    .into();
    for (at, who) in [(10, "another iovascope (process 77)"), (1_000_000_010, "b\u{1b}[2Jd (process 78)")] {
        let mut look = Look { unseen: ["others' kprobes: no debugfs".to_owned()].into(), ..Look::default() };
        look.find(who.to_owned(), "fsession", "dispatch");
        look.find(who.to_owned(), "fsession", "get_phys");
        counters.company.add(at, look);
    }
    let shown = text(recording.clone());
    let company = "
company    another iovascope (process 77): fsession on dispatch, get_phys, from
           0 ns to 0 ns
           b\\x1b[2Jd (process 78): fsession on dispatch, get_phys, from 1.00 s
           to 1.00 s
           not known: others' kprobes: no debugfs
           what they do at these functions is inside the latencies
";
    let rows = "
PROCESS                     calls   failed     time       pages  site, IOAS
  one 12                        3        0    12 ns           3  dispatch
  one 12                        3        0    12 ns           3  get_phys, 1
  one 12                        3        0    12 ns           3  get_phys, 4
  two 11                        3        0    11 ns           3  get_phys
  names are of threads that called: this kernel's types could not be read
";
    assert!(shown.contains(company) && shown.contains(rows), "{shown}");
    let mut out = Vec::new();
    super::super::write_markdown(&Report::of(recording.clone()), &mut out).unwrap();
    let page = String::from_utf8(out).unwrap();
    assert!(page.contains("another iovascope") && page.contains("get_phys IOAS 4"), "{page}");
    assert!(!page.contains('\u{1b}'));
}

#[test]
fn a_recording_with_losses_says_what_they_do_to_the_figures() {
    let lossy = Flow { entered: 20_050, superseded: 16, return_missed: 44, ..COMPLETE };
    let report = Report::of(recording(lossy));
    assert!(!report.complete && report.balance["get_phys"].biased);
    insta::assert_snapshot!(text(recording(lossy)));
}

#[test]
fn an_empty_unclean_recording() {
    let mut empty = recording(COMPLETE);
    empty.window.counters = Counters::default();
    empty.end = None;
    empty.unclean = Some("no end: the recorder was stopped short");
    assert!(!Report::of(empty.clone()).complete);
    insta::assert_snapshot!(text(empty));
}

#[test]
fn saturated_values_are_said_to_be_beyond_the_range() {
    let mut beyond = recording(COMPLETE);
    let scans = beyond.window.counters.get_phys.as_mut().unwrap();
    scans.ok.insert(15, filled(LATENCY, [1 << 40]));
    assert!(text(beyond).contains("1 beyond the range"));
}

#[test]
fn what_the_probes_add_stands_beside_the_latencies() {
    let text = text(weighed());
    // A recording of which some scans were short, and some failures decided before the scan.
    assert!(text.contains("≥ 600 ns") && text.contains("look-up"), "{text}");
    assert!(text.contains("scans                         130 ns   420 ns"), "{text}");
}

#[test]
fn what_the_probes_add_is_in_every_form() {
    let report = Report::of(weighed());
    let json = serde_json::to_value(&report).unwrap();
    let ok = &json["dispatch"]["IOAS_NOIOMMU_GET_PA"]["without_probes"]["ok"];
    assert_eq!((ok["inside"]["nanos"].as_u64(), ok["outside"]["nanos"].as_u64()), (Some(600), Some(380)));
    let p50 = report.dispatch["IOAS_NOIOMMU_GET_PA"].ok.p50.unwrap();
    assert!(ok["p50"]["nanos"].as_u64().unwrap().abs_diff(p50 - 600) <= p50 / 128);
    let mut markdown = Vec::new();
    crate::report::write_markdown(&report, &mut markdown).unwrap();
    assert!(String::from_utf8(markdown).unwrap().contains("| scans | 130 ns | 420 ns |"));
}

#[test]
fn a_share_that_is_not_known_is_said_and_an_old_recording_says_nothing() {
    let mut unknown = recording(COMPLETE);
    unknown.header.shares.unknown = Some("no \x1b[31mrights".into());
    let said = text(unknown);
    assert!(said.contains("what the probes add is not known: no \\x1b[31mrights"), "{said}");
    assert!(!text(recording(COMPLETE)).contains("PROBES"));
}

#[test]
fn json_keeps_every_digit() {
    let json = serde_json::to_value(Report::of(recording(COMPLETE))).unwrap();
    assert_eq!(json["format"], FORMAT_NAME);
    assert_eq!(json["dispatch"]["IOAS_NOIOMMU_GET_PA"]["ok"]["count"], 20_000);
    assert_eq!(json["dispatch"]["IOAS_NOIOMMU_GET_PA"]["errors"]["ENOENT"], 2);
    assert_eq!(json["get_phys"]["by_scan_length"][1]["from"], 512);
    assert_eq!(json["get_phys"]["runs"]["short"]["p99"], 2 << 20);
    assert_eq!(json["balance"]["get_phys"]["complete"], true);
}

const FORMAT_NAME: &str = "iovascope-report-1";
