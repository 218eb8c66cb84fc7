//! A side: recordings, each cut into few blocks of neighbouring windows, so an hour takes no more memory
//! than a minute. A recording that is given twice is held once.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::histogram::Histogram;
use crate::loss::Cause;
use crate::origin::{Header, Recording};
use crate::sample::{Instant, Scans};
use crate::scan_cost::Conditions;
use crate::window::Window;

/// Most blocks of a recording. When there are as many, neighbours are joined.
const MOST_BLOCKS: usize = 64;

/// What is compared of neighbouring windows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Block {
    /// Latency of successful GET_PA calls.
    pub(crate) get_pa: Option<Histogram>,
    /// Successful scans by length, and their runs.
    pub(crate) scans: Option<Scans>,
    /// GET_PA calls that failed.
    pub(crate) failed: u64,
    /// The same by errno.
    pub(crate) errors: BTreeMap<u32, u64>,
    /// Length, ns.
    pub(crate) duration: u64,
}

impl Block {
    fn of(window: &Window) -> Self {
        let get_pa = window.counters.dispatch.get("IOAS_NOIOMMU_GET_PA");
        Self {
            get_pa: get_pa.map(|calls| calls.ok.clone()),
            scans: window.counters.get_phys.clone(),
            failed: get_pa.map_or(0, |calls| calls.failed.count),
            errors: get_pa.map(|calls| calls.errors.clone()).unwrap_or_default(),
            duration: u64::try_from(window.duration().as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// Add a block that need not be the next one.
    pub(crate) fn add(&mut self, other: &Self) {
        match (&mut self.get_pa, &other.get_pa) {
            (Some(ours), Some(theirs)) => ours.merge(theirs),
            (ours @ None, theirs) => ours.clone_from(theirs),
            (Some(_), None) => {}
        }
        match (&mut self.scans, &other.scans) {
            (Some(ours), Some(theirs)) => {
                merge(&mut ours.ok, &theirs.ok);
                merge(&mut ours.runs, &theirs.runs);
                ours.pages = ours.pages.wrapping_add(theirs.pages);
            }
            (ours @ None, theirs) => ours.clone_from(theirs),
            (Some(_), None) => {}
        }
        self.failed += other.failed;
        self.duration = self.duration.saturating_add(other.duration);
        for (&errno, &count) in &other.errors {
            *self.errors.entry(errno).or_default() += count;
        }
    }

    /// GET_PA calls that succeeded.
    pub(crate) fn calls(&self) -> u64 {
        self.get_pa.as_ref().map_or(0, |histogram| histogram.count)
    }

    /// GET_PA calls.
    pub(crate) fn asked(&self) -> u64 {
        self.calls() + self.failed
    }

    /// Scans that succeeded.
    pub(crate) fn scanned(&self) -> u64 {
        self.scans.iter().flat_map(|scans| scans.ok.values()).map(|class| class.count).sum()
    }

    fn is_idle(&self) -> bool {
        self.asked() == 0 && self.scanned() == 0
    }
}

fn merge<K: Ord + Clone>(ours: &mut BTreeMap<K, Histogram>, theirs: &BTreeMap<K, Histogram>) {
    for (key, histogram) in theirs {
        match ours.get_mut(key) {
            Some(known) => known.merge(histogram),
            None => drop(ours.insert(key.clone(), histogram.clone())),
        }
    }
}

/// One recording.
#[derive(Debug, Clone, Default)]
struct File {
    header: Header,
    blocks: Vec<Block>,
    /// Windows in a block, and in the last one so far.
    each: usize,
    filled: usize,
    /// Windows with calls.
    windows: u64,
    /// What tells its content from another's.
    content: DefaultHasher,
    /// Its place among the recordings that were given, from 1.
    place: usize,
}

/// When and where a recording began, and what it holds: one and the same for copies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    started: Instant,
    boot: Option<String>,
    content: u64,
}

impl File {
    fn identity(&self) -> Identity {
        Identity {
            started: self.header.started,
            boot: self.header.host.boot_id.clone(),
            content: self.content.finish(),
        }
    }

    fn take(&mut self, window: &Window, block: Block) {
        (window.to.monotonic, window.to.realtime, block.failed, block.calls()).hash(&mut self.content);
        block.get_pa.as_ref().map(|calls| calls.sum).hash(&mut self.content);
        if let Some(scans) = &block.scans {
            let classes = scans.ok.iter().map(|(class, scans)| (class, scans.count, scans.sum));
            classes.for_each(|class| class.hash(&mut self.content));
            scans.pages.hash(&mut self.content);
        }
        if block.is_idle() {
            return;
        }
        self.windows += 1;
        if let Some(last) = self.blocks.last_mut().filter(|_| self.filled < self.each) {
            last.add(&block);
            self.filled += 1;
        } else {
            self.blocks.push(block);
            self.filled = 1;
        }
        if self.blocks.len() > MOST_BLOCKS {
            let mut joined: Vec<Block> = Vec::with_capacity(MOST_BLOCKS / 2 + 1);
            for (number, block) in self.blocks.drain(..).enumerate() {
                match joined.last_mut().filter(|_| number % 2 == 1) {
                    Some(before) => before.add(&block),
                    None => joined.push(block),
                }
            }
            self.filled = if joined.len() * 2 > MOST_BLOCKS + 1 { self.each } else { 2 * self.each };
            self.each *= 2;
            self.blocks = joined;
        }
    }
}

/// One side of a comparison: recordings of one setting.
#[derive(Debug, Clone, Default)]
pub struct Side {
    files: Vec<File>,
    given: usize,
    /// Recordings that were given again: which, and what they are a copy of, from 1.
    pub(super) copies: Vec<(usize, usize)>,
    /// Recordings that do not hold every call.
    pub(super) incomplete: usize,
    /// The coarsest step of the clocks that measured, ns.
    clock_step: u64,
    /// The largest share of a recording's calls that were lost because they were slow, 0 to 1.
    pub(super) lost_slow: f64,
}

impl Side {
    /// Begin the next recording of this side.
    pub fn begin(&mut self, header: &Header) {
        self.given += 1;
        self.files.push(File { header: header.clone(), each: 1, place: self.given, ..File::default() });
    }

    /// The next window of the recording. Windows without a call are no evidence, and are left out.
    pub fn window(&mut self, window: &Window) {
        if let Some(file) = self.files.last_mut() {
            file.take(window, Block::of(window));
        }
    }

    /// The end of the recording.
    pub fn end(&mut self, recording: &Recording) {
        if let Some((last, before)) = self.files.split_last()
            && let Some(same) = before.iter().find(|file| file.identity() == last.identity())
        {
            self.copies.push((last.place, same.place));
            self.files.pop();
            return;
        }
        self.clock_step = self.clock_step.max(recording.clock_step());
        self.incomplete += usize::from(!recording.is_complete());
        for balance in recording.window.counters.balances().values() {
            let slow: u64 = balance
                .lost
                .iter()
                .filter(|(cause, _)| *cause == Cause::ReturnMissed)
                .map(|&(_, lost)| lost)
                .sum();
            self.lost_slow = self.lost_slow.max(slow as f64 / balance.calls.max(1) as f64);
        }
    }

    /// Recordings, each counted once.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Windows with calls.
    pub(super) fn windows(&self) -> u64 {
        self.files.iter().map(|file| file.windows).sum()
    }

    /// Recordings that are on both sides: their places on this one and on the other, from 1.
    pub(super) fn shared(&self, other: &Self) -> Vec<(usize, usize)> {
        let same = |file: &File| {
            let found = other.files.iter().find(|theirs| theirs.identity() == file.identity())?;
            Some((file.place, found.place))
        };
        self.files.iter().filter_map(same).collect()
    }

    pub(super) fn headers(&self) -> impl Iterator<Item = &Header> {
        self.files.iter().map(|file| &file.header)
    }

    /// The page size of its first recording, bytes.
    pub(super) fn page_size(&self) -> u64 {
        self.conditions().page_size
    }

    /// What a fit needs to know of its first recording, and of the coarsest clock.
    pub(super) fn conditions(&self) -> Conditions {
        let first = Conditions::of(self.headers().next().unwrap_or(&Header::default()));
        Conditions { clock_step: first.clock_step.max(self.clock_step), ..first }
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
}
