//! The only bytes-to-types code: the counters of all CPUs, mapped, added up to a sample.
//!
//! Buckets are 32 bits wide in the kernel and wrap; the reader keeps 64-bit totals by adding up
//! differences. Counters are read word by word while programs run, so a call that ends during the
//! read may be in one counter and not yet in another; after the probes are detached a sample is exact.

use std::collections::BTreeMap;
use std::time::{Duration, Instant as Clock};

use probe_common::bucket::Scheme;
use probe_common::command;
use probe_common::dist::{Distribution, Summary};
use probe_common::site::SITES;
use probe_common::wire::{BLOCKS_MAP, Block, Stop};
use probe_model::histogram::Histogram;
use probe_model::loss::Flow;
use probe_model::sample::{Calls, Counters, Instant, Sample, Scans};
use rustix::time::{ClockId, clock_gettime};
use zerocopy::FromBytes as _;
use zerocopy::IntoBytes as _;

use super::SourceError;
use super::load::{Programs, possible_cpus};
use super::mapping::Mapping;
use super::misses::Misses;

/// The mapped counters and what was read of them last.
pub(super) struct Reader {
    blocks: Mapping<Block>,
    totals: Vec<Total>,
}

/// The buckets of one distribution over all CPUs.
struct Total {
    /// Sum of the kernel's counters as of the last sample, wrapping as they do.
    last: Vec<u32>,
    /// Sum since the beginning.
    buckets: Vec<u64>,
}

/// One distribution of one block.
type Part<'a> = (Scheme, &'a Summary, &'a [u32]);

impl Reader {
    pub(super) fn new(programs: &Programs) -> Result<Self, SourceError> {
        let blocks = Mapping::new(programs.array(BLOCKS_MAP)?, possible_cpus()?)?;
        Ok(Self { blocks, totals: Vec::new() })
    }

    pub(super) fn cpus(&self) -> u32 {
        u32::try_from(self.blocks.elements()).unwrap_or(u32::MAX)
    }

    /// Whether calls that begin from now on are counted. CPU by CPU: a call is counted or not, whole,
    /// by what stood at its entry.
    pub(super) fn arm(&self, armed: bool) {
        const { assert!(std::mem::offset_of!(Block, armed) == 0) };
        self.blocks.store_first_words(u64::from(armed));
    }

    /// Add up all CPUs.
    pub(super) fn sample(&mut self, misses: &[Misses], baseline: &[Misses]) -> Sample {
        let at = now();
        let copies = self.blocks.copy();
        let blocks = views(&copies);
        let parts: Vec<Vec<Part<'_>>> = blocks.iter().map(|block| distributions(block)).collect();
        let mut histograms = self.add_up(&parts).into_iter();
        let (dispatch, get_phys) = name_all(&mut histograms, &blocks);
        let flow = flows(&blocks, misses, baseline);
        Sample { at, counters: Counters { dispatch, get_phys, flow, ..Counters::default() } }
    }

    /// Wait until no counted call is open, at most `grace`.
    pub(super) fn drain(&self, grace: Duration) {
        let deadline = Clock::now() + grace;
        loop {
            let open = flows(&views(&self.blocks.copy()), &[], &[]).values().any(|flow| flow.open() > 0);
            if !open || Clock::now() >= deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(5).min(grace));
        }
    }

    /// Every distribution over all CPUs, in the order of [`distributions`].
    fn add_up(&mut self, cpus: &[Vec<Part<'_>>]) -> Vec<Histogram> {
        let first = cpus.first().map_or(&[][..], Vec::as_slice);
        if self.totals.is_empty() {
            self.totals = first.iter().map(|(scheme, ..)| Total::new(*scheme)).collect();
        }
        let add = |(place, total): (usize, &mut Total)| {
            let parts: Vec<Part<'_>> = cpus.iter().map(|cpu| cpu[place]).collect();
            total.advance(&parts);
            total.histogram(&parts)
        };
        self.totals.iter_mut().enumerate().map(add).collect()
    }
}

fn views(copies: &[Vec<u64>]) -> Vec<&Block> {
    // A copy is a block's size by construction, so none is left out.
    copies.iter().filter_map(|copy| Block::ref_from_bytes(copy.as_bytes()).ok()).collect()
}

