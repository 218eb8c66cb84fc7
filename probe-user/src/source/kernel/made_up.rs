//! Counters in memory of our own, counted in as the programs do: what the reader is tested and measured on.
//!
//! Made up: no kernel is asked. What the programs themselves count is shown in guests.

use std::mem::offset_of;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::Ordering;

use probe_common::bucket::Scheme;
use probe_common::command;
use probe_common::dist::{Distribution, FailedLatencies, Latencies, RunLengths, Summary};
use probe_common::site::{SITES, SiteId};
use probe_common::wire::{
    Block, CALLER_ROWS, CALLERS, Caller, CallerCell, CommandCell, Flow as Fates, SCAN_CLASSES, ScanCell,
    ScannerCell, Shared, Stop, errno_slot, scan_class,
};
use probe_model::sample::Sample;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::SourceError;
use super::attribution::Callers;
use super::mapping::Mapping;
use super::read::{Missed, Reader};
use super::totals::{Depth, halves};

/// Counters of so many CPUs, and their reader.
pub struct MadeUp {
    #[cfg(test)]
    memory: OwnedFd,
    /// Where they are counted; the reader has a mapping of its own.
    blocks: Mapping<Block>,
    reader: Reader,
}

/// One scan that found something.
#[derive(Debug, Clone, Copy)]
pub struct Scan {
    /// Its latency, ns.
    pub nanos: u64,
    /// Its length in pages of 4 KiB.
    pub pages: u64,
    /// Why it ended.
    pub stop: Stop,
}

impl MadeUp {
    /// Counters of `cpus` CPUs, all 0.
    pub fn new(cpus: u32) -> Result<Self, SourceError> {
        let memory = memory::<Block>(cpus)?;
        Ok(Self {
            blocks: Mapping::of(memory.as_fd(), cpus)?,
            reader: reader(&memory, cpus)?,
            #[cfg(test)]
            memory,
        })
    }

    /// A call of a command (its row), failed with an errno or not, by the caller in a slot.
    pub fn dispatch(&self, cpu: usize, row: usize, failed: Option<u32>, nanos: u64, slot: usize) {
        let cell = offset_of!(Block, dispatch) + row * size_of::<CommandCell>();
        match failed {
            None => self.record::<Latencies>(cpu, cell + offset_of!(CommandCell, ok), nanos),
            Some(errno) => {
                self.record::<FailedLatencies>(cpu, cell + offset_of!(CommandCell, failed), nanos);
                self.add_errno(cpu, cell + offset_of!(CommandCell, errno), errno, 1);
            }
        }
        self.entered(cpu, SiteId::Dispatch);
        let caller = CallerCell { calls: 1, failed: u64::from(failed.is_some()), nanos };
        self.called(cpu, offset_of!(Block, callers) + slot * size_of::<CallerCell>(), caller);
    }

    /// A scan, by the caller in a slot.
    pub fn scan(&self, cpu: usize, scan: Scan, slot: usize) {
        let (cell, run) = (offset_of!(Block, get_phys), scan.pages << 12);
        let class = scan_class(scan.pages) * size_of::<Latencies>();
        self.record::<Latencies>(cpu, cell + offset_of!(ScanCell, ok) + class, scan.nanos);
        let stop = scan.stop as usize * size_of::<RunLengths>();
        self.record::<RunLengths>(cpu, cell + offset_of!(ScanCell, runs) + stop, run);
        self.entered(cpu, SiteId::GetPhys);
        let row = offset_of!(Block, scanners) + slot * size_of::<ScannerCell>();
        self.called(cpu, row, CallerCell { calls: 1, failed: 0, nanos: scan.nanos });
        self.add(cpu, row + offset_of!(ScannerCell, pages), scan.pages);
        self.add(cpu, row + offset_of!(ScannerCell, bytes), run);
    }

    /// Count in every `nth` bucket from 128 ns to a second of every distribution of a CPU: what a day leaves
    /// behind.
    pub fn fill(&self, cpu: usize, nth: usize) {
        let every = |scheme: Scheme| {
            (scheme.index(1 << 7)..scheme.index(1 << 30)).step_by(nth).map(move |index| scheme.lowest(index))
        };
        for row in 0..command::ROWS {
            every(Latencies::SCHEME).for_each(|nanos| self.dispatch(cpu, row, None, nanos, 0));
            every(FailedLatencies::SCHEME).for_each(|nanos| self.dispatch(cpu, row, Some(22), nanos, 0));
        }
        for class in 0..SCAN_CLASSES {
            for nanos in every(Latencies::SCHEME) {
                let stop = Stop::ALL[class % Stop::COUNT];
                self.scan(cpu, Scan { nanos, pages: 1 << class, stop }, 1);
            }
        }
        for slot in 1..CALLERS {
            let call = CallerCell { calls: 1, failed: 0, nanos: 900 };
            self.called(cpu, offset_of!(Block, callers) + slot * size_of::<CallerCell>(), call);
            self.called(cpu, offset_of!(Block, scanners) + slot * size_of::<ScannerCell>(), call);
        }
    }

