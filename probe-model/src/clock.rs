//! The clock of latencies: what it can tell apart, and what the machine's other clocks did beside it.
//!
//! A latency is the difference of two readings of `CLOCK_MONOTONIC`, which moves in steps: 1 ns or less by a
//! time-stamp counter, 279 ns by the ACPI timer, 1 to 10 ms by jiffies. It is known within one step, and one
//! shorter than a step reads as nothing: it is shown as less than the step, never as 0.
//!
//! Refuses to read a clock: readings are passed in.

use serde::{Deserialize, Serialize};

use crate::origin::Anchor;
use crate::unit;

/// The kernel's clock source and its step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Clock {
    /// Its name in `/sys/devices/system/clocksource`.
    pub source: String,
    /// Its step in ns; `None` where it could not be measured.
    pub step: Option<u64>,
}

/// Step of the ACPI timer in ns: 3.579545 MHz.
const ACPI_PM: u64 = 279;
/// The longest step of a clock that counts ticks: `CONFIG_HZ` is 100 or more.
const JIFFIES: u64 = 10_000_000;

/// The least ns that a recording of this clock tells apart. Where the step was not measured: what is known of the
/// source by its name, 1 ns else.
pub fn step(source: Option<&str>, measured: Option<u64>) -> u64 {
    measured.filter(|&step| step > 0).unwrap_or(match source {
        Some("acpi_pm") => ACPI_PM,
        Some("jiffies") => JIFFIES,
        _ => 1,
    })
}

/// A duration for people; one that the clock does not tell from nothing, as less than its step.
pub fn shown(nanos: u64, step: u64) -> String {
    shown_by(nanos, step, unit::nanos)
}

/// The same by another way to write a number of ns.
pub fn shown_by(nanos: u64, step: u64, show: impl Fn(u64) -> String) -> String {
    if nanos < step.max(1) { below(step) } else { show(nanos) }
}

/// "Less than a step": in few characters, because it stands in tables.
pub fn below(step: u64) -> String {
    let step = step.max(1);
    let digits = step.ilog10();
    // Two digits: a measured step is not more exact than that.
    let unit = 10u64.pow(if step < 1_000 { 0 } else { digits - 1 });
    let rounded = (step + unit / 2) / unit * unit;
    let (value, name) = match rounded {
        0..1_000 => return format!("< {rounded} ns"),
        1_000..1_000_000 => (rounded as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (rounded as f64 / 1e6, "ms"),
        _ => (rounded as f64 / 1e9, "s"),
    };
    format!("< {value} {name}")
}

/// The step of a clock by the differences of neighbouring readings, ns. Reading takes time, so the smallest
/// difference is not the step: all are multiples of it, within 1 ns of rounding, and the step is the least distance of
/// two of them. Where three whole numbers in a row occur, the clock moves by 1 ns or less. `None` without a difference
/// above 0.
pub fn step_of(differences: impl IntoIterator<Item = u64>) -> Option<u64> {
    let mut seen: Vec<u64> = differences.into_iter().collect();
    seen.sort_unstable();
    seen.dedup();
    let smallest = seen.iter().copied().find(|&difference| difference > 0)?;
    // In a long one the rate may have been corrected meanwhile.
    seen.retain(|&difference| difference <= smallest.saturating_mul(8));
    // Neighbours that only rounding tells apart.
    let groups: Vec<(u64, u64)> =
        seen.chunk_by(|a, b| b - a <= 1).map(|group| (group[0], group[group.len() - 1])).collect();
    if groups.iter().any(|(first, last)| last - first > 1) {
        return Some(1);
    }
    let distances = groups.windows(2).map(|pair| (pair[1].0 + pair[1].1 - pair[0].0 - pair[0].1).div_ceil(2));
    Some(distances.min().unwrap_or(smallest))
}

/// Readings that a measurement of the step takes, and more where the clock has not moved often enough.
const READINGS: usize = 4096;
/// Moves of the clock that are waited for, in so many readings: a clock that stands still is not waited for.
const MOVES: usize = 3;
const MOST_READINGS: usize = 2_000_000;

/// The step of a clock that `read` reads, ns: in a few milliseconds of readings by a fast clock, in three ticks of a
/// slow one. Between two readings a little is done, now more and now less, so that differences of many lengths come.
pub fn measure(mut read: impl FnMut() -> u64) -> Option<u64> {
    let mut differences = Vec::with_capacity(READINGS);
    let (mut moves, mut spin) = (0, 1u32);
    let mut before = read();
    for reading in 0..MOST_READINGS {
        spin ^= spin << 13;
        spin ^= spin >> 17;
        spin ^= spin << 5;
        for round in 0..spin % 16 {
            std::hint::black_box(round);
        }
        let now = read();
        let difference = now.saturating_sub(before);
        moves += usize::from(difference > 0);
        // Of a clock that moves seldom most are 0, and one says it.
        if difference > 0 || differences.last() != Some(&0) {
            differences.push(difference);
        }
        before = now;
        if reading >= READINGS && moves >= MOVES {
            break;
        }
    }
    step_of(differences)
}

/// What another clock did beside the monotonic one, between two anchors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Jump {
    /// Monotonic instants between which it happened, ns.
    pub from: u64,
    /// The later one.
    pub to: u64,
    /// By how much, ns; a step back is negative.
    pub by: i64,
    /// How far `by` may be off, ns: the time that reading the clocks took.
    pub uncertainty: u64,
}

