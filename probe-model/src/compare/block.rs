//! A side: recordings, each cut into few blocks of neighbouring windows, so an hour takes no more memory
//! than a minute.

use std::collections::BTreeMap;

use crate::histogram::Histogram;
use crate::origin::{Header, Recording};
use crate::window::Window;

/// Most blocks of a recording. When there are as many, neighbours are joined.
const MOST_BLOCKS: usize = 64;

/// What is compared of neighbouring windows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Block {
    /// Latency of successful GET_PA calls.
    pub(crate) get_pa: Option<Histogram>,
    /// Latency of successful scans.
    pub(crate) scans: Option<Histogram>,
    /// Run lengths, whatever the stop.
    pub(crate) runs: Option<Histogram>,
    /// Pages scanned.
    pub(crate) pages: u64,
    /// GET_PA calls that failed.
    pub(crate) failed: u64,
    /// Scans by length class.
    pub(crate) lengths: BTreeMap<u32, u64>,
    /// Length, ns.
    pub(crate) duration: u64,
}

impl Block {
    fn of(window: &Window) -> Self {
        let get_pa = window.counters.dispatch.get("IOAS_NOIOMMU_GET_PA");
        let scans = window.counters.get_phys.as_ref();
        let mut runs = None;
        for histogram in scans.iter().flat_map(|scans| scans.runs.values()) {
            merge(&mut runs, Some(histogram));
        }
        Self {
            get_pa: get_pa.map(|calls| calls.ok.clone()),
            scans: scans.and_then(crate::sample::Scans::latency),
            runs,
            pages: scans.map_or(0, |scans| scans.pages),
            failed: get_pa.map_or(0, |calls| calls.failed.count),
            lengths: scans
                .map(|scans| scans.ok.iter().map(|(&class, scans)| (class, scans.count)).collect())
                .unwrap_or_default(),
            duration: u64::try_from(window.duration().as_nanos()).unwrap_or(u64::MAX),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        merge(&mut self.get_pa, other.get_pa.as_ref());
        merge(&mut self.scans, other.scans.as_ref());
        merge(&mut self.runs, other.runs.as_ref());
        self.pages = self.pages.wrapping_add(other.pages);
        self.failed += other.failed;
        self.duration = self.duration.saturating_add(other.duration);
        for (&class, &count) in &other.lengths {
            *self.lengths.entry(class).or_default() += count;
        }
    }

    /// GET_PA calls that succeeded.
    pub(crate) fn calls(&self) -> u64 {
        self.get_pa.as_ref().map_or(0, |histogram| histogram.count)
    }
}

fn merge(ours: &mut Option<Histogram>, theirs: Option<&Histogram>) {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => ours.merge(theirs),
        (ours @ None, theirs) => *ours = theirs.cloned(),
        (Some(_), None) => {}
    }
}

/// One recording.
#[derive(Debug, Clone, Default)]
struct File {
    header: Option<Header>,
    blocks: Vec<Block>,
    /// Windows in a block, and in the last one so far.
    each: usize,
    filled: usize,
}

/// One side of a comparison: recordings of one setting.
#[derive(Debug, Clone, Default)]
pub struct Side {
    files: Vec<File>,
    /// Recordings that do not hold every call.
    pub(crate) incomplete: usize,
    /// Recordings that lost slow calls.
    pub(crate) biased: usize,
}

impl Side {
    /// Begin the next recording of this side.
    pub fn begin(&mut self, header: &Header) {
        self.files.push(File { header: Some(header.clone()), each: 1, ..File::default() });
    }

    /// The next window of the recording. Windows without a call are no evidence, and are left out.
    pub fn window(&mut self, window: &Window) {
        let block = Block::of(window);
        let Some(file) = self.files.last_mut() else { return };
        if block.calls() == 0 && block.scans.is_none() {
            return;
        }
        if let Some(last) = file.blocks.last_mut().filter(|_| file.filled < file.each) {
            last.add(&block);
            file.filled += 1;
        } else {
            file.blocks.push(block);
            file.filled = 1;
        }
        if file.blocks.len() > MOST_BLOCKS {
            let mut joined: Vec<Block> = Vec::with_capacity(MOST_BLOCKS / 2 + 1);
            for (number, block) in file.blocks.drain(..).enumerate() {
                match joined.last_mut().filter(|_| number % 2 == 1) {
                    Some(before) => before.add(&block),
                    None => joined.push(block),
                }
            }
            file.filled = if joined.len() * 2 > MOST_BLOCKS + 1 { file.each } else { 2 * file.each };
            file.each *= 2;
            file.blocks = joined;
        }
    }

    /// The end of the recording.
    pub fn end(&mut self, recording: &Recording) {
        let (complete, biased) = super::quality(recording);
        self.incomplete += usize::from(!complete);
        self.biased += usize::from(biased);
    }

    /// Recordings.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    pub(super) fn header(&self) -> Option<&Header> {
        self.files.first().and_then(|file| file.header.as_ref())
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = &[Block]> {
        self.files.iter().map(|file| file.blocks.as_slice())
    }

    /// Blocks there are.
    pub(super) fn independent(&self) -> usize {
        self.files.iter().map(|file| file.blocks.len()).sum()
    }

    /// All blocks in one.
    pub(super) fn whole(&self) -> Block {
        let mut whole = Block::default();
        self.blocks().flatten().for_each(|block| whole.add(block));
        whole
    }

    /// GET_PA calls a second.
    pub(super) fn rate(&self) -> Option<f64> {
        let whole = self.whole();
        let seconds = whole.duration as f64 / 1e9;
        (seconds > 0.0 && whole.calls() > 0).then(|| whole.calls() as f64 / seconds)
    }

    /// Share of scans that are of other lengths than the other side's, 0 to 1.
    pub(super) fn mix_distance(&self, other: &Self) -> f64 {
        let (ours, theirs) = (self.whole().lengths, other.whole().lengths);
        let share = |of: &BTreeMap<u32, u64>, class: u32| {
            let all: u64 = of.values().sum();
            of.get(&class).map_or(0.0, |&count| count as f64 / all.max(1) as f64)
        };
        if ours.is_empty() || theirs.is_empty() {
            return 0.0;
        }
        (0..64).map(|class| (share(&ours, class) - share(&theirs, class)).abs()).sum::<f64>() / 2.0
    }
}
