//! The driver's clock: `CLOCK_MONOTONIC` in ns, read through the vDSO; the same clock as the probes'.

use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::thread::{ClockId, clock_nanosleep_absolute};
use rustix::time::{Timespec, clock_gettime};

const NANOS: u64 = 1_000_000_000;

/// Now, in ns since boot.
#[inline]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Since boot and below a second: neither is negative.
    time.tv_sec.cast_unsigned().wrapping_mul(NANOS).wrapping_add(time.tv_nsec.cast_unsigned())
}

/// The least ns that it tells apart.
pub fn step() -> u64 {
    static STEP: OnceLock<u64> = OnceLock::new();
    *STEP.get_or_init(|| probe_model::clock::measure(now).unwrap_or(1))
}

/// Sleep until `at`, or a signal. How late the kernel wakes a thread is part of what an open loop measures.
pub fn sleep_until(at: u64) {
    let request = Timespec {
        tv_sec: i64::try_from(at / NANOS).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(at % NANOS).unwrap_or(0),
    };
    // An early return is seen by the caller, who reads the clock.
    let _: Result<(), Errno> = clock_nanosleep_absolute(ClockId::Monotonic, &request);
}

/// Let this thread's sleeps end when they should: the default lets the kernel be 50 µs late.
pub fn be_punctual() {
    // Where it is refused, sleeps are later and response times say so.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_does_not_end_early_by_itself() {
        let until = now() + 2_000_000;
        while now() < until {
            sleep_until(until);
        }
        assert!(now() >= until);
    }
}
