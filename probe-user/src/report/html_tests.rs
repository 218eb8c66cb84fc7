//! The course of a made-up recording on the page: idle time has its place.

use probe_model::histogram::Histogram;
use probe_model::sample::{Calls, Counters, Instant};
use probe_model::window::Window;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// Windows of a second each, from the recording's beginning on; `calls` says how many each holds.
fn course(seconds: u64, calls: impl Fn(u64) -> u64) -> Timeline {
    let mut timeline = Timeline::new(0);
    let at = |second: u64| Instant { monotonic: second * SECOND, realtime: 0 };
    for second in 0..seconds {
        let mut counters = Counters::default();
        let mut ok = Histogram::new(LATENCY);
        (0..calls(second)).for_each(|_| ok.record(1_000));
        if !ok.is_empty() {
            let failed = Histogram::new(probe_common::bucket::LATENCY_FAILED);
            let calls = Calls { ok, failed, errors: [].into() };
            counters.dispatch = [("IOAS_NOIOMMU_GET_PA".to_owned(), calls)].into();
        }
        timeline.add(&Window { from: at(second), to: at(second + 1), counters });
    }
    timeline
}

fn busy(timeline: &Timeline) -> Vec<(u64, u64, u64)> {
    let busy = timeline.columns.iter().filter(|column| !column.is_idle());
    busy.map(|column| (column.from / SECOND, column.to / SECOND, column.histogram.count)).collect()
}

#[test]
fn a_busy_minute_is_not_painted_over_the_idle_hour_after_it() {
    let timeline = course(4_000, |second| u64::from((240..300).contains(&second)));
    assert!(timeline.columns.len() <= MOST_COLUMNS);
    let busy = busy(&timeline);
    assert_eq!((busy.first().unwrap().0, busy.last().unwrap().1), (240, 300), "{busy:?}");
    assert_eq!(busy.iter().map(|(_, _, calls)| calls).sum::<u64>(), 60);
    let ends = [timeline.columns.first().unwrap().from, timeline.columns.last().unwrap().to];
    assert_eq!(ends, [0, 4_000 * SECOND]);
}

#[test]
fn columns_are_about_equally_long_and_leave_no_gap() {
    let timeline = course(10_000, |second| u64::from(second % 2 == 0));
    let columns = &timeline.columns;
    assert!(columns.windows(2).all(|pair| pair[0].to == pair[1].from));
    let longest = columns.iter().map(|column| column.to - column.from).max().unwrap();
    let even = 10_000 * SECOND / columns.len() as u64;
    assert!(columns.len() > MOST_COLUMNS / 2 && longest <= 3 * even, "{longest} ns");
    assert_eq!(busy(&timeline).iter().map(|(_, _, calls)| calls).sum::<u64>(), 5_000);
}

#[test]
fn the_plot_ends_where_the_recording_does_and_names_idle_time() {
    let plot = heatmap(
        "Latency over time",
        Values::latencies(1),
        &course(100, |second| u64::from(second < 2)).columns,
    );
    assert!(plot.contains("no successful call from 2.00 s to 100 s"), "{plot}");
    assert!(plot.contains(">100 s<"), "{plot}");
}
