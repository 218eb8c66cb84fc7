//! What reads bytes from elsewhere, as the fuzzer (fuzz/) and the replay of its corpora call it.
//!
//! A parser that is new is a row in [`PARSERS`], a file in `fuzz/targets/` and a folder in `fuzz/corpus/`.

use std::io::sink;
use std::path::Path;

use probe_model::compare::{Comparison, Side};

use crate::btf::Btf;
use crate::cli::load::JobArgs;
use crate::doctor::config::Config;
use crate::doctor::kernel_file;
use crate::doctor::symbols::Symbols;
use crate::export::{self, Options};
use crate::recording::{Event, MAGIC, Reader, RecordingError};
use crate::report::{Report, write_text};
use crate::tui::app::Length;
use crate::tui::config::{Config as DashboardConfig, Environment};
use crate::workload::words::JobFile;

/// What is done with any bytes.
type Parse = fn(&[u8]);

/// A parser: its name, which is that of its corpus, and what is done with any bytes. None may panic, hang or take more
/// than 512 MiB, whatever the bytes are.
pub const PARSERS: [(&str, Parse); 7] = [
    ("recording", recording),
    ("kernel_file", kernel_file),
    ("btf", btf),
    ("kernel_config", kernel_config),
    ("symbols", symbols),
    ("jobs", jobs),
    ("dashboard_config", dashboard_config),
];

/// Give a parser any bytes; nothing where there is none of that name.
pub fn parse(parser: &str, bytes: &[u8]) {
    if let Some((_, parse)) = PARSERS.iter().find(|(name, _)| *name == parser) {
        parse(bytes);
    }
}

/// A kernel image or a module, of which the text is written too.
fn kernel_file(bytes: &[u8]) {
    if let Ok(report) = kernel_file::examine_bytes(Path::new("any"), bytes.to_vec()) {
        let _ = report.write_text(&mut sink());
    }
}

/// A kernel's types, and a module's on top of them: the first two bytes say where the one ends.
fn btf(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let (base, module) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    let (base, module) = (Btf::parse(base).ok(), Btf::parse(module).ok());
    for (btf, base) in [(base, None), (module, base), (module, None)] {
        let Some(btf) = btf else { continue };
        let _ = btf.functions(base.as_ref(), &["iopt_get_phys", "iommufd_fops_ioctl"]);
        let _ = btf.member(base.as_ref(), "io_pagetable", "area_itree");
        let _ = btf.has_string("BPF_TRACE_FSESSION");
    }
}

/// `/proc/config.gz`, or what a kernel image has of it.
fn kernel_config(bytes: &[u8]) {
    if let Some(config) = Config::unpack("any", bytes) {
        let _ = config.setting("IOMMUFD");
    }
}

fn symbols(bytes: &[u8]) {
    let _ = Symbols::parse(bytes);
}

/// A file of jobs. What it is printed as must say the same.
fn jobs(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(file) = JobFile::parse(text) else { return };
    assert_eq!(JobFile::parse(&file.print()).ok().as_ref(), Some(&file), "printed: {}", file.print());
    for entry in &file.jobs {
        let _ = JobArgs::of(&entry.words);
    }
}

/// A configuration of the dashboard. What it is printed as must choose the same.
fn dashboard_config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(config) = toml::from_str::<DashboardConfig>(text) else { return };
    let environment =
        Environment { no_color: false, term: String::new(), colorterm: String::new(), utf8: true };
    let choose = |config: DashboardConfig| config.choose(&environment, Length::TenSeconds);
    let Ok(chosen) = choose(config) else { return };
    let again = toml::from_str(&chosen.to_toml()).ok().and_then(|config| choose(config).ok());
    assert_eq!(again, Some(chosen), "printed");
}

/// A recording: read, summed up, reported, exported and compared. The first byte says whether checksums and lengths
/// are put right before, so that what lies behind them is reached.
fn recording(bytes: &[u8]) {
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

    /// What the fuzzer kept of each parser, as it is and spoilt in ways that are the same every time.
    #[test]
    fn every_corpus_is_read_without_a_panic() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        let mut random = fastrand::Rng::with_seed(11);
        for (parser, parse) in PARSERS {
            let folder = corpora.join(parser);
            let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{parser}: {error}"));
            let mut inputs: Vec<Vec<u8>> =
                files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
            assert!(!inputs.is_empty(), "{parser} has an empty corpus");
            if parser == "recording" {
                inputs.push(pieces(include_bytes!("../../tests/data/lab-format-1.iova")));
            }
            for input in inputs.iter().filter(|input| !input.is_empty()) {
                parse(input);
                for _ in 0..5 {
                    let mut spoilt = input.clone();
                    for _ in 0..random.usize(1..6) {
                        let place = random.usize(..spoilt.len());
                        spoilt[place] = random.u8(..);
                    }
                    parse(&spoilt);
                }
            }
        }
    }

    #[test]
    fn every_parser_has_a_target() {
        let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/targets");
        for (parser, _) in PARSERS {
            let target = std::fs::read_to_string(targets.join(parser).with_extension("rs")).unwrap();
            assert!(target.contains(&format!("parse(\"{parser}\"")), "{target}");
        }
    }
}