    /// Count in one bucket as if 2^32 - 1 calls had gone before.
    pub fn brink(&self, cpu: usize, row: usize, nanos: u64) {
        let at = offset_of!(Block, dispatch) + row * size_of::<CommandCell>() + offset_of!(CommandCell, ok);
        self.add_to_bucket::<Latencies>(cpu, at, nanos, u32::MAX);
    }

    /// Take a sample as the source does.
    pub fn read(&mut self) -> Sample {
        self.reader.sample(&NOTHING_MISSED, Depth::Changed)
    }

    fn entered(&self, cpu: usize, site: SiteId) {
        let fates = offset_of!(Block, flow) + site as usize * size_of::<Fates>();
        self.add(cpu, fates + offset_of!(Fates, entered), 1);
    }

    fn called(&self, cpu: usize, row: usize, call: CallerCell) {
        for (place, more) in [call.calls, call.failed, call.nanos].into_iter().enumerate() {
            self.add(cpu, row + place * size_of::<u64>(), more);
        }
    }

    /// The summary first, then the bucket, as [`Distribution::record`] does.
    fn record<D: Distribution>(&self, cpu: usize, at: usize, value: u64) {
        self.add(cpu, at + offset_of!(Summary, sum), value);
        self.raise(cpu, at + offset_of!(Summary, min_complement), !value);
        self.raise(cpu, at + offset_of!(Summary, max), value);
        self.add_to_bucket::<D>(cpu, at, value, 1);
    }

    fn add_to_bucket<D: Distribution>(&self, cpu: usize, at: usize, value: u64, more: u32) {
        let index = D::SCHEME.index(value);
        if index >= D::SCHEME.len() {
            return self.add(cpu, at + offset_of!(Summary, saturated), 1);
        }
        self.add_half(cpu, at + size_of::<Summary>(), index, more);
    }

    fn add_errno(&self, cpu: usize, table: usize, errno: u32, more: u32) {
        self.add_half(cpu, table, errno_slot(u64::from(errno)), more);
    }

    /// Count in a table of 32-bit counters.
    fn add_half(&self, cpu: usize, table: usize, index: usize, more: u32) {
        for word in self.blocks.words_of(cpu, table + index / 2 * size_of::<u64>(), 1) {
            let mut counts = halves(word.load(Ordering::Relaxed));
            counts[index % 2] = counts[index % 2].wrapping_add(more);
            word.store(zerocopy::transmute!(counts), Ordering::Relaxed);
        }
    }

