//! Windows: the difference of two samples. Every number shown or exported comes from one.

use std::time::Duration;

use crate::sample::{Counters, Instant, Sample};

/// What happened between two instants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Where it begins.
    pub from: Instant,
    /// Where it ends.
    pub to: Instant,
    /// What was counted in between.
    pub counters: Counters,
}

impl Window {
    /// The window between two samples of the same counters.
    pub fn between(older: &Sample, newer: &Sample) -> Self {
        Self { from: older.at, to: newer.at, counters: newer.counters.since(&older.counters) }
    }

    /// Its length, by the monotonic clock.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.to.monotonic.saturating_sub(self.from.monotonic))
    }

    /// Events per second; `None` for a window without length.
    pub fn rate(&self, count: u64) -> Option<f64> {
        let seconds = self.duration().as_secs_f64();
        (seconds > 0.0).then(|| count as f64 / seconds)
    }
}
