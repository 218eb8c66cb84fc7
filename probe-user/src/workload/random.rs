//! Numbers from a seed: the same ones for the same seed in every version of this program, which is why
//! the generator is written here (splitmix64, Steele, Lea and Flood 2014) and not taken from a crate.

/// A stream of numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Streams of one seed differ by `stream`, such as the number of a thread.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut base = Self(seed);
        Self(base.word() ^ stream.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`, which is not 0. Its bias is `end / 2^64`.
    pub fn below(&mut self, end: u64) -> u64 {
        // The high half of a product is below `end`.
        #[allow(clippy::cast_possible_truncation, reason = "the high half of a 128-bit product")]
        let number = ((u128::from(self.word()) * u128::from(end)) >> 64) as u64;
        number
    }

    /// A share: 0 included, 1 not.
    pub fn share(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The numbers below `count` in an order of the seed's (Fisher-Yates).
    pub fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap_or(last);
            order.swap(last, other);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The first outputs of the reference for the state 1234567.
        let mut random = Random(1_234_567);
        let got: Vec<u64> = (0..3).map(|_| random.word()).collect();
        assert_eq!(got, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn streams_repeat_and_differ() {
        let take = |seed, stream| {
            let mut random = Random::new(seed, stream);
            (0..4).map(|_| random.word()).collect::<Vec<_>>()
        };
        assert_eq!(take(1, 0), take(1, 0));
        assert_ne!(take(1, 0), take(1, 1));
        assert_ne!(take(1, 0), take(2, 0));
    }

    #[test]
    fn shares_and_bounds_are_kept() {
        let mut random = Random::new(1, 0);
        assert!((0..1000).all(|_| random.below(3) < 3));
        assert!((0..1000).all(|_| (0.0..1.0).contains(&random.share())));
        let mean = (0..10_000).map(|_| random.share()).sum::<f64>() / 1e4;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }

    #[test]
    fn shuffled_is_a_permutation_that_moves_most() {
        let order = Random::new(7, 0).shuffled(1000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..1000));
        let ascending = order.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
        assert!(ascending < 20, "{ascending} neighbours stayed neighbours");
        assert!(Random::new(7, 0).shuffled(0).is_empty());
    }
}
