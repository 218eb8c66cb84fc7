//! Recordings of made-up counters: round trip, every cut, every damaged byte, other versions.

use std::collections::BTreeMap;

use probe_common::bucket::{LATENCY, LATENCY_FAILED};
use probe_model::histogram::Histogram;
use probe_model::loss::Flow;
use probe_model::sample::{Calls, Counters, Instant};
use probe_model::share::Shares;

use super::super::{Declined, EndReason, Host, Writer};
use super::*;

fn header() -> Header {
    Header {
        format: FORMAT,
        tool: "0.1.0".into(),
        kernel: "7.3.4".into(),
        machine: "x86_64".into(),
        abi: "merged".into(),
        length_is_cap: true,
        backend: "kprobe".into(),
        declined: vec![Declined { backend: "fsession".into(), why: "too old".into() }],
        page_size: 4096,
        cpus: 2,
        sites: BTreeMap::from([("dispatch".into(), "iommufd_fops_ioctl".into())]),
        shares: Shares::default(),
        started: Instant { monotonic: 5, realtime: 7 },
        interval: 1_000_000_000,
        tags: BTreeMap::from([("kernel".into(), "patched".into())]),
        host: Host { boot_id: Some("x".into()), ..Host::default() },
        requires: Vec::new(),
    }
}

fn sample(calls: u64) -> Sample {
    let mut ok = Histogram::new(LATENCY);
    (0..calls).for_each(|call| ok.record(1000 + call));
    let failed = Histogram::new(LATENCY_FAILED);
    Sample {
        at: Instant { monotonic: 5 + calls, realtime: 7 + calls },
        counters: Counters {
            dispatch: [("IOAS_MAP".into(), Calls { ok, failed, errors: BTreeMap::new() })].into(),
            get_phys: None,
            flow: [("dispatch".into(), Flow { entered: calls, exited: calls, ..Flow::default() })].into(),
            ..Counters::default()
        },
    }
}

fn recorded() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(&mut bytes, "test".into(), &header()).unwrap();
    for calls in [3, 3, 10] {
        writer.sample(sample(calls)).unwrap();
    }
    let end = End { reason: EndReason::Duration, open_calls: BTreeMap::new(), doubt: 0 };
    let written = writer.end(&end).unwrap();
    assert_eq!(written, bytes.len() as u64);
    bytes
}

fn read(bytes: &[u8]) -> Result<Recording, RecordingError> {
    Reader::begin(bytes, "test".into())?.whole()
}

#[test]
fn what_was_written_is_read() {
    let recording = read(&recorded()).unwrap();
    assert_eq!(recording.header, header());
    assert_eq!(recording.window.counters, sample(10).counters);
    assert_eq!((recording.windows, recording.skipped), (3, 0));
    assert_eq!(recording.window.duration().as_nanos(), 10);
    assert!(recording.unclean.is_none());
    assert_eq!(recording.end.unwrap().reason, EndReason::Duration);
}

#[test]
fn cut_anywhere_it_is_a_prefix_and_says_so() {
    let bytes = recorded();
    for length in 0..bytes.len() {
        match read(&bytes[..length]) {
            Ok(recording) => {
                let calls = recording.window.counters.dispatch.get("IOAS_MAP").map_or(0, Calls::count);
                assert!(recording.unclean.is_some() && [0, 3, 10].contains(&calls), "cut at {length}");
            }
            Err(RecordingError::NotARecording { .. } | RecordingError::NoHeader { .. }) => {}
            Err(error) => panic!("cut at {length}: {error}"),
        }
    }
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let bytes = recorded();
    for place in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << bit;
            if let Ok(recording) = read(&damaged) {
                let calls = recording.window.counters.dispatch.get("IOAS_MAP").map_or(0, Calls::count);
                assert!(recording.unclean.is_some() && [0, 3, 10].contains(&calls), "byte {place} bit {bit}");
            }
        }
    }
}

