//! Drawing blocks at random, again and again: how much a measure varies, and how far two distributions of
//! one origin lie apart.

use super::block::{Block, Side};
use super::measure::MEASURES;

/// Draws. Their standard deviation is then known within 5 %.
const DRAWS: usize = 300;

/// Log-ratios of every measure, draw by draw.
pub(super) struct Draws {
    ratios: Vec<Vec<f64>>,
    /// What dependence between neighbours adds to the error, as a factor.
    dependence: f64,
}

impl Draws {
    /// The standard error of a measure's log-ratio.
    pub(super) fn error(&self, place: usize) -> Option<f64> {
        let values: Vec<f64> =
            self.ratios.iter().map(|draw| draw[place]).filter(|ratio| ratio.is_finite()).collect();
        if values.len() < DRAWS / 2 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance =
            values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64;
        // Percentiles come from buckets 0.8 % wide: no error is known better than a part of one.
        Some((variance.sqrt() * self.dependence).max(0.001))
    }
}

pub(super) fn draws(a: &Side, b: &Side, random: &mut fastrand::Rng) -> Draws {
    let one = |random: &mut fastrand::Rng| {
        let (a, b) = (draw(a, random), draw(b, random));
        let ratio = |of: fn(&Block) -> Option<f64>| match (of(&a), of(&b)) {
            (Some(a), Some(b)) if a > 0.0 && b > 0.0 => (b / a).ln(),
            _ => f64::NAN,
        };
        MEASURES.iter().map(|measure| ratio(measure.of)).collect()
    };
    let ratios = (0..DRAWS).map(|_| one(random)).collect();
    Draws { ratios, dependence: dependence(a).max(dependence(b)) }
}

/// As many blocks as there are, some twice and some not at all; recordings first where there are several.
fn draw(side: &Side, random: &mut fastrand::Rng) -> Block {
    let files: Vec<&[Block]> = side.blocks().filter(|blocks| !blocks.is_empty()).collect();
    let mut sum = Block::default();
    for number in 0..files.len() {
        let blocks = if files.len() > 1 { files[random.usize(..files.len())] } else { files[number] };
        for _ in 0..blocks.len() {
            sum.add(&blocks[random.usize(..blocks.len())]);
        }
    }
    sum
}

/// Draws of few blocks vary too little by √(n/(n−1)); draws of blocks that resemble their neighbours by
/// √((1+r)/(1−r)), where r is how much neighbouring mean latencies correlate.
fn dependence(side: &Side) -> f64 {
    let mut worst = 1.0f64;
    for blocks in side.blocks() {
        let means: Vec<f64> = blocks.iter().filter_map(|block| block.get_pa.as_ref()?.mean()).collect();
        let count = means.len() as f64;
        if count < 3.0 {
            continue;
        }
        let mean = means.iter().sum::<f64>() / count;
        let spread: f64 = means.iter().map(|value| (value - mean).powi(2)).sum();
        let joint: f64 = means.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
        let correlation = if spread > 0.0 { (joint / spread).clamp(0.0, 0.9) } else { 0.0 };
        let few = if side.files() == 1 { count / (count - 1.0) } else { 1.0 };
        worst = worst.max((few * (1.0 + correlation) / (1.0 - correlation)).sqrt());
    }
    let files = side.files() as f64;
    if files > 1.0 { worst.max((files / (files - 1.0)).sqrt()) } else { worst }
}

/// The chance that blocks dealt to two sides at random have latency distributions as far apart as these.
pub(super) fn distribution(a: &Side, b: &Side, random: &mut fastrand::Rng) -> Option<f64> {
    let mut blocks: Vec<&Block> = a.blocks().chain(b.blocks()).flatten().collect();
    let ours = a.independent();
    if ours < super::FEWEST_BLOCKS || blocks.len() - ours < super::FEWEST_BLOCKS {
        return None;
    }
    let seen = distance(&blocks[..ours], &blocks[ours..])?;
    let mut as_far = 0;
    for _ in 0..DRAWS {
        random.shuffle(&mut blocks);
        as_far += usize::from(distance(&blocks[..ours], &blocks[ours..])? >= seen);
    }
    Some((as_far + 1) as f64 / (DRAWS + 1) as f64)
}

/// The largest difference of two cumulative distributions of GET_PA latency (Kolmogorov and Smirnov's).
fn distance(a: &[&Block], b: &[&Block]) -> Option<f64> {
    let sum = |blocks: &[&Block]| {
        let mut sum = Block::default();
        for block in blocks {
            sum.add(block);
        }
        sum.get_pa.filter(|histogram| histogram.count > 0)
    };
    let (a, b) = (sum(a)?, sum(b)?);
    let (mut of_a, mut of_b, mut farthest) = (0u64, 0u64, 0.0f64);
    let indices: std::collections::BTreeSet<u32> =
        a.buckets.keys().chain(b.buckets.keys()).copied().collect();
    for index in indices {
        of_a += a.buckets.get(&index).copied().unwrap_or(0);
        of_b += b.buckets.get(&index).copied().unwrap_or(0);
        let difference = of_a as f64 / a.count as f64 - of_b as f64 / b.count as f64;
        farthest = farthest.max(difference.abs());
    }
    Some(farthest)
}
