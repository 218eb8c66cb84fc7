//! When calls are due: the schedule of an open loop.
//!
//! A closed loop has none: its next call waits for the last one, so whatever delays one call delays all
//! that follow, and they are never seen as late (coordinated omission).

use super::random::Random;

/// What decides when a thread calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// When the last call has returned.
    Closed,
    /// At a rate, whatever became of the calls before.
    Open {
        /// Calls a second, over all threads.
        rate: f64,
        arrivals: Arrivals,
    },
}

/// How the calls of an open loop are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly.
    Constant,
    /// Independently of each other: exponential gaps.
    Poisson,
}

impl Arrivals {
    pub const ALL: [Self; 2] = [Self::Constant, Self::Poisson];

    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Poisson => "poisson",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arrivals| arrivals.name() == name)
    }
}

impl Pace {
    pub fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }

    pub fn rate(self) -> Option<f64> {
        match self {
            Self::Open { rate, .. } => Some(rate),
            Self::Closed => None,
        }
    }
}

/// The due times of one thread, ns.
#[derive(Debug)]
pub struct Schedule {
    /// The first time: of a constant schedule the base, of a Poisson one the last time.
    from: f64,
    /// Mean gap of this thread's calls.
    gap: f64,
    step: u64,
    poisson: Option<Random>,
}

impl Schedule {
    /// Of thread `index` of `threads`, from `start` on.
    pub fn new(rate: f64, arrivals: Arrivals, index: u64, threads: u64, start: u64, random: Random) -> Self {
        let gap = threads as f64 / rate * 1e9;
        // Threads of a constant schedule take turns.
        let phase = gap * index as f64 / threads as f64;
        match arrivals {
            Arrivals::Constant => Self { from: start as f64 + phase, gap, step: 0, poisson: None },
            Arrivals::Poisson => Self { from: start as f64, gap, step: 0, poisson: Some(random) },
        }
    }

    /// When the next call is due.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times of a clock; saturates")]
    pub fn due(&mut self) -> u64 {
        match &mut self.poisson {
            // By multiplication: a sum of rounded gaps would drift.
            None => {
                let due = self.from + self.gap * self.step as f64;
                self.step += 1;
                due as u64
            }
            Some(random) => {
                self.from -= (1.0 - random.share()).ln() * self.gap;
                self.from as u64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(arrivals: Arrivals, index: u64, threads: u64, count: usize) -> Vec<u64> {
        let mut schedule = Schedule::new(1000.0, arrivals, index, threads, 5_000_000, Random::new(1, index));
        (0..count).map(|_| schedule.due()).collect()
    }

    #[test]
    fn constant_means_evenly_and_threads_take_turns() {
        assert_eq!(times(Arrivals::Constant, 0, 1, 3), [5_000_000, 6_000_000, 7_000_000]);
        assert_eq!(times(Arrivals::Constant, 0, 2, 3), [5_000_000, 7_000_000, 9_000_000]);
        assert_eq!(times(Arrivals::Constant, 1, 2, 3), [6_000_000, 8_000_000, 10_000_000]);
    }

    #[test]
    fn poisson_keeps_the_rate_and_varies_the_gaps() {
        let times = times(Arrivals::Poisson, 0, 1, 20_000);
        let mean = (times[times.len() - 1] - 5_000_000) as f64 / times.len() as f64;
        assert!((mean - 1e6).abs() < 3e4, "{mean}");
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let variance = gaps.iter().map(|gap| (gap - 1e6).powi(2)).sum::<f64>() / gaps.len() as f64;
        // An exponential's standard deviation is its mean.
        assert!((variance.sqrt() / 1e6 - 1.0).abs() < 0.05, "{}", variance.sqrt());
    }
}
