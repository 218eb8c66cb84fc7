//! What a refresh of the dashboard costs: the next sample taken in, its window, and a frame of every view at
//! 120×40, beside an empty frame.
//!
//! The counters are made up: every command, scan class, stop and row of attribution that there can be, with
//! every third bucket used: more than 64 CPUs leave behind in a day. Counters of all CPUs are added up before
//! the dashboard sees them, so their number shows only in how many buckets are used.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench fails as tests do")]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use iovascope::tui::app::{App, Context, Length, Msg, Setup, Units};
use iovascope::tui::feed::Feed;
use iovascope::tui::screen::{self, Ability};
use iovascope::tui::theme::{Depth, THEMES};
use iovascope::tui::views;
use probe_common::bucket::{LATENCY, LATENCY_FAILED, RUN, Scheme};
use probe_model::attribution::{Row, Who};
use probe_model::histogram::Histogram;
use probe_model::loss::Flow;
use probe_model::origin::Header;
use probe_model::sample::{Calls, Counters, Instant, Sample, Scans};
use probe_model::timeline::Budget;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

const COMMANDS: usize = 24;
const ROWS: u32 = 256;
const SAMPLES: u64 = 120;

fn histogram(scheme: Scheme, seconds: u64) -> Histogram {
    let mut histogram = Histogram::new(scheme);
    for bucket in (0..scheme.len()).step_by(3) {
        histogram.buckets.insert(u32::try_from(bucket).unwrap(), seconds * (1 + bucket as u64 % 7));
    }
    histogram.count = histogram.buckets.values().sum();
    histogram.sum = histogram.count * 5_000;
    (histogram.min, histogram.max) = (Some(90), Some(1 << 30));
    histogram
}

fn sample(second: u64) -> Sample {
    let calls = || Calls {
        ok: histogram(LATENCY, second),
        failed: histogram(LATENCY_FAILED, second),
        errors: [(22, second), (2, second)].into(),
    };
    let row = |slot: u32| Row {
        who: Some(Who { pid: slot, comm: b"dpdk-lcore".to_vec(), ioas: Some(slot) }),
        site: "get_phys".to_owned(),
        calls: second * u64::from(slot + 1),
        failed: 0,
        nanos: second * 9_000,
        pages: second * 512,
        bytes: second << 21,
    };
    let scans = Scans {
        ok: (0..16).map(|class| (class, histogram(LATENCY, second))).collect(),
        failed: histogram(LATENCY_FAILED, second),
        errors: BTreeMap::new(),
        pages: second * 1_000_000,
        runs: ["cap", "area-end", "break", "unmapped"]
            .map(|stop| (stop.to_owned(), histogram(RUN, second)))
            .into(),
    };
    let flow = Flow { entered: second * 1000, exited: second * 1000, ..Flow::default() };
    Sample {
        at: Instant { monotonic: second * 1_000_000_000, realtime: second * 1_000_000_000 },
        counters: Counters {
            dispatch: (0..COMMANDS).map(|command| (format!("COMMAND_{command}"), calls())).collect(),
            get_phys: Some(scans),
            flow: ["dispatch", "get_phys"].map(|site| (site.to_owned(), flow)).into(),
            attribution: (0..ROWS).map(|slot| (slot, row(slot))).collect(),
            ..Counters::default()
        },
    }
}

fn app() -> App {
    let mut app = App::new(Setup {
        name: "bench".to_owned(),
        live: true,
        length: Length::TenSeconds,
        units: Units::Auto,
        theme: 0,
        view: 0,
        views: views::ALL.len(),
        themes: THEMES.len(),
        budget: Budget { entries: 10_000_000, ..Budget::USUAL },
    });
    let header = Header { page_size: 4096, cpus: 64, ..Header::default() };
    let mut feeds = vec![Feed::Started(Box::new(header))];
    feeds.extend((1..=SAMPLES).map(|second| Feed::Sample(Box::new(sample(second)))));
    for feed in feeds {
        app.update(Msg::Feed(feed), &Context::default());
    }
    app.refresh();
    app
}

fn refresh(criterion: &mut Criterion) {
    let ability = Ability { depth: Depth::True, ascii: false };
    let area = Rect::new(0, 0, 120, 40);
    let mut group = criterion.benchmark_group("refresh_120x40");
    group.sample_size(20);
    let mut empty = app();
    empty.shown = None;
    let mut buffer = Buffer::empty(area);
    group.bench_function("empty_frame", |bencher| {
        bencher.iter(|| {
            buffer.reset();
            black_box(screen::draw(&empty, ability, &mut buffer));
        });
    });
    let mut shown = app();
    for (number, view) in views::ALL.iter().enumerate() {
        shown.view = number;
        group.bench_function(format!("draw_{}", view.name().replace(' ', "_")), |bencher| {
            bencher.iter(|| {
                buffer.reset();
                black_box(screen::draw(&shown, ability, &mut buffer));
            });
        });
    }
    let base = app();
    let next = sample(SAMPLES + 1);
    group.bench_function("sample_and_window", |bencher| {
        bencher.iter_batched_ref(
            || (base.clone(), Some(next.clone())),
            |(app, next)| {
                let sample = next.take().unwrap();
                app.update(Msg::Feed(Feed::Sample(Box::new(sample))), &Context::default());
                app.refresh();
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, refresh);
criterion_main!(benches);