    fn add(&self, cpu: usize, at: usize, more: u64) {
        for word in self.blocks.words_of(cpu, at, 1) {
            word.store(word.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        }
    }

    fn raise(&self, cpu: usize, at: usize, to: u64) {
        for word in self.blocks.words_of(cpu, at, 1) {
            word.store(word.load(Ordering::Relaxed).max(to), Ordering::Relaxed);
        }
    }
}

const NOTHING_MISSED: Missed<'_> = Missed { now: &[], baseline: &[], locks: 0 };

/// A reader of these blocks, and of a table of callers that has no room left.
fn reader(blocks: &OwnedFd, cpus: u32) -> Result<Reader, SourceError> {
    let rows = u32::try_from(CALLER_ROWS).unwrap_or(u32::MAX);
    let names = Mapping::<Caller>::of(memory::<Caller>(rows)?.as_fd(), rows)?;
    for row in 0..CALLER_ROWS {
        // Its first word: the process, and its IOAS.
        for word in names.words_of(row, 0, 1) {
            word.store(row as u64 | 1 << 32, Ordering::Relaxed);
        }
    }
    let shared = Mapping::<Shared>::of(memory::<Shared>(1)?.as_fd(), 1)?;
    for word in shared.words_of(0, offset_of!(Shared, slots), SITES.len()) {
        word.store(CALLERS as u64 - 1, Ordering::Relaxed);
    }
    Ok(Reader::over(Mapping::of(blocks.as_fd(), cpus)?, Callers { names, shared }, None))
}

/// Zeroed memory for `elements` elements, in pages as the kernel maps them: of 4 KiB.
fn memory<T>(elements: u32) -> Result<OwnedFd, SourceError> {
    let failed = |error: rustix::io::Errno| SourceError::Mmap(error.into());
    let memory = memfd_create("iovascope-made-up", MemfdFlags::CLOEXEC).map_err(failed)?;
    ftruncate(&memory, u64::from(elements) * size_of::<T>() as u64).map_err(failed)?;
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET_PA: &str = "IOAS_NOIOMMU_GET_PA";

    #[test]
    fn reading_on_says_what_reading_everything_says() {
        let mut made = MadeUp::new(3).unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..60 {
            for _ in 0..random.usize(0..4) {
                let (cpu, nanos, slot) =
                    (random.usize(0..3), random.u64(1..1 << 39), random.usize(0..CALLERS));
                match random.u8(0..3) {
                    0 => made.dispatch(cpu, random.usize(0..command::ROWS), None, nanos, slot),
                    1 => made.dispatch(cpu, random.usize(0..3), Some(random.u32(1..600)), nanos, slot),
                    _ => {
                        let stop = Stop::ALL[random.usize(0..Stop::COUNT)];
                        made.scan(cpu, Scan { nanos, pages: random.u64(1..1 << 17), stop }, slot);
                    }
                }
            }
            let on = made.read();
            let whole = reader(&made.memory, 3).unwrap().sample(&NOTHING_MISSED, Depth::Whole);
            assert_eq!(on.counters, whole.counters);
        }
    }

    #[test]
    fn a_bucket_that_wraps_in_the_kernel_goes_on_here() {
        let mut made = MadeUp::new(2).unwrap();
        made.dispatch(1, command::ROW_GET_PA, None, 700, 2);
        assert_eq!(made.read().counters.dispatch[GET_PA].ok.count, 1);
        made.brink(1, command::ROW_GET_PA, 700);
        assert_eq!(made.read().counters.dispatch[GET_PA].ok.count, 1 << 32);
        made.dispatch(1, command::ROW_GET_PA, None, 700, 2);
        assert_eq!(made.read().counters.dispatch[GET_PA].ok.count, 1 + (1 << 32));
    }

    #[test]
    fn what_stood_still_shares_its_counts() {
        let mut made = MadeUp::new(2).unwrap();
        made.dispatch(0, command::ROW_GET_PA, None, 700, 2);
        made.dispatch(0, 0, None, 700, 2);
        let before = made.read();
        made.dispatch(1, 0, None, 700, 2);
        let after = made.read();
        let shared = |name: &str| {
            let [before, after] = [&before, &after].map(|sample| &sample.counters.dispatch[name].ok.buckets);
            before.is_shared_with(after)
        };
        assert!(shared(GET_PA));
        assert!(!shared("DESTROY"));
    }

    #[test]
    fn an_errno_that_is_counted_after_its_latency_is_read_when_it_comes() {
        let mut made = MadeUp::new(2).unwrap();
        let cell = offset_of!(Block, dispatch) + offset_of!(CommandCell, failed);
        made.record::<FailedLatencies>(1, cell, 700);
        assert_eq!(made.read().counters.dispatch["DESTROY"].errors, [].into());
        // However long it takes.
        assert_eq!(made.read().counters.dispatch["DESTROY"].errors, [].into());
        assert_eq!(made.read().counters.dispatch["DESTROY"].errors, [].into());
        made.add_errno(1, offset_of!(Block, dispatch) + offset_of!(CommandCell, errno), 22, 1);
        assert_eq!(made.read().counters.dispatch["DESTROY"].errors, [(22, 1)].into());
    }

    #[test]
    fn an_errno_that_wraps_in_the_kernel_goes_on_here() {
        let mut made = MadeUp::new(2).unwrap();
        let table = offset_of!(Block, dispatch) + offset_of!(CommandCell, errno);
        let mut errnos = |more, cpu| {
            made.dispatch(cpu, 0, Some(22), 700, 2);
            made.add_errno(cpu, table, 22, more);
            made.read().counters.dispatch["DESTROY"].errors.clone()
        };
        assert_eq!(errnos(u32::MAX - 1, 0), [(22, u64::from(u32::MAX))].into());
        assert_eq!(errnos(0, 1), [(22, 1 << 32)].into());
        assert_eq!(errnos(9, 0), [(22, (1 << 32) + 10)].into());
    }
}
