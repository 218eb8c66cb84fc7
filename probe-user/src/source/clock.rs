//! The recorder's clocks, as the probes have them: in a time namespace `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` are
//! shifted for processes and not for BPF programs, so the shift is taken away again.
//!
//! Knows how exact they are: the step of the clock, and how far apart readings of several clocks are. Refuses to say
//! what a difference means: `probe_model::clock` does.

use std::fs;
use std::sync::OnceLock;

use probe_model::clock::{self, Clock};
use probe_model::origin::{Anchor, Mark};
use probe_model::sample::Instant;
use rustix::time::{ClockId, clock_gettime};

/// Where the kernel says which clock source it has.
pub const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// What a time namespace adds to a clock, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Shift {
    monotonic: i64,
    boottime: i64,
}

impl Shift {
    /// Of this process. A kernel without time namespaces has no such file, and no shift.
    fn of_this_process() -> Self {
        static SHIFT: OnceLock<Shift> = OnceLock::new();
        *SHIFT
            .get_or_init(|| Self::parse(&fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default()))
    }

    /// `CLOCK SECONDS NANOSECONDS`, a line a clock (`proc_timens_show_offsets`, kernel/time/namespace.c, Linux 7.3).
    fn parse(text: &str) -> Self {
        let mut shift = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [clock, seconds, nanos] = words[..] else { continue };
            let (Ok(seconds), Ok(nanos)) = (seconds.parse::<i64>(), nanos.parse::<i64>()) else { continue };
            let whole = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
            match clock {
                "monotonic" => shift.monotonic = whole,
                "boottime" => shift.boottime = whole,
                _ => {}
            }
        }
        shift
    }
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let nanos = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    let shift = Shift::of_this_process();
    let shifted = match clock {
        ClockId::Monotonic => shift.monotonic,
        ClockId::Boottime => shift.boottime,
        _ => 0,
    };
    u64::try_from(nanos - i128::from(shifted)).unwrap_or(0)
}

/// Both clocks, now.
pub fn now() -> Instant {
    Instant { monotonic: read(ClockId::Monotonic), realtime: read(ClockId::Realtime) }
}

/// Readings of all clocks that are tried for an anchor; the one that took the least time is taken.
const TRIES: usize = 8;

/// Now, by every clock: the others are read between two readings of the monotonic one.
pub fn anchor() -> Anchor {
    let tries = (0..TRIES).map(|_| {
        let before = read(ClockId::Monotonic);
        let (realtime, boottime) = (read(ClockId::Realtime), read(ClockId::Boottime));
        let after = read(ClockId::Monotonic);
        let took = after.saturating_sub(before);
        let at = Instant { monotonic: before + took / 2, realtime };
        // The clocks move in one step, so a reading in the same step is exact; 1 ns of rounding each.
        Anchor { at, boottime, uncertainty: Some(took + 2) }
    });
    tries.min_by_key(Anchor::uncertainty).unwrap_or(Anchor { at: now(), boottime: 0, uncertainty: None })
}

/// The kernel's clock source, by name.
pub fn source() -> Option<String> {
    Some(fs::read_to_string(SOURCE).ok()?.trim().to_owned())
}

/// The step of the clock, ns.
pub fn step() -> Option<u64> {
    clock::measure(|| read(ClockId::Monotonic))
}

/// Watches what other clocks do beside the monotonic one, and which source they are read from.
pub struct Watch {
    last: Anchor,
    source: Option<String>,
}

/// What a look found, to be written in this order.
#[derive(Debug, Default)]
pub struct News {
    /// The anchors around a jump.
    pub anchors: Vec<Anchor>,
    /// The clock source is another one.
    pub mark: Option<Mark>,
}

impl Watch {
    /// From now on.
    pub fn begin() -> Self {
        Self { last: anchor(), source: source() }
    }

    /// What happened since the last look.
    pub fn look(&mut self) -> News {
        let mut news = News::default();
        let pair = [self.last, anchor()];
        if clock::sleeps(&pair).chain(clock::steps(&pair)).next().is_some() {
            news.anchors = pair.to_vec();
        }
        self.last = pair[1];
        let source = source();
        if let Some(now) = source.as_ref().filter(|_| source != self.source) {
            let step = step();
            let before = self.source.as_deref().unwrap_or("unknown");
            let steps = step.map(|step| format!(", in steps of {}", probe_model::unit::nanos(step)));
            let text = format!("clock source changed from {before} to {now}{}", steps.unwrap_or_default());
            let clock = Some(Clock { source: now.clone(), step });
            news.mark = Some(Mark { at: self.last.at, text, clock, change: None });
            self.source = source;
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shift_of_a_time_namespace_is_read() {
        let text = "monotonic           -1         999999999\nboottime         86400         0\n";
        assert_eq!(Shift::parse(text), Shift { monotonic: -1, boottime: 86_400_000_000_000 });
        assert_eq!(Shift::parse(""), Shift::default());
    }

    #[test]
    fn this_machines_clocks_agree_and_have_a_step() {
        let (first, step, last) = (anchor(), step().unwrap(), anchor());
        assert!(first.boottime + first.uncertainty() >= first.at.monotonic);
        assert!(first.at.realtime > first.boottime && last.at.monotonic >= first.at.monotonic);
        assert!(step > 0 && step < 100_000_000, "{step} ns");
    }
}
