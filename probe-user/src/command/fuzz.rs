//! What the fuzzer and the replay of its corpus do with any bytes (fuzz/, `cargo test`).

use std::io::sink;

use crate::export::{self, Options};
use crate::recording::{Event, MAGIC, Reader, RecordingError};
use crate::report::{Report, write_text};
use probe_model::compare::{Comparison, Side};

/// Read, sum up, report, export and compare. The first byte says whether checksums and lengths are put right
/// before, so that what lies behind them is reached.
pub fn any_bytes(bytes: &[u8]) {
    let Some((&mode, rest)) = bytes.split_first() else { return };
    let bytes = if mode & 1 == 0 { rest.to_vec() } else { framed(rest) };
    let begin = || Reader::begin(bytes.as_slice(), "any".to_owned());
    let Ok(mut reader) = begin() else { return };
    while let Ok(Some(event)) = reader.next_event() {
        if let Event::Window(window) = event {
            for series in probe_model::series::of(&window.counters) {
                let _ = series.unit.figures(&series.histogram);
            }
        }
    }
    let mut side = Side::default();
    let Ok(reader) = begin() else { return };
    side.begin(reader.header());
    let whole = reader.sum_up(|window| {
        side.window(window);
        Ok::<_, RecordingError>(true)
    });
    let Ok(whole) = whole else { return };
    side.end(&whole);
    let _ = Comparison::of(&side, &side, 0.05, 1);
    for format in &export::FORMATS {
        let mut export = (format.make)(&Options { processes: 3, ..Options::default() });
        let _ = export.begin(&whole.header, &mut sink());
        let _ = export.window(&whole.window, &mut sink());
        let _ = export.end(&whole, &mut sink());
    }
    let _ = write_text(&Report::of(whole), &mut sink());
}

/// Magic and frames around pieces: kind, flags, two bytes of length, payload.
fn framed(mut pieces: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    while let [kind, flags, low, high, rest @ ..] = pieces {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (payload, next) = rest.split_at(length);
        let mut frame = vec![*kind, 0, *flags, 0];
        frame.extend(u32::try_from(length).unwrap_or(0).to_le_bytes());
        frame.extend(payload);
        frame.extend(crc32c::crc32c(&frame).to_le_bytes());
        bytes.extend(frame);
        pieces = next;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recording as pieces: what the fuzzer begins with.
    fn pieces(recording: &[u8]) -> Vec<u8> {
        let mut pieces = vec![1];
        let mut rest = &recording[MAGIC.len()..];
        while rest.len() >= 12 {
            let length = u32::from_le_bytes(rest[4..8].try_into().unwrap()) as usize;
            let low = u16::try_from(length).unwrap().to_le_bytes();
            pieces.extend([rest[0], rest[2], low[0], low[1]]);
            pieces.extend(&rest[8..8 + length]);
            rest = &rest[12 + length..];
        }
        pieces
    }

    #[test]
    fn pieces_are_the_recording_again() {
        let recording = include_bytes!("../../tests/data/lab-format-1.iova");
        assert_eq!(framed(&pieces(recording)[1..]), recording);
    }

    /// What the fuzzer kept, and the recordings of the lab, spoilt in many ways that are the same every time.
    #[test]
    fn the_corpus_is_read_without_a_panic() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/recording");
        let mut inputs: Vec<Vec<u8>> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .collect();
        assert!(!inputs.is_empty());
        inputs.push(pieces(include_bytes!("../../tests/data/lab-format-1.iova")));
        let mut random = fastrand::Rng::with_seed(11);
        for input in &inputs {
            any_bytes(input);
            for _ in 0..20 {
                let mut spoilt = input.clone();
                for _ in 0..random.usize(1..6) {
                    let place = random.usize(..spoilt.len());
                    spoilt[place] = random.u8(..);
                }
                any_bytes(&spoilt);
            }
        }
    }
}