/// A frame of kind 77, as a later version might write it.
fn unknown_frame(flags: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(77u16.to_le_bytes());
    frame.extend(flags.to_le_bytes());
    frame.extend(3u32.to_le_bytes());
    frame.extend(b"new");
    frame.extend(crc32c::crc32c(&frame).to_le_bytes());
    frame
}

#[test]
fn unknown_frames_are_skipped_or_refused_as_they_ask() {
    let mut bytes = Vec::new();
    Writer::begin(&mut bytes, "test".into(), &header()).unwrap();
    let rest = recorded()[bytes.len()..].to_vec();
    let optional = [bytes.clone(), unknown_frame(0), rest.clone()].concat();
    let recording = read(&optional).unwrap();
    assert_eq!((recording.skipped, recording.windows), (1, 3));
    let required = [bytes, unknown_frame(1), rest].concat();
    assert!(matches!(read(&required), Err(RecordingError::UnknownRequired { kind: 77, .. })));
}

#[test]
fn a_newer_format_is_refused_by_number() {
    let mut bytes = Vec::new();
    Writer::begin(&mut bytes, "test".into(), &Header { format: 9, ..header() }).unwrap();
    assert!(matches!(read(&bytes), Err(RecordingError::TooNew { needed: 9, .. })));
}

/// A whole frame around a payload, as an attacker may make one.
fn frame(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(kind.to_le_bytes());
    frame.extend(flags.to_le_bytes());
    frame.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
    frame.extend(payload);
    frame.extend(crc32c::crc32c(&frame).to_le_bytes());
    frame
}

fn begun() -> Vec<u8> {
    let mut bytes = Vec::new();
    Writer::begin(&mut bytes, "test".into(), &header()).unwrap();
    bytes
}

#[test]
fn a_bomb_is_not_unpacked() {
    use std::io::{Read as _, repeat};
    let mut bomb = Vec::new();
    let zeros = repeat(0).take(64 << 20);
    flate2::read::DeflateEncoder::new(zeros, flate2::Compression::best()).read_to_end(&mut bomb).unwrap();
    assert!(bomb.len() < 100_000);
    let recording = read(&[begun(), frame(2, 3, &bomb)].concat()).unwrap();
    assert_eq!(recording.unclean, Some("a frame that cannot be unpacked"));
}

#[test]
fn counters_that_cannot_be_are_refused() {
    let mut impossible = sample(3);
    impossible.counters.dispatch.get_mut("IOAS_MAP").unwrap().ok.g = 40;
    let delta = Delta { to: impossible.at, counters: impossible.counters };
    let mut payload = Vec::new();
    ciborium::into_writer(&delta, &mut payload).unwrap();
    let recording = read(&[begun(), frame(2, 1, &payload)].concat()).unwrap();
    assert_eq!(recording.unclean, Some("a histogram whose scheme is impossible"));
    assert_eq!(recording.window.counters.dispatch.len(), 0);
}

#[test]
fn a_known_frame_with_an_unknown_flag_is_not_misread() {
    let bytes = [begun(), frame(2, 1 | 8, b"?")].concat();
    assert!(matches!(read(&bytes), Err(RecordingError::UnknownRequired { kind: 2, .. })));
    let bytes = [begun(), frame(4, 8, b"?")].concat();
    assert_eq!(read(&bytes).unwrap().skipped, 1);
}

#[test]
fn an_unknown_feature_is_refused_by_name() {
    let mut bytes = Vec::new();
    Writer::begin(&mut bytes, "test".into(), &Header { requires: vec!["time-travel".into()], ..header() })
        .unwrap();
    let error = read(&bytes).unwrap_err().to_string();
    assert!(error.contains("time-travel"), "{error}");
}