/// Times in which the machine slept: `CLOCK_BOOTTIME` moved on beyond what reading the clocks leaves open.
pub fn sleeps(anchors: &[Anchor]) -> impl Iterator<Item = Jump> {
    anchors.windows(2).filter_map(|pair| beyond(pair, |anchor| anchor.boottime, |anchor| anchor.at.monotonic))
}

/// Steps of the wall clock, each of its own; sleep is none.
pub fn steps(anchors: &[Anchor]) -> impl Iterator<Item = Jump> {
    anchors.windows(2).filter_map(|pair| beyond(pair, |anchor| anchor.at.realtime, |anchor| anchor.boottime))
}

fn beyond(pair: &[Anchor], clock: fn(&Anchor) -> u64, beside: fn(&Anchor) -> u64) -> Option<Jump> {
    let (older, newer) = (&pair[0], &pair[1]);
    let moved = |read: fn(&Anchor) -> u64| i128::from(read(newer)) - i128::from(read(older));
    let by = moved(clock) - moved(beside);
    let uncertainty = older.uncertainty().saturating_add(newer.uncertainty());
    (by.unsigned_abs() > u128::from(uncertainty)).then(|| Jump {
        from: older.at.monotonic,
        to: newer.at.monotonic,
        by: i64::try_from(by).unwrap_or(if by < 0 { i64::MIN } else { i64::MAX }),
        uncertainty,
    })
}

/// Anchors, bounded: the first, the last, and those between which another clock jumped.
#[derive(Debug, Clone, Default)]
pub struct Anchors(Vec<Anchor>);

/// Anchors that are kept: 512 jumps.
const MOST_ANCHORS: usize = 1024;

impl Anchors {
    /// Take in the next; one between two others that tells nothing is let go.
    pub fn push(&mut self, anchor: Anchor) {
        let quiet = |pair: &[Anchor]| sleeps(pair).next().is_none() && steps(pair).next().is_none();
        if let [.., before, last] = self.0[..]
            && ((quiet(&[before, last]) && quiet(&[last, anchor])) || self.0.len() >= MOST_ANCHORS)
        {
            self.0.pop();
        }
        self.0.push(anchor);
    }

    /// Those that were kept, in order.
    pub fn into_vec(self) -> Vec<Anchor> {
        self.0
    }
}

