//! The only bytes-to-types code: the counters of all CPUs, mapped, added up to a sample.
//!
//! Buckets are 32 bits wide in the kernel and wrap; the reader keeps 64-bit totals by adding up
//! differences. Counters are read word by word while programs run, so a call that ends during the
//! read may be in one counter and not yet in another; after the probes are detached a sample is exact.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant as Clock};

use probe_common::command;
use probe_common::dist::{FailedLatencies, Latencies, RunLengths};
use probe_common::site::{SITES, SiteId};
use probe_common::wire::{
    BLOCKS_MAP, Block, CALLER_ROWS, CALLERS_MAP, CommandCell, ERRNO_SLOTS, Flow as Fates, LOCK_BLOCKS_MAP,
    SCAN_CLASSES, SHARED_MAP, ScanCell, Stop,
};
use probe_model::attribution::Row;
use probe_model::histogram::Histogram;
use probe_model::lock::Locks;
use probe_model::loss::Flow;
use probe_model::sample::{Calls, Counters, Sample, Scans};

use super::attribution::{self, Callers};
use super::load::{Programs, possible_cpus};
use super::locks::LockReader;
use super::mapping::Mapping;
use super::misses::Misses;
use super::totals::{Depth, Total, halves};
use super::{Config, SourceError};
use crate::source::clock;

/// The mapped counters and what was read of them last.
pub(super) struct Reader {
    blocks: Mapping<Block>,
    commands: Vec<Outcomes>,
    scans: Vec<Total>,
    failed_scans: Outcomes,
    runs: Vec<Total>,
    callers: Callers,
    locks: Option<LockReader>,
}

/// Calls by outcome.
struct Outcomes {
    /// Successful ones; `None` where they are counted elsewhere.
    ok: Option<Total>,
    failed: Total,
    /// Byte offset of the errno table.
    table: usize,
    errors: BTreeMap<u32, u64>,
    /// The errno table over all CPUs as it was read last, wrapping; empty before the first failure.
    last: Vec<u32>,
}

/// The kernel's own counters of what it did not show us.
#[derive(Default)]
pub(super) struct Missed<'a> {
    pub(super) now: &'a [Misses],
    pub(super) baseline: &'a [Misses],
    /// Runs of the lock programs that it refused.
    pub(super) locks: u64,
}

impl Reader {
    pub(super) fn new(programs: &Programs, config: &Config) -> Result<Self, SourceError> {
        let cpus = possible_cpus()?;
        let slots = u32::try_from(CALLER_ROWS).unwrap_or(u32::MAX);
        let callers = Callers {
            names: Mapping::new(programs.array(CALLERS_MAP)?, slots)?,
            shared: Mapping::new(programs.array(SHARED_MAP)?, 1)?,
        };
        let locks = if config.locks {
            Some(LockReader::new(Mapping::new(programs.array(LOCK_BLOCKS_MAP)?, cpus)?))
        } else {
            None
        };
        Ok(Self::over(Mapping::new(programs.array(BLOCKS_MAP)?, cpus)?, callers, locks))
    }

    /// A reader of these counters.
    pub(super) fn over(blocks: Mapping<Block>, callers: Callers, locks: Option<LockReader>) -> Self {
        let command = |row| offset_of!(Block, dispatch) + row * size_of::<CommandCell>();
        let commands = (0..command::ROWS).map(command).map(|at| Outcomes {
            ok: Some(Total::at::<Latencies>(at + offset_of!(CommandCell, ok))),
            ..Outcomes::at(at + offset_of!(CommandCell, failed), at + offset_of!(CommandCell, errno))
        });
        let scan = |field| offset_of!(Block, get_phys) + field;
        let class = |class| scan(offset_of!(ScanCell, ok)) + class * size_of::<Latencies>();
        let stop = |stop| scan(offset_of!(ScanCell, runs)) + stop * size_of::<RunLengths>();
        Self {
            blocks,
            commands: commands.collect(),
            scans: (0..SCAN_CLASSES).map(|index| Total::at::<Latencies>(class(index))).collect(),
            failed_scans: Outcomes::at(scan(offset_of!(ScanCell, failed)), scan(offset_of!(ScanCell, errno))),
            runs: (0..Stop::COUNT).map(|index| Total::at::<RunLengths>(stop(index))).collect(),
            callers,
            locks,
        }
    }

    pub(super) fn cpus(&self) -> u32 {
        u32::try_from(self.blocks.elements()).unwrap_or(u32::MAX)
    }

