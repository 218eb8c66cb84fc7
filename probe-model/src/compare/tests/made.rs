//! Made-up recordings whose costs are known: a scan costs `fixed + page × pages`, a call so much more, all with
//! a spread, a level that wanders from window to window, and what else is asked for.

use std::collections::BTreeMap;

use probe_common::bucket::{LATENCY, LATENCY_FAILED, RUN};

use crate::compare::Side;
use crate::histogram::Histogram;
use crate::origin::{End, EndReason, Header, Host, Recording};
use crate::sample::{Calls, Counters, Instant, Scans};
use crate::window::Window;

/// What is made.
#[derive(Debug, Clone)]
pub(super) struct Made {
    /// Costs, ns.
    pub(super) fixed: f64,
    pub(super) page: f64,
    pub(super) outside: f64,
    /// Scan lengths in pages, and how many of each in a window; their numbers vary like those of chance where
    /// that is asked for.
    pub(super) mix: Vec<(u64, u64)>,
    pub(super) by_chance: bool,
    pub(super) windows: u64,
    /// How latencies of one length spread, as a share.
    pub(super) spread: f64,
    /// How windows, and recordings, differ among themselves, as a share.
    pub(super) wander: f64,
    pub(super) runs_wander: f64,
    /// Calls that take longer: of so many one, by so many ns.
    pub(super) tail: Option<(u64, f64)>,
    /// Latencies that are there beside all others, each in a window of its own.
    pub(super) slow: Vec<u64>,
    /// Failed calls a window.
    pub(super) failed: u64,
    pub(super) stop: &'static str,
    pub(super) header: Header,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            fixed: 538.0,
            page: 141.0,
            outside: 1800.0,
            mix: vec![(1, 300)],
            by_chance: false,
            windows: 20,
            spread: 0.03,
            wander: 0.01,
            runs_wander: 0.0,
            tail: None,
            slow: Vec::new(),
            failed: 0,
            stop: "cap",
            header: Header {
                page_size: 4096,
                length_is_cap: true,
                backend: "fsession".into(),
                host: Host { boot_id: Some("b".into()), ..Host::default() },
                ..Header::default()
            },
        }
    }
}

impl Made {
    /// A side of one recording.
    pub(super) fn side(&self, random: &mut fastrand::Rng) -> Side {
        self.sides(1, random)
    }

    /// A side of several recordings.
    pub(super) fn sides(&self, files: usize, random: &mut fastrand::Rng) -> Side {
        let mut side = Side::default();
        (0..files).for_each(|_| self.record(&mut side, random));
        side
    }

    /// Record into a side.
    pub(super) fn record(&self, side: &mut Side, random: &mut fastrand::Rng) {
        side.begin(&self.header);
        let run = 1.0 + self.runs_wander * (random.f64() - 0.5);
        for number in 0..self.windows {
            let level = run * (1.0 + 2.0 * self.wander * (random.f64() - 0.5));
            side.window(&self.window(number, level, random));
        }
        side.end(&self.recording());
    }

    fn window(&self, number: u64, level: f64, random: &mut fastrand::Rng) -> Window {
        let mut calls = Histogram::new(LATENCY);
        let mut ok: BTreeMap<u32, Histogram> = BTreeMap::new();
        let mut runs = Histogram::new(RUN);
        let mut all_pages = 0;
        let mut call = |pages: u64, scan: u64, outside: u64| {
            ok.entry(pages.ilog2().min(15)).or_insert_with(|| Histogram::new(LATENCY)).record(scan);
            calls.record(scan + outside);
            runs.record(self.header.page_size * pages);
            all_pages += pages;
        };
        for &(pages, count) in &self.mix {
            // Twice as many trials at one half each: a number that chance makes.
            let count =
                if self.by_chance { (0..2 * count).filter(|_| random.bool()).count() as u64 } else { count };
            for _ in 0..count {
                let spread =
                    |random: &mut fastrand::Rng| level * (1.0 + self.spread * (2.0 * random.f64() - 1.0));
                let more = self
                    .tail
                    .filter(|(of, _)| random.u64(..*of) == 0)
                    .map_or(0.0, |(_, by)| by * random.f64());
                let scan = spread(random) * (self.fixed + self.page * pages as f64) + more;
                call(pages, whole(scan), whole(spread(random) * self.outside));
            }
        }
        if let Some(&slow) = self.slow.get(usize::try_from(number).unwrap_or(usize::MAX)) {
            call(self.mix[0].0, slow, whole(self.outside));
        }
        let mut failed = Histogram::new(LATENCY_FAILED);
        (0..self.failed).for_each(|_| failed.record(900));
        let errors = (self.failed > 0).then_some((2, self.failed)).into_iter().collect();
        let scans = Scans {
            ok,
            failed: failed.clone(),
            errors: BTreeMap::new(),
            pages: all_pages,
            runs: [(self.stop.to_owned(), runs)].into(),
        };
        let at = |number: u64| Instant { monotonic: number * 1_000_000_000, realtime: 0 };
        let counters = Counters {
            dispatch: [("IOAS_NOIOMMU_GET_PA".to_owned(), Calls { ok: calls, failed, errors })].into(),
            get_phys: Some(scans),
            ..Counters::default()
        };
        Window { from: at(number), to: at(number + 1), counters }
    }

    /// A recording that ended in order.
    pub(super) fn recording(&self) -> Recording {
        let at = Instant::default();
        Recording {
            end: Some(End { reason: EndReason::Duration, open_calls: BTreeMap::new(), doubt: 0 }),
            part: false,
            ..Recording::of_window(
                self.header.clone(),
                Window { from: at, to: at, counters: Counters::default() },
            )
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "costs are small and above 0")]
fn whole(value: f64) -> u64 {
    value.round() as u64
}