#[test]
fn marks_anchors_and_calls_stand_between_windows() {
    use probe_model::call::{Call, What};
    let at = Instant { monotonic: 6, realtime: 8 };
    let mark = Mark { at, text: "here".into(), ..Mark::default() };
    let anchor = Anchor { at, boottime: 9, uncertainty: Some(3) };
    let what = What::Dispatch { command: "IOAS_MAP".into() };
    let call =
        Call { at: 6, nanos: 5, pid: 4, tid: 4, cpu: 1, comm: b"a\xff".to_vec(), errno: 0, slow: true, what };
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(&mut bytes, "test".into(), &header()).unwrap();
    writer.anchor(&anchor).unwrap();
    writer.sample(sample(3)).unwrap();
    writer.mark(&mark).unwrap();
    writer.calls(&vec![call.clone(); 5000]).unwrap();
    writer.sample(sample(4)).unwrap();
    writer.anchor(&anchor).unwrap();
    let recording = read(&bytes).unwrap();
    assert_eq!((recording.windows, recording.marks, recording.anchors), (2, vec![mark], vec![anchor; 2]));
    let mut reader = Reader::begin(bytes.as_slice(), "test".into()).unwrap();
    let mut calls = Vec::new();
    while let Some(event) = reader.next_event().unwrap() {
        if let Event::Calls(batch) = event {
            calls.extend(batch);
        }
    }
    assert_eq!(calls, vec![call; 5000]);
}

#[test]
fn a_part_is_summed_up_as_if_it_were_all() {
    let bytes = recorded();
    let reader = Reader::begin(bytes.as_slice(), "test".into()).unwrap();
    let part = reader.sum_up(|window| Ok::<_, RecordingError>(window.from.monotonic >= 8)).unwrap();
    assert_eq!(part.windows, 2);
    assert_eq!((part.window.from.monotonic, part.window.counters.dispatch["IOAS_MAP"].ok.count), (8, 7));
}

/// Written by the version that wrote format 1, in the lab, by 3,000 calls of the driver in two threads.
#[test]
fn format_1_is_read() {
    let recording = read(include_bytes!("../../tests/data/lab-format-1.iova")).unwrap();
    assert_eq!((recording.header.format, recording.header.backend.as_str()), (1, "fsession"));
    assert!(recording.is_complete() && recording.unclean.is_none());
    let get_pa = &recording.window.counters.dispatch["IOAS_NOIOMMU_GET_PA"];
    assert_eq!((get_pa.ok.count, &get_pa.errors), (3000, &[(2, 7), (22, 4)].into()));
    let scans = recording.window.counters.get_phys.unwrap();
    assert_eq!((scans.pages, scans.count()), (13_713, 3007));
}

/// Made-up calls as busy as they come: 20 commands, 6 scan lengths, three stops, 8 processes, 30,000 calls
/// a window, latencies of each that spread over a decade.
fn busy(windows: u64) -> Vec<Sample> {
    use probe_common::bucket::RUN;
    use probe_model::attribution::{Row, Who};
    use probe_model::sample::Scans;
    let mut random = 88_172_645_463_325_252u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut sample = sample(0);
    let mut scans = Scans {
        ok: BTreeMap::new(),
        failed: Histogram::new(LATENCY_FAILED),
        errors: BTreeMap::new(),
        pages: 0,
        runs: BTreeMap::new(),
    };
    let mut samples = Vec::new();
    for window in 1..=windows {
        for call in 0..30_000u64 {
            let spread = 500 + (next() % 500) * (1 + next() % 10);
            let command = format!("COMMAND_{}", if call % 100 < 95 { 0 } else { call % 20 });
            let calls = sample.counters.dispatch.entry(command).or_insert_with(|| Calls {
                ok: Histogram::new(LATENCY),
                failed: Histogram::new(LATENCY_FAILED),
                errors: BTreeMap::new(),
            });
            calls.ok.record(spread);
            let class = u32::try_from(next() % 6).unwrap();
            scans.ok.entry(class).or_insert_with(|| Histogram::new(LATENCY)).record(spread << (class / 3));
            let stop = ["cap", "area-end", "break"][usize::try_from(next() % 3).unwrap()];
            let run = scans.runs.entry(stop.to_owned()).or_insert_with(|| Histogram::new(RUN));
            run.record((1 + next() % 512) << 12);
        }
        for slot in 0..8u32 {
            let who = Who {
                pid: 1000 + slot,
                comm: format!("lcore-worker-{slot}").into(),
                ioas: Some(1),
                is_threads_name: false,
                started: None,
            };
            let row = sample.counters.attribution.entry(slot).or_insert(Row {
                who: Some(who),
                site: "get_phys".into(),
                calls: 0,
                failed: 0,
                nanos: 0,
                pages: 0,
                bytes: 0,
            });
            (row.calls, row.nanos, row.pages) =
                (row.calls + 3000, row.nanos + next() % 1000, row.pages + 9000);
        }
        let flow = sample.counters.flow.get_mut("dispatch").unwrap();
        (flow.entered, flow.exited) = (window * 30_000, window * 30_000);
        sample.counters.get_phys = Some(scans.clone());
        sample.at = Instant { monotonic: window * 1_000_000_000, realtime: window * 1_000_000_000 };
        samples.push(sample.clone());
    }
    samples
}

