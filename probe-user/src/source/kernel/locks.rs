//! Lock waits: the blocks of the tracepoints' programs, added up under names.

use std::mem::offset_of;

use probe_common::command;
use probe_common::dist::{FailedLatencies, Latencies};
use probe_common::wire::LockBlock;
use probe_model::lock::Locks;

use super::mapping::Mapping;
use super::totals::{Depth, Total};

/// The parts of a `get_phys` call's latency: the names that users see, and where they are counted.
const PARTS: [(&str, usize); 3] = [
    ("iova_rwsem", offset_of!(LockBlock, rwsem)),
    ("pages_mutex", offset_of!(LockBlock, mutex)),
    ("scanning", offset_of!(LockBlock, scanning)),
];

pub(super) struct LockReader {
    blocks: Mapping<LockBlock>,
    parts: Vec<Total>,
    commands: Vec<Total>,
}

impl LockReader {
    pub(super) fn new(blocks: Mapping<LockBlock>) -> Self {
        let command = |row| offset_of!(LockBlock, commands) + row * size_of::<FailedLatencies>();
        Self {
            blocks,
            parts: PARTS.iter().map(|(_, offset)| Total::at::<Latencies>(*offset)).collect(),
            commands: (0..command::ROWS).map(|row| Total::at::<FailedLatencies>(command(row))).collect(),
        }
    }

    /// `missed`: runs of the tracepoints' programs that the kernel refused.
    pub(super) fn read(&mut self, depth: Depth, missed: u64) -> Locks {
        let mut locks = Locks { missed, ..Locks::default() };
        for ((name, _), total) in PARTS.iter().zip(&mut self.parts) {
            total.advance(&self.blocks, depth);
            let histogram = total.histogram();
            if !histogram.is_empty() {
                locks.get_phys.insert((*name).to_owned(), histogram.clone());
            }
        }
        for (row, total) in self.commands.iter_mut().enumerate() {
            total.advance(&self.blocks, depth);
            let histogram = total.histogram();
            if let (false, Some(name)) = (histogram.is_empty(), command::name_of(row)) {
                locks.commands.insert(name.to_owned(), histogram.clone());
            }
        }
        for cpu in 0..self.blocks.elements() {
            let [unended, unstored]: [u64; 2] = self.blocks.part(cpu, offset_of!(LockBlock, unended));
            locks.unended += unended;
            locks.unstored += unstored;
        }
        locks
    }
}