    /// Whether calls that begin from now on are counted. CPU by CPU: a call is counted or not, whole,
    /// by what stood at its entry.
    pub(super) fn arm(&self, armed: bool) {
        const { assert!(offset_of!(Block, armed) == 0) };
        self.blocks.store_first_words(u64::from(armed));
    }

    /// The same of one CPU.
    pub(super) fn arm_one(&self, cpu: usize, armed: bool) {
        self.blocks.store_first_word(cpu, u64::from(armed));
    }

    /// CPUs that have a block.
    pub(super) fn elements(&self) -> usize {
        self.blocks.elements()
    }

    /// A word of a site's fates on a CPU.
    pub(super) fn fate(&self, cpu: usize, site: SiteId, field: usize) -> u64 {
        let offset = offset_of!(Block, flow) + site as usize * size_of::<Fates>() + field;
        self.blocks.words_of(cpu, offset, 1).iter().map(|word| word.load(Ordering::Acquire)).sum()
    }

    /// Fates that are counted at the sites, and calls that returned.
    pub(super) fn flows_with_exits(&mut self) -> BTreeMap<String, Flow> {
        self.sample(&Missed::default(), Depth::Changed).counters.flow
    }

    /// One CPU; the value is [`Block::armed`]'s.
    pub(super) fn arm_cpu(&self, cpu: usize, value: u64) {
        self.blocks.store_first_word(cpu, value);
    }

    /// Calls and the time inside them, ns, by site: in no distribution's way, and quickly read.
    pub(super) fn times(&self) -> BTreeMap<String, (u64, u64)> {
        let mut times = BTreeMap::new();
        for row in self.callers.rows(&self.blocks).into_values() {
            let (calls, nanos) = times.entry(row.site).or_insert((0, 0));
            *calls += row.calls;
            *nanos += row.nanos;
        }
        times
    }

    /// Add up all CPUs.
    pub(super) fn sample(&mut self, missed: &Missed<'_>, depth: Depth) -> Sample {
        let at = clock::now();
        let attribution = self.callers.rows(&self.blocks);
        Callers::look_again(&self.blocks);
        let dispatch = self.dispatch(depth);
        let get_phys = self.get_phys(depth, &attribution);
        let mut flow = self.flows(missed);
        returned(&mut flow, &dispatch, get_phys.as_ref());
        let locks = self.locks(depth, missed.locks);
        Sample {
            at,
            counters: Counters { dispatch, get_phys, flow, attribution, locks, ..Counters::default() },
        }
    }

    fn locks(&mut self, depth: Depth, missed: u64) -> Option<Locks> {
        self.locks.as_mut().map(|locks| locks.read(depth, missed))
    }