fn bytes_an_hour(samples: Vec<Sample>) -> u64 {
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(&mut bytes, "test".into(), &header()).unwrap();
    let windows = samples.len() as u64;
    for sample in samples {
        writer.sample(sample).unwrap();
    }
    drop(writer);
    bytes.len() as u64 / windows * 3600
}

#[test]
fn an_hour_at_one_second_is_small() {
    let busy = bytes_an_hour(busy(3));
    assert!(busy < 20 << 20, "a busy hour takes {busy} bytes");
    let mut idle = Vec::new();
    for window in 1..=60u64 {
        let mut sample = sample(0);
        sample.at.monotonic = window * 1_000_000_000;
        sample.counters.canary.sent = window;
        idle.push(sample);
    }
    let idle = bytes_an_hour(idle);
    assert!(idle < 1 << 20, "an idle hour takes {idle} bytes");
}

/// Not a test by itself: what [`killed_at_any_time_it_is_a_prefix`] runs and kills.
#[test]
fn write_until_killed() {
    let Some(path) = std::env::var_os("IOVASCOPE_TEST_WRITE_UNTIL_KILLED") else { return };
    let file = super::super::create(std::path::Path::new(&path)).unwrap();
    let mut writer = Writer::begin(file, "test".into(), &header()).unwrap();
    for calls in 0.. {
        writer.sample(sample(calls)).unwrap();
    }
}

#[test]
fn killed_at_any_time_it_is_a_prefix() {
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let mut whole = 0;
    for run in 0..200 {
        let path = folder.path().join(run.to_string());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "recording::read::tests::write_until_killed", "--nocapture"])
            .env("IOVASCOPE_TEST_WRITE_UNTIL_KILLED", &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Killed when the file has grown to a length that no frame ends at, not after a time.
        let until = 8 + random.u64(..20_000);
        while std::fs::metadata(&path).map_or(0, |file| file.len()) < until {
            assert!(child.try_wait().unwrap().is_none(), "the writer ended early");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        match read(&std::fs::read(&path).unwrap()) {
            Ok(recording) => {
                assert!(recording.unclean.is_some());
                // Window n brings the calls to n - 1: a prefix has all of them and no more.
                let calls = recording.window.counters.dispatch.get("IOAS_MAP").map_or(0, Calls::count);
                assert_eq!(calls, recording.windows.saturating_sub(1));
                whole += 1;
            }
            Err(RecordingError::NoHeader { .. } | RecordingError::NotARecording { .. }) => {}
            Err(error) => panic!("run {run}: {error}"),
        }
        std::fs::remove_file(&path).unwrap();
    }
    assert!(whole > 150, "{whole} of 200 had a header");
}
