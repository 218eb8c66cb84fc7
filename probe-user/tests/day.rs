//! A day of samples through the dashboard: its memory does not grow with the time that is watched.
//!
//! Alone in its program, because it reads how much memory the program has.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;

use iovascope::tui::app::{App, Context, Msg, Setup};
use iovascope::tui::feed::Feed;
use probe_common::bucket::{LATENCY, LATENCY_FAILED};
use probe_model::histogram::Histogram;
use probe_model::origin::Header;
use probe_model::sample::{Calls, Counters, Instant, Sample, Scans};

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600;

/// Resident memory of this program, bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// What a driver of one process leaves behind, a second later.
struct Source {
    counters: Counters,
    random: fastrand::Rng,
}

impl Source {
    fn new() -> Self {
        let empty = || Calls {
            ok: Histogram::new(LATENCY),
            failed: Histogram::new(LATENCY_FAILED),
            errors: [].into(),
        };
        let scans = Scans {
            ok: [(0, Histogram::new(LATENCY)), (9, Histogram::new(LATENCY))].into(),
            failed: Histogram::new(LATENCY_FAILED),
            errors: [].into(),
            pages: 0,
            runs: [].into(),
        };
        let names = ["IOAS_MAP", "IOAS_UNMAP", "IOAS_NOIOMMU_GET_PA"];
        let counters = Counters {
            dispatch: names.map(|name| (name.to_owned(), empty())).into(),
            get_phys: Some(scans),
            ..Counters::default()
        };
        Self { counters, random: fastrand::Rng::with_seed(3) }
    }

    fn sample(&mut self, second: u64) -> Sample {
        let random = &mut self.random;
        for calls in self.counters.dispatch.values_mut() {
            (0..10).for_each(|_| calls.ok.record(random.u64(700..1000)));
        }
        for histogram in self.counters.get_phys.iter_mut().flat_map(|scans| scans.ok.values_mut()) {
            (0..10).for_each(|_| histogram.record(random.u64(300..600)));
        }
        let at = Instant { monotonic: second * SECOND, realtime: second * SECOND };
        Sample { at, counters: self.counters.clone() }
    }
}

#[test]
fn memory_is_flat_over_a_day_of_samples() {
    let mut app = App::new(Setup::usual("a day", false));
    let started = Instant { monotonic: SECOND, realtime: SECOND };
    let header = Header { page_size: 4096, cpus: 64, started, ..Header::default() };
    app.update(Msg::Feed(Feed::Started(Box::new(header))), &Context::default());
    let mut source = Source::new();
    let mut early = 0;
    for second in 2..=24 * HOUR {
        let sample = source.sample(second);
        app.update(Msg::Feed(Feed::Sample(Box::new(sample))), &Context::default());
        if second % HOUR == 0 {
            app.refresh();
        }
        // All that there will be is in use by then: the budget is spent after a part of the first hour.
        if second == 3 * HOUR {
            assert!(app.timeline.dropped() > 0, "the budget is spent");
            early = resident();
        }
    }
    let late = resident();
    let whole = app.shown.as_ref().unwrap();
    assert_eq!(whole.dispatch_calls, 30 * (24 * HOUR - 1), "and nothing is lost of the whole");
    assert!(late <= early + early / 10, "{} MiB after 3 hours, {} after 24", early >> 20, late >> 20);
}