impl Total {
    fn new(scheme: Scheme) -> Self {
        Self { last: vec![0; scheme.len()], buckets: vec![0; scheme.len()] }
    }

    fn advance(&mut self, parts: &[Part<'_>]) {
        for (index, (last, bucket)) in self.last.iter_mut().zip(&mut self.buckets).enumerate() {
            let sum = parts.iter().fold(0u32, |sum, (_, _, buckets)| sum.wrapping_add(buckets[index]));
            *bucket += u64::from(sum.wrapping_sub(*last));
            *last = sum;
        }
    }

    fn histogram(&self, parts: &[Part<'_>]) -> Histogram {
        let mut histogram = Histogram::new(parts[0].0);
        // The complement of a smallest value is 0 only where there is none: none is 2^64 - 1.
        for (_, summary, _) in parts.iter().filter(|(_, summary, _)| summary.min_complement > 0) {
            histogram.sum = histogram.sum.wrapping_add(summary.sum);
            histogram.saturated += summary.saturated;
            histogram.max = histogram.max.max(Some(summary.max));
            let min = !summary.min_complement;
            histogram.min = Some(histogram.min.map_or(min, |known| known.min(min)));
        }
        histogram.count = self.buckets.iter().sum::<u64>() + histogram.saturated;
        let filled = (0u32..).zip(&self.buckets).filter(|&(_, &count)| count > 0);
        histogram.buckets = filled.map(|(index, &count)| (index, count)).collect();
        histogram
    }
}

/// Every distribution of a block, in one fixed order; [`name_all`] takes them up in the same order.
fn distributions(block: &Block) -> Vec<Part<'_>> {
    fn part<D: Distribution>(distribution: &D) -> Part<'_> {
        let (summary, buckets) = distribution.parts();
        (D::SCHEME, summary, buckets)
    }
    let mut all = Vec::new();
    for command in &block.dispatch {
        all.extend([part(&command.ok), part(&command.failed)]);
    }
    let scans = &block.get_phys;
    all.extend(scans.ok.iter().map(part));
    all.push(part(&scans.failed));
    all.extend(scans.runs.iter().map(part));
    all
}

/// Histograms by name, empty ones left out.
fn name_all(
    histograms: &mut impl Iterator<Item = Histogram>,
    blocks: &[&Block],
) -> (BTreeMap<String, Calls>, Option<Scans>) {
    let mut dispatch = BTreeMap::new();
    for row in 0..command::ROWS {
        if let (Some(ok), Some(failed)) = (histograms.next(), histograms.next())
            && ok.count + failed.count > 0
        {
            let errors = errors(blocks.iter().map(|block| &block.dispatch[row].errno));
            let name = command::name_of(row).unwrap_or("UNKNOWN").to_owned();
            dispatch.insert(name, Calls { ok, failed, errors });
        }
    }
    let classes = histograms.by_ref().take(probe_common::wire::SCAN_CLASSES);
    let ok = (0u32..).zip(classes).filter(|(_, histogram)| !histogram.is_empty()).collect();
    let scans = histograms.next().map(|failed| {
        let runs = Stop::ALL.iter().zip(histograms);
        let runs = runs.map(|(stop, histogram)| (stop.name().to_owned(), histogram));
        let runs = runs.filter(|(_, histogram)| !histogram.is_empty()).collect();
        let pages = blocks.iter().map(|block| block.get_phys.pages).fold(0, u64::wrapping_add);
        Scans { ok, failed, errors: errors(blocks.iter().map(|block| &block.get_phys.errno)), pages, runs }
    });
    (dispatch, scans.filter(|scans| scans.count() > 0))
}

fn errors<'a, const N: usize>(cpus: impl Iterator<Item = &'a [u64; N]>) -> BTreeMap<u32, u64> {
    let mut errors = BTreeMap::new();
    for slots in cpus {
        for (errno, &count) in (0u32..).zip(slots).filter(|&(_, &count)| count > 0) {
            *errors.entry(errno).or_default() += count;
        }
    }
    errors
}

