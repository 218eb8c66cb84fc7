//! Recordings of made-up counters: round trip, every cut, every damaged byte, other versions.

use std::collections::BTreeMap;

use probe_common::bucket::{LATENCY, LATENCY_FAILED};
use probe_model::histogram::Histogram;
use probe_model::loss::Flow;
use probe_model::sample::{Calls, Counters, Instant};

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
fn no_damaged_byte_goes_unnoticed() {
    let bytes = recorded();
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x10;
        if let Ok(recording) = read(&damaged) {
            assert!(recording.unclean.is_some(), "byte {place}");
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