/// A jump for people: its sign and how long.
pub fn signed(nanos: i64) -> String {
    let sign = if nanos < 0 { '-' } else { '+' };
    format!("{sign}{}", unit::nanos(nanos.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Instant;

    #[test]
    fn what_is_shorter_than_a_step_is_said_to_be_that() {
        assert_eq!([shown(0, 1), shown(5, 1), shown(0, 0)], ["< 1 ns", "5 ns", "< 1 ns"]);
        assert_eq!([shown(0, 279), shown(279, 279)], ["< 279 ns", "279 ns"]);
        assert_eq!(shown(3_999_999, 4_000_000), "< 4 ms");
        assert_eq!(
            [3_333_333, 3_999_996, 4_000_003, 10_000_000].map(below),
            ["< 3.3 ms", "< 4 ms", "< 4 ms", "< 10 ms"]
        );
        assert_eq!([1_234, 999_999, 2_000_000_000].map(below), ["< 1.2 µs", "< 1 ms", "< 2 s"]);
    }

    #[test]
    fn the_cost_of_a_reading_is_not_the_step() {
        // Readings that cost about 30 ns, of a clock of 1 ns; one was interrupted.
        assert_eq!(step_of([30, 31, 33, 32, 30, 5_017]), Some(1));
        // The ACPI timer, whose reading takes three ticks and more: 279.365 ns each, rounded.
        assert_eq!(step_of([838, 839, 1_117, 1_118, 1_676, 838]), Some(279));
        assert_eq!(step_of([0, 0, 4_000_000, 0, 3_999_999]), Some(4_000_000));
        // 24 MHz.
        assert_eq!(step_of([41, 42, 83, 84, 125]), Some(42));
        assert_eq!(step_of([70, 72, 76, 74]), Some(2));
        assert_eq!([step_of([0, 0]), step_of([57])], [None, Some(57)]);
    }

    #[test]
    fn a_clock_is_measured_by_its_readings() {
        let mut readings = 0u64;
        let ticks = measure(|| {
            readings += 1;
            readings / 10_000 * 4_000_000
        });
        assert_eq!(ticks, Some(4_000_000));
        assert_eq!(measure(|| 5), None);
    }

    #[test]
    fn a_source_that_was_not_measured_is_known_by_its_name() {
        assert_eq!([step(Some("acpi_pm"), None), step(Some("tsc"), None), step(None, None)], [279, 1, 1]);
        assert_eq!(
            [step(Some("jiffies"), None), step(Some("jiffies"), Some(4_000_000))],
            [10_000_000, 4_000_000]
        );
    }

    fn anchor(monotonic: u64, asleep: u64, wall: u64) -> Anchor {
        let at = Instant { monotonic, realtime: monotonic + asleep + wall };
        Anchor { at, boottime: monotonic + asleep, uncertainty: Some(100) }
    }

    #[test]
    fn an_hour_forth_and_back_is_two_steps() {
        const HOUR: u64 = 3_600_000_000_000;
        let mut anchors = Anchors::default();
        for (minute, wall) in [(0, 0), (1, 0), (2, HOUR), (3, HOUR), (4, HOUR), (5, 0), (6, 0)] {
            anchors.push(anchor(minute * 60, 0, 2 * HOUR + wall));
        }
        let anchors = anchors.into_vec();
        let steps: Vec<_> = steps(&anchors).map(|step| (step.from / 60, step.to / 60, step.by)).collect();
        assert_eq!(steps, [(1, 2, HOUR.cast_signed()), (4, 5, -HOUR.cast_signed())]);
        assert_eq!(steps.iter().map(|&(_, _, by)| signed(by)).collect::<Vec<_>>(), ["+3600 s", "-3600 s"]);
        assert_eq!((anchors.len(), sleeps(&anchors).count()), (6, 0));
    }

    #[test]
    fn what_reading_the_clocks_takes_is_neither_sleep_nor_a_step() {
        let anchors = [anchor(0, 0, 500), anchor(1_000, 200, 300), anchor(2_000, 200, 300)];
        assert_eq!((sleeps(&anchors).count(), steps(&anchors).count()), (0, 0));
        let anchors = [anchor(0, 0, 500), anchor(1_000, 201, 500)];
        assert_eq!(
            sleeps(&anchors).map(|sleep| (sleep.by, sleep.uncertainty)).collect::<Vec<_>>(),
            [(201, 200)]
        );
    }
}
