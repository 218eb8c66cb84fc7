//! The cheap clock of `--one-clock`: the time-stamp counter, in ns of [`clock::now`].
//!
//! Only where the kernel itself keeps time by that counter: then it has checked that all CPUs' counters agree and
//! run at one rate. The rate is measured against `CLOCK_MONOTONIC` before the loop, and how far the two have come
//! apart at its end is part of the result.
#![allow(unsafe_code, reason = "the instructions have no safe form; the one block says why it is sound")]

use std::path::Path;

use super::clock;

/// What the kernel keeps time by, in its own words.
const CLOCKSOURCE: &str = "sys/devices/system/clocksource/clocksource0/current_clocksource";
/// How long the rate is measured, ns.
const CALIBRATION: u64 = 10_000_000;
/// Readings of both clocks, of which the one that took the shortest counts.
const TRIES: usize = 8;

/// A straight line through two readings of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks {
    origin: Pair,
    /// Nanoseconds a tick, in units of 2⁻³².
    rate: u64,
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    ticks: u64,
    nanos: u64,
}

impl Ticks {
    /// Measure the rate, which takes 10 ms. `None` where the kernel keeps time by something else.
    pub fn calibrated(root: &Path) -> Option<Self> {
        let source = std::fs::read_to_string(root.join(CLOCKSOURCE)).ok()?;
        if source.trim() != "tsc" {
            return None;
        }
        let first = Pair::read()?;
        let until = first.nanos + CALIBRATION;
        while clock::now() < until {
            clock::sleep_until(until);
        }
        Self::through(first, Pair::read()?)
    }

    /// `None` where the counter did not move, or the rate is none that a CPU has: over a tick a second is needed.
    fn through(first: Pair, last: Pair) -> Option<Self> {
        let ticks = u128::from(last.ticks.checked_sub(first.ticks)?);
        let nanos = u128::from(last.nanos.checked_sub(first.nanos)?);
        let rate = u64::try_from((nanos << 32).checked_div(ticks)?).ok()?;
        (rate > 0).then_some(Self { origin: last, rate })
    }

    /// Now, in ns since boot.
    #[inline]
    pub fn now(self) -> u64 {
        self.at(counter())
    }

    fn at(self, ticks: u64) -> u64 {
        let since = u128::from(ticks.saturating_sub(self.origin.ticks)) * u128::from(self.rate);
        // 2⁶⁴ ns are 584 years.
        self.origin.nanos.saturating_add(u64::try_from(since >> 32).unwrap_or(u64::MAX))
    }

    /// How far it is from `CLOCK_MONOTONIC` at this moment, ns.
    pub fn off(self) -> Option<u64> {
        let Pair { ticks, nanos } = Pair::read()?;
        Some(self.at(ticks).abs_diff(nanos))
    }
}

impl Pair {
    /// The tightest of a few readings: the counter lies between two readings of the clock.
    fn read() -> Option<Self> {
        let one = |_| {
            let before = clock::now();
            let ticks = counter();
            let after = clock::now();
            (after - before, Self { ticks, nanos: before + (after - before) / 2 })
        };
        (0..TRIES).map(one).min_by_key(|(width, _)| *width).map(|(_, pair)| pair)
    }
}

/// The counter, not before the instructions above it are done, as the kernel's own reading in the vDSO.
#[cfg(target_arch = "x86_64")]
#[inline]
fn counter() -> u64 {
    use core::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: every x86-64 CPU has both instructions, and neither touches memory.
    unsafe {
        _mm_lfence();
        _rdtsc()
    }
}

/// No kernel of another architecture calls its clock source `tsc`.
#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(ticks: u64, nanos: u64) -> Pair {
        Pair { ticks, nanos }
    }

    #[test]
    fn a_line_goes_through_what_was_read() {
        let ticks = Ticks::through(pair(1_000, 50), pair(31_000, 10_050)).unwrap();
        for (at, nanos) in [(31_000, 10_050), (34_000, 11_049), (3_000_031_000, 1_000_010_049)] {
            assert!(ticks.at(at).abs_diff(nanos) <= 1, "{at}: {}", ticks.at(at));
        }
        // A year of a counter at 3 GHz.
        let year = 365 * 86_400 * 1_000_000_000_u64;
        assert!(ticks.at(31_000 + 3 * year).abs_diff(10_050 + year) < year / 1_000_000);
    }

    #[test]
    fn a_counter_that_stands_or_goes_back_is_no_clock() {
        assert_eq!(Ticks::through(pair(5, 0), pair(5, 10)), None);
        assert_eq!(Ticks::through(pair(5, 0), pair(4, 10)), None);
        assert_eq!(Ticks::through(pair(0, 7), pair(9, 7)), None);
    }

    #[test]
    fn a_kernel_that_keeps_time_by_something_else_has_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Ticks::calibrated(root.path()), None);
        let file = root.path().join(CLOCKSOURCE);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "kvm-clock\n").unwrap();
        assert_eq!(Ticks::calibrated(root.path()), None);
    }
}
