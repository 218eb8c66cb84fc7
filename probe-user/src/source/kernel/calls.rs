//! Single calls out of the ring buffer.

use aya::maps::{MapData, RingBuf};
use probe_common::command;
use probe_common::site::{SITES, SiteId};
use probe_common::wire::{CallRecord, Stop};
use probe_model::call::{Call, What};
use zerocopy::FromBytes as _;

/// The ring and how many calls came out of it.
pub(super) struct Ring {
    records: RingBuf<MapData>,
    length_is_cap: bool,
    include_iova: bool,
    pub(super) kept: u64,
}

impl Ring {
    pub(super) fn new(records: RingBuf<MapData>, length_is_cap: bool, include_iova: bool) -> Self {
        Self { records, length_is_cap, include_iova, kept: 0 }
    }

    /// Everything that is in it, in the order in which calls returned (of different CPUs: nearly).
    pub(super) fn drain(&mut self) -> Vec<Call> {
        let mut records = Vec::new();
        while let Some(item) = self.records.next() {
            records.extend(CallRecord::read_from_bytes(&item));
        }
        let calls: Vec<Call> = records.iter().map(|record| self.call(record)).collect();
        self.kept += calls.len() as u64;
        calls
    }

    fn call(&self, record: &CallRecord) -> Call {
        let is_ok = record.errno == 0;
        let what = if record.site == SiteId::Dispatch as u32 {
            What::Dispatch { command: command::name_of(record.kind as usize).unwrap_or("UNKNOWN").to_owned() }
        } else {
            debug_assert!((record.site as usize) < SITES.len());
            let stop = Stop::ALL.get(record.kind as usize).map(|stop| stop.name().to_owned());
            What::GetPhys {
                iova: self.include_iova.then_some(record.iova),
                cap: (self.length_is_cap && record.cap != u64::MAX).then_some(record.cap),
                run: is_ok.then_some(record.run),
                pages: is_ok.then_some(record.pages),
                stop: stop.filter(|_| is_ok),
            }
        };
        let half = |word: u64| u32::try_from(word & 0xffff_ffff).unwrap_or(0);
        Call {
            at: record.at,
            nanos: record.nanos,
            pid: half(record.thread >> 32),
            tid: half(record.thread),
            cpu: record.cpu,
            comm: record.comm.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
            errno: record.errno,
            slow: record.slow != 0,
            what,
        }
    }
}
