//! What a refresh of the dashboard costs: the counters of 64 CPUs read, the window of ten seconds, and a frame at
//! 120×40 of every view, beside an empty frame.
//!
//! The counters are made up. Before: in every command, scan class, stop and row of attribution that there can be,
//! on every CPU, every third bucket from 128 ns to a second is used: more than 64 CPUs leave behind in a day.
//! Between two refreshes each CPU maps, unmaps, destroys and asks, with scans of six lengths, some of them in vain.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench fails as tests do")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use iovascope::source::kernel::made_up::{MadeUp, Scan};
use iovascope::tui::app::{App, Context, Length, Msg, Setup};
use iovascope::tui::feed::Feed;
use iovascope::tui::screen::{self, Ability};
use iovascope::tui::theme::Depth;
use iovascope::tui::views;
use probe_common::command::ROW_GET_PA;
use probe_common::wire::Stop;
use probe_model::origin::Header;
use probe_model::sample::{Instant, Sample};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use rustix::time::{ClockId, clock_gettime};

const CPUS: usize = 64;
/// Samples before the first refresh: the window is full.
const SAMPLES: u64 = 12;
/// Rows of `IOAS_MAP`, `IOAS_UNMAP` and `DESTROY`.
const OTHERS: [usize; 3] = [5, 6, 0];
/// Pages of the scans, and why they end.
const SCANS: [(u64, Stop); 6] = [
    (1, Stop::Cap),
    (1, Stop::Cap),
    (16, Stop::Break),
    (512, Stop::Cap),
    (512, Stop::AreaEnd),
    (8192, Stop::AreaEnd),
];

/// What is measured: counters, the app over them, and a screen.
struct Bench {
    counters: MadeUp,
    app: App,
    second: u64,
    random: fastrand::Rng,
    buffer: Buffer,
}

impl Bench {
    fn new() -> Self {
        let counters = MadeUp::new(u32::try_from(CPUS).unwrap()).unwrap();
        (0..CPUS).for_each(|cpu| counters.fill(cpu, 3));
        let app = App::new(Setup { length: Length::TenSeconds, ..Setup::usual("bench", true) });
        let buffer = Buffer::empty(Rect::new(0, 0, 120, 40));
        let mut bench = Self { counters, app, second: 0, random: fastrand::Rng::with_seed(1), buffer };
        let header = Header { page_size: 4096, cpus: 64, ..Header::default() };
        bench.app.update(Msg::Feed(Feed::Started(Box::new(header))), &Context::default());
        for _ in 0..SAMPLES {
            bench.count();
            let sample = bench.read();
            bench.take(sample);
        }
        bench
    }

    /// A second of calls on every CPU.
    fn count(&mut self) {
        self.second += 1;
        let (counters, random) = (&self.counters, &mut self.random);
        for cpu in 0..CPUS {
            for (pages, stop) in SCANS {
                for _ in 0..20 {
                    let nanos = 300 + 50 * pages + random.u64(0..200 + 20 * pages);
                    let slot = random.usize(2..256);
                    counters.scan(cpu, Scan { nanos, pages, stop }, slot);
                    counters.dispatch(cpu, ROW_GET_PA, None, nanos + 400, slot);
                }
            }
            for row in OTHERS {
                for _ in 0..20 {
                    counters.dispatch(cpu, row, None, random.u64(700..90_000), 2);
                }
            }
            counters.dispatch(cpu, ROW_GET_PA, Some(2), random.u64(500..900), 2);
        }
    }

    fn read(&mut self) -> Sample {
        let nanos = self.second * 1_000_000_000;
        Sample { at: Instant { monotonic: nanos, realtime: nanos }, ..self.counters.read() }
    }

    fn take(&mut self, sample: Sample) {
        self.app.update(Msg::Feed(Feed::Sample(Box::new(sample))), &Context::default());
        self.app.refresh();
    }

    fn draw(&mut self) {
        self.buffer.reset();
        let ability = Ability { depth: Depth::True, ascii: false };
        black_box(screen::draw(&self.app, ability, &mut self.buffer));
    }

    /// The time of `work` after each second of calls, on this thread alone.
    fn time<T>(
        &mut self,
        times: u64,
        mut prepare: impl FnMut(&mut Self) -> T,
        mut work: impl FnMut(&mut Self, T),
    ) -> Duration {
        let mut all = Duration::ZERO;
        for _ in 0..times {
            self.count();
            let prepared = prepare(self);
            let begin = own_time();
            work(self, prepared);
            all += own_time().saturating_sub(begin);
        }
        all
    }
}

fn own_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

fn refresh(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("refresh_120x40");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    let mut bench = Bench::new();
    let shown = bench.app.shown.take();
    group.bench_function("empty_frame", |bencher| bencher.iter(|| bench.draw()));
    bench.app.shown = shown;
    for (number, view) in views::ALL.iter().enumerate() {
        bench.app.view = number;
        let name = format!("draw_{}", view.name().replace(' ', "_"));
        group.bench_function(name, |bencher| bencher.iter(|| bench.draw()));
    }
    bench.app.view = 0;
    group.bench_function("read", |bencher| {
        bencher.iter_custom(|times| bench.time(times, |_| (), |bench, ()| drop(black_box(bench.read()))));
    });
    group.bench_function("window", |bencher| {
        bencher.iter_custom(|times| bench.time(times, Bench::read, Bench::take));
    });
    group.bench_function("whole", |bencher| {
        bencher.iter_custom(|times| {
            let whole = |bench: &mut Bench, ()| {
                let sample = bench.read();
                bench.take(sample);
                bench.draw();
            };
            bench.time(times, |_| (), whole)
        });
    });
    group.finish();
}

criterion_group!(benches, refresh);
criterion_main!(benches);