fn flows(blocks: &[&Block], misses: &[Misses], baseline: &[Misses]) -> BTreeMap<String, Flow> {
    let mut flows = BTreeMap::new();
    for (place, site) in SITES.iter().enumerate() {
        let now = misses.get(place).copied().unwrap_or_default();
        let before = baseline.get(place).copied().unwrap_or_default();
        let mut sum = Flow {
            entry_missed: now.entry.saturating_sub(before.entry),
            return_missed: now.exit.saturating_sub(before.exit),
            return_recursion: now.exit_recursion.saturating_sub(before.exit_recursion),
            session_missed: now.either.saturating_sub(before.either),
            ..Flow::default()
        };
        for flow in blocks.iter().map(|block| &block.flow[place]) {
            sum.append(&Flow {
                entered: flow.entered,
                exited: flow.exited,
                unmatched: flow.unmatched,
                unstored: flow.unstored,
                superseded: flow.superseded,
                backwards: flow.backwards,
                unread: flow.unread,
                unseen: flow.unseen,
                ..Flow::default()
            });
        }
        flows.insert(site.name.to_owned(), sum);
    }
    flows
}

/// Both clocks, now.
fn now() -> Instant {
    let read = |clock| {
        let time = clock_gettime(clock);
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
    };
    Instant { monotonic: read(ClockId::Monotonic), realtime: read(ClockId::Realtime) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made-up counters, not a kernel's.
    struct Cpu(Vec<u64>);

    impl Cpu {
        fn new() -> Self {
            Self(vec![0; size_of::<Block>() / size_of::<u64>()])
        }

        fn block(&mut self) -> &mut Block {
            Block::mut_from_bytes(self.0.as_mut_bytes()).unwrap()
        }
    }

    fn add_up(totals: &mut Vec<Total>, blocks: &[&Block]) -> (BTreeMap<String, Calls>, Option<Scans>) {
        let parts: Vec<_> = blocks.iter().map(|block| distributions(block)).collect();
        if totals.is_empty() {
            *totals = parts[0].iter().map(|(scheme, ..)| Total::new(*scheme)).collect();
        }
        let mut histograms = totals.iter_mut().enumerate().map(|(place, total)| {
            let parts: Vec<_> = parts.iter().map(|cpu| cpu[place]).collect();
            total.advance(&parts);
            total.histogram(&parts)
        });
        name_all(&mut histograms, blocks)
    }

    #[test]
    fn cpus_add_up_under_the_right_names() {
        let (mut a, mut b) = (Cpu::new(), Cpu::new());
        let (a, b) = (a.block(), b.block());
        a.dispatch[command::ROW_GET_PA].ok.record(700);
        b.dispatch[command::ROW_GET_PA].ok.record(90);
        b.dispatch[command::ROW_GET_PA].failed.record(50);
        b.dispatch[command::ROW_GET_PA].errno[22] += 1;
        a.get_phys.ok[9].record(5000);
        a.get_phys.pages += 512;
        a.get_phys.runs[Stop::Short as usize].record(2 << 20);
        let (dispatch, scans) = add_up(&mut Vec::new(), &[a, b]);
        let get_pa = &dispatch["IOAS_NOIOMMU_GET_PA"];
        assert_eq!(dispatch.len(), 1);
        assert_eq!(
            (get_pa.ok.count, get_pa.ok.sum, get_pa.ok.min, get_pa.ok.max),
            (2, 790, Some(90), Some(700))
        );
        assert_eq!((get_pa.failed.count, &get_pa.errors), (1, &[(22, 1)].into()));
        let scans = scans.unwrap();
        assert_eq!(scans.ok.keys().collect::<Vec<_>>(), [&9]);
        assert_eq!(scans.runs["short"].max, Some(2 << 20));
        assert_eq!((scans.failed.count, scans.pages), (0, 512));
    }

    #[test]
    fn buckets_are_counted_beyond_32_bits() {
        let mut cpu = Cpu::new();
        let cpu = cpu.block();
        let mut totals = Vec::new();
        let cell = command::ROW_GET_PA;
        cpu.dispatch[cell].ok.buckets[5] = u32::MAX;
        add_up(&mut totals, &[cpu]);
        cpu.dispatch[cell].ok.buckets[5] = 3;
        let (dispatch, _) = add_up(&mut totals, &[cpu]);
        assert_eq!(dispatch["IOAS_NOIOMMU_GET_PA"].ok.buckets[&5], u64::from(u32::MAX) + 4);
    }
}
