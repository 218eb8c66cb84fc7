//! Drawing blocks at random, again and again: how much a measure varies, and how far two distributions of
//! one origin lie apart.

use super::FEWEST_BLOCKS;
use super::measure::{Common, Measure, Sum};
use super::side::{Block, Side};
use super::stack::Stack;

/// Draws. Their standard deviation is then known within 7 %.
const DRAWS: usize = 100;
/// Deals of the blocks to two sides at random.
const DEALS: usize = 400;
/// No error is known better than this.
const LEAST: f64 = 0.001;

/// The standard error of each measure's log-ratio; `None` where too many draws have none. Measures that are barred
/// are not computed.
pub(super) fn errors(
    a: &Side,
    b: &Side,
    measures: &[&Measure],
    common: &Common,
    random: &mut fastrand::Rng,
) -> Vec<Option<f64>> {
    let (of_a, of_b) = (Stack::of(a), Stack::of(b));
    let one = |random: &mut fastrand::Rng| {
        let mut sum = |side, stack| Sum::new(draw(side, stack, random), side, common);
        let (a, b) = (sum(a, &of_a), sum(b, &of_b));
        let ratio = |measure: &&Measure| {
            if measure.barred.is_some() {
                return f64::NAN;
            }
            match ((measure.of)(&a), (measure.of)(&b)) {
                (Some(a), Some(b)) if a.is > 0.0 && b.is > 0.0 => (b.is / a.is).ln(),
                _ => f64::NAN,
            }
        };
        measures.iter().map(ratio).collect::<Vec<f64>>()
    };
    let ratios: Vec<Vec<f64>> = (0..DRAWS).map(|_| one(random)).collect();
    let each = measures.iter().enumerate();
    each.map(|(place, measure)| {
        let dependence = dependence(a, measure, common).max(dependence(b, measure, common));
        Some((deviation(ratios.iter().map(|draw| draw[place]))? * dependence).max(LEAST))
    })
    .collect()
}

/// The standard deviation of what is finite; `None` where a tenth is not.
fn deviation(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    if values.len() * 10 < DRAWS * 9 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// As many blocks as there are, some twice and some not at all; recordings first where there are several.
fn draw(side: &Side, stack: &Stack, random: &mut fastrand::Rng) -> Block {
    let mut begin = 0;
    let mut files = Vec::new();
    for blocks in side.blocks().filter(|blocks| !blocks.is_empty()) {
        files.push(begin..begin + blocks.len());
        begin += blocks.len();
    }
    let mut times = vec![0; stack.len()];
    for number in 0..files.len() {
        let file = &files[if files.len() > 1 { random.usize(..files.len()) } else { number }];
        for _ in file.clone() {
            times[random.usize(file.clone())] += 1;
        }
    }
    stack.sum(&times)
}

/// Draws of few blocks vary too little by √(n/(n−1)); draws of blocks that resemble their neighbours by
/// √((1+r)/(1−r)), where r is how much neighbouring blocks' values correlate.
fn dependence(side: &Side, measure: &Measure, common: &Common) -> f64 {
    let files = side.files() as f64;
    if files > 1.0 {
        return (files / (files - 1.0)).sqrt();
    }
    let of = measure.moves_with.as_ref().unwrap_or(&measure.of);
    let mut worst = 1.0f64;
    for blocks in side.blocks().filter(|_| measure.barred.is_none()) {
        let values: Vec<f64> =
            blocks.iter().filter_map(|block| Some(of(&Sum::new(block.clone(), side, common))?.is)).collect();
        let count = values.len() as f64;
        if count < 3.0 {
            continue;
        }
        let mean = values.iter().sum::<f64>() / count;
        let spread: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let joint: f64 = values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
        let correlation = if spread > 0.0 { (joint / spread).clamp(0.0, 0.9) } else { 0.0 };
        worst = worst.max((count / (count - 1.0) * (1.0 + correlation) / (1.0 - correlation)).sqrt());
    }
    worst
}

/// The chance that blocks dealt to two sides at random have latency distributions as far apart as these.
pub(super) fn distribution(a: &Side, b: &Side, random: &mut fastrand::Rng) -> Option<f64> {
    let counts = Counts::of(a, b)?;
    let mut order: Vec<usize> = (0..counts.rows.len()).collect();
    let ours = a.independent();
    if ours < FEWEST_BLOCKS || order.len() - ours < FEWEST_BLOCKS {
        return None;
    }
    let seen = counts.distance(&order[..ours])?;
    let mut as_far = 0;
    for _ in 0..DEALS {
        random.shuffle(&mut order);
        as_far += usize::from(counts.distance(&order[..ours])? >= seen - 1e-12);
    }
    Some(f64::from(u32::try_from(as_far + 1).unwrap_or(u32::MAX)) / (DEALS + 1) as f64)
}

/// GET_PA latencies by bucket in every block of both sides.
struct Counts {
    rows: Vec<Vec<(usize, f64)>>,
    all: Vec<f64>,
}

impl Counts {
    fn of(a: &Side, b: &Side) -> Option<Self> {
        let blocks: Vec<_> =
            a.blocks().chain(b.blocks()).flatten().map(|block| block.get_pa.as_ref()).collect();
        let scheme = blocks.iter().flatten().next()?.scheme();
        let same = blocks.iter().flatten().all(|latency| latency.scheme() == scheme);
        let buckets: std::collections::BTreeSet<u32> =
            blocks.iter().flatten().flat_map(|latency| latency.buckets.keys().copied()).collect();
        let buckets: Vec<u32> = buckets.into_iter().filter(|_| same).collect();
        let mut all = vec![0.0; buckets.len()];
        let mut rows = Vec::new();
        for latency in blocks {
            let counts = latency.iter().flat_map(|latency| &latency.buckets);
            let row: Vec<(usize, f64)> = counts
                .filter_map(|(index, &count)| Some((buckets.binary_search(index).ok()?, count as f64)))
                .collect();
            for (place, count) in &row {
                all[*place] += count;
            }
            rows.push(row);
        }
        Some(Self { rows, all })
    }

    /// The largest difference of two cumulative distributions of GET_PA latency (Kolmogorov and Smirnov's).
    fn distance(&self, of_a: &[usize]) -> Option<f64> {
        let mut a = vec![0.0; self.all.len()];
        for &block in of_a {
            self.rows[block].iter().for_each(|(place, count)| a[*place] += count);
        }
        let (all_a, all) = (a.iter().sum::<f64>(), self.all.iter().sum::<f64>());
        let all_b = all - all_a;
        if all_a <= 0.0 || all_b <= 0.0 {
            return None;
        }
        let (mut below_a, mut below, mut farthest) = (0.0, 0.0, 0.0f64);
        for (a, both) in a.iter().zip(&self.all) {
            below_a += a;
            below += both;
            farthest = farthest.max((below_a / all_a - (below - below_a) / all_b).abs());
        }
        Some(farthest)
    }
}
