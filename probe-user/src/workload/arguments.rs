//! A hash of the arguments of every ioctl that a job's loop issued, in order: two runs of one seed must
//! give the same one. For showing that runs repeat, not against an adversary.

/// `2^64 / φ`, odd: spreads the bits of a word.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of one thread's calls so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArgumentHash(u64);

impl ArgumentHash {
    /// That of the thread `lane` before its first call.
    pub fn new(lane: u64) -> Self {
        let mut hash = Self(SPREAD);
        hash.word(lane);
        hash
    }

    /// Take in a word. Order matters.
    #[inline]
    pub fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(SPREAD);
    }

    /// Take in a thread's hash; every thread has another beginning, so any order gives the same.
    pub fn join(&mut self, other: Self) {
        self.0 ^= other.0;
    }

    pub fn none() -> Self {
        Self(0)
    }
}

impl std::fmt::Display for ArgumentHash {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lane: u64, words: &[u64]) -> ArgumentHash {
        let mut hash = ArgumentHash::new(lane);
        for &word in words {
            hash.word(word);
        }
        hash
    }

    #[test]
    fn order_content_and_thread_matter() {
        assert_eq!(of(0, &[1, 2]), of(0, &[1, 2]));
        assert_ne!(of(0, &[1, 2]), of(0, &[2, 1]));
        assert_ne!(of(0, &[1, 2]), of(1, &[1, 2]));
        assert_ne!(of(0, &[0]), of(0, &[0, 0]));
    }

    #[test]
    fn threads_join_in_any_order() {
        let join = |hashes: [ArgumentHash; 2]| {
            let mut all = ArgumentHash::none();
            for hash in hashes {
                all.join(hash);
            }
            all
        };
        let (a, b) = (of(0, &[7]), of(1, &[7]));
        assert_eq!(join([a, b]), join([b, a]));
        assert_ne!(join([a, b]), ArgumentHash::none());
    }
}
