//! Single calls, bounded: the latest, and the slowest of all.

use std::collections::VecDeque;

use probe_model::call::Call;

/// Calls kept of each kind.
const LATEST: usize = 1024;
const SLOWEST: usize = 256;

/// The calls that are kept.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    latest: VecDeque<Call>,
    /// Slowest first.
    slowest: Vec<Call>,
    seen: u64,
}

impl Kept {
    /// Take one in.
    pub fn push(&mut self, call: Call) {
        self.seen += 1;
        let place = self.slowest.partition_point(|slow| slow.nanos >= call.nanos);
        if place < SLOWEST {
            self.slowest.insert(place, call.clone());
            self.slowest.truncate(SLOWEST);
        }
        self.latest.push_back(call);
        if self.latest.len() > LATEST {
            self.latest.pop_front();
        }
    }

    /// Calls seen so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Latest first, then the slowest that are not among them.
    pub fn all(&self) -> impl Iterator<Item = &Call> {
        let oldest = self.latest.front().map_or(u64::MAX, |call| call.at);
        let old = self.slowest.iter().filter(move |call| call.at < oldest);
        self.latest.iter().rev().chain(old)
    }

    /// The latest, in order of time.
    pub fn in_order(&self) -> impl Iterator<Item = &Call> {
        self.latest.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use probe_model::call::What;

    #[test]
    fn the_slowest_stays_however_many_come() {
        let mut kept = Kept::default();
        for at in 0..10_000u64 {
            let what = What::Dispatch { command: "IOAS_MAP".into() };
            let nanos = if at == 5 { 9_999 } else { at % 100 };
            kept.push(Call { at, nanos, pid: 1, tid: 1, cpu: 0, comm: vec![], errno: 0, slow: false, what });
        }
        assert_eq!(kept.seen(), 10_000);
        assert!(kept.all().count() <= LATEST + SLOWEST);
        assert_eq!(kept.all().map(|call| call.nanos).max(), Some(9_999));
        assert_eq!(kept.all().next().map(|call| call.at), Some(9_999));
    }
}
