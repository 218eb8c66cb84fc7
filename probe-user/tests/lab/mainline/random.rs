//! A hundred thousand random questions: run, pages and stop are what the page tables say, every time.

use std::collections::BTreeMap;

use iovascope::workload::memory::Memory;
use probe_common::bucket::RUN;
use probe_model::histogram::Histogram;

use crate::chance::Chance;
use crate::driver::Buffer;
use crate::guest::{self, Running};

/// `cargo xtask test long`.
mod long {
    use super::random_questions_are_answered_as_the_page_tables_say;

    crate::guest::by_every_backend! { random_questions_are_answered_as_the_page_tables_say }
}

/// Of all backends and memories together.
const QUESTIONS: u64 = 100_000;
const MEMORIES: [&str; 6] = ["anon", "fragmented", "alternating", "hugetlb", "thp", "memfd"];
const BYTES: u64 = 16 << 20;
const PAGE: u64 = 4096;

fn random_questions_are_answered_as_the_page_tables_say(backend: &str) {
    guest::huge_pages(16);
    let each = QUESTIONS.div_ceil(4 * MEMORIES.len() as u64);
    for (place, name) in (0u64..).zip(MEMORIES) {
        let memory = Memory::named(name).unwrap();
        ask(backend, &format!("random-{name}"), memory, each, &mut Chance::new(0x00c0_ffee + place));
    }
}

fn ask(backend: &str, name: &str, memory: Memory, questions: u64, chance: &mut Chance) {
    let buffer = Buffer::of(memory, BYTES);
    let (caller, frames) = (buffer.caller(), buffer.frames());
    let recorder = Running::begin(backend, name);
    let mut runs: BTreeMap<&str, Histogram> = BTreeMap::new();
    let mut pages = 0;
    for _ in 0..questions {
        let offset = chance.below(caller.bytes());
        // Mostly a few pages, to the byte; now and then without a cap.
        let length = if chance.below(64) == 0 { u64::MAX } else { 1 + chance.below(40 * PAGE) };
        let (phys, run) = frames.run_at(offset).unwrap();
        let expected = run.min(length);
        let answer = caller.ask(offset, length).unwrap();
        let question = format!("{name}: {length} bytes from {offset}");
        assert!(answer.phys == phys, "{question}: not the page's address");
        assert_eq!(answer.length, expected, "{question}");
        let stop = match expected {
            all if all == length => "cap",
            all if offset + all == caller.bytes() => "area-end",
            _ => "break",
        };
        runs.entry(stop).or_insert_with(|| Histogram::new(RUN)).record(expected);
        pages += (offset % PAGE + expected).div_ceil(PAGE);
    }
    let scans = guest::counters_of(&recorder.end_recording()).get_phys.unwrap();
    buffer.close();
    let runs: BTreeMap<String, Histogram> =
        runs.into_iter().map(|(stop, runs)| (stop.to_owned(), runs)).collect();
    assert_eq!(scans.runs, runs, "{name}");
    assert_eq!(scans.pages, pages, "{name}");
}