    /// Wait until no counted call is open, at most `grace`.
    pub(super) fn drain(&mut self, grace: Duration) {
        let deadline = Clock::now() + grace;
        let none = Missed::default();
        loop {
            let open = self.sample(&none, Depth::Changed).counters.flow.values().any(|flow| flow.open() > 0);
            if !open || Clock::now() >= deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(5).min(grace));
        }
    }

    /// Canary calls that a site has counted.
    pub(super) fn canaries(&self, site: SiteId) -> u64 {
        let seen = offset_of!(Block, flow) + site as usize * size_of::<Fates>();
        (0..self.blocks.elements()).map(|cpu| self.blocks.part::<Fates>(cpu, seen).canary).sum()
    }

    /// Fates that are counted at the sites; `exited` is not among them.
    pub(super) fn flows(&self, missed: &Missed<'_>) -> BTreeMap<String, Flow> {
        let mut flows = BTreeMap::new();
        for (place, site) in SITES.iter().enumerate() {
            let now = missed.now.get(place).copied().unwrap_or_default();
            let before = missed.baseline.get(place).copied().unwrap_or_default();
            let mut sum = Flow {
                entry_missed: now.entry.saturating_sub(before.entry),
                return_missed: now.exit.saturating_sub(before.exit),
                return_recursion: now.exit_recursion.saturating_sub(before.exit_recursion),
                session_missed: now.either.saturating_sub(before.either),
                call_missed: now.call.saturating_sub(before.call),
                ..Flow::default()
            };
            for cpu in 0..self.blocks.elements() {
                let offset = offset_of!(Block, flow) + place * size_of::<Fates>();
                let fates: Fates = self.blocks.part(cpu, offset);
                sum.append(&Flow {
                    entered: fates.entered,
                    unmatched: fates.unmatched,
                    unstored: fates.unstored,
                    unreadable: fates.unreadable,
                    superseded: fates.superseded,
                    backwards: fates.backwards,
                    unread: fates.unread,
                    unseen: fates.unseen,
                    canary: fates.canary,
                    unarmed: fates.unarmed,
                    ..Flow::default()
                });
            }
            flows.insert(site.name.to_owned(), sum);
        }
        flows
    }

    /// Calls chosen for a record of their own that found no room in the ring.
    pub(super) fn dropped(&self) -> u64 {
        let of_site = |place| offset_of!(Block, flow) + place * size_of::<Fates>();
        let places =
            (0..SITES.len()).flat_map(|site| (0..self.blocks.elements()).map(move |cpu| (site, cpu)));
        places.map(|(site, cpu)| self.blocks.part::<Fates>(cpu, of_site(site)).dropped).sum()
    }

    fn dispatch(&mut self, depth: Depth) -> BTreeMap<String, Calls> {
        let mut dispatch = BTreeMap::new();
        for (row, outcomes) in self.commands.iter_mut().enumerate() {
            let (ok, failed) = outcomes.read(&self.blocks, depth);
            if ok.count + failed.count > 0 {
                let name = command::name_of(row).unwrap_or("UNKNOWN").to_owned();
                dispatch.insert(name, Calls { ok, failed, errors: outcomes.errors.clone() });
            }
        }
        dispatch
    }

    fn get_phys(&mut self, depth: Depth, attribution: &BTreeMap<u32, Row>) -> Option<Scans> {
        let blocks = &self.blocks;
        let mut read = |total: &mut Total| {
            total.advance(blocks, depth);
            total.histogram().clone()
        };
        let classes = self.scans.iter_mut().map(&mut read);
        let ok = (0u32..).zip(classes).filter(|(_, histogram)| !histogram.is_empty()).collect();
        let stops = Stop::ALL.iter().zip(self.runs.iter_mut().map(&mut read));
        let runs = stops.filter(|(_, histogram)| !histogram.is_empty());
        let runs = runs.map(|(stop, histogram)| (stop.name().to_owned(), histogram)).collect();
        let (_, failed) = self.failed_scans.read(blocks, depth);
        let errors = self.failed_scans.errors.clone();
        let scans = Scans { ok, failed, errors, pages: attribution::pages(attribution), runs };
        (scans.count() > 0).then_some(scans)
    }
}

impl Outcomes {
    fn at(failed: usize, table: usize) -> Self {
        let failed = Total::at::<FailedLatencies>(failed);
        Self { ok: None, failed, table, errors: BTreeMap::new(), last: Vec::new() }
    }

    fn read(&mut self, blocks: &Mapping<Block>, depth: Depth) -> (Histogram, Histogram) {
        let moved = self.failed.advance(blocks, depth);
        // An errno is counted after its call's latency: until they agree, some are still to come.
        let known: u64 = self.errors.values().sum();
        if moved || depth == Depth::Whole || known != self.failed.histogram().count {
            self.read_errors(blocks);
        }
        let ok = self.ok.as_mut().map(|ok| {
            ok.advance(blocks, depth);
            ok.histogram().clone()
        });
        let ok = ok.unwrap_or_else(|| Histogram::new(probe_common::bucket::LATENCY));
        (ok, self.failed.histogram().clone())
    }

    /// Add what the errno table counted since it was read last, two slots a word.
    fn read_errors(&mut self, blocks: &Mapping<Block>) {
        let mut now = vec![0u32; ERRNO_SLOTS];
        for cpu in 0..blocks.elements() {
            let words = blocks.words_of(cpu, self.table, ERRNO_SLOTS / 2);
            for (now, word) in now.as_chunks_mut::<2>().0.iter_mut().zip(words) {
                for (now, more) in now.iter_mut().zip(halves(word.load(Ordering::Relaxed))) {
                    *now = now.wrapping_add(more);
                }
            }
        }
        self.last.resize(ERRNO_SLOTS, 0);
        for (errno, (now, last)) in
            (0u32..).zip(now.iter().zip(&self.last)).filter(|(_, (now, last))| now != last)
        {
            *self.errors.entry(errno).or_default() += u64::from(now.wrapping_sub(*last));
        }
        self.last = now;
    }
}

/// Calls that returned are those in a distribution and those that are kept out of it by name.
fn returned(flow: &mut BTreeMap<String, Flow>, dispatch: &BTreeMap<String, Calls>, get_phys: Option<&Scans>) {
    for site in &SITES {
        let counted = match site.id {
            SiteId::Dispatch => dispatch.values().map(Calls::count).sum(),
            SiteId::GetPhys => get_phys.map_or(0, Scans::count),
        };
        if let Some(flow) = flow.get_mut(site.name) {
            flow.exited = counted + flow.backwards + flow.unread + flow.canary;
        }
    }
}
