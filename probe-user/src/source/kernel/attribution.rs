//! The tables of callers: who has which row, and what was counted in it.

use std::collections::{BTreeMap, HashMap};
use std::mem::offset_of;

use probe_common::site::{SITES, Site, SiteId};
use probe_common::wire::{
    Block, CALLERS, Caller, CallerCell, LastCaller, NamedBy, ScannerCell, Shared, caller_row,
};
use probe_model::attribution::{Row, Who};
use zerocopy::{FromBytes, Immutable, IntoBytes as _};

use super::mapping::Mapping;

/// The maps of the tables that user space reads; kernel pointers are in another one.
pub(super) struct Callers {
    pub(super) names: Mapping<Caller>,
    pub(super) shared: Mapping<Shared>,
}

impl Callers {
    /// Rows with calls, by their place among the rows of all sites.
    pub(super) fn rows(&self, blocks: &Mapping<Block>) -> BTreeMap<u32, Row> {
        let mut counted = Vec::new();
        for site in &SITES {
            let slots = 0..self.used(site);
            let cells: Vec<ScannerCell> = match site.id {
                SiteId::Dispatch => sums(blocks, offset_of!(Block, callers), slots.end)
                    .into_iter()
                    .map(|calls| ScannerCell { calls, ..ScannerCell::default() })
                    .collect(),
                SiteId::GetPhys => sums(blocks, offset_of!(Block, scanners), slots.end),
            };
            let cells = slots.zip(cells).filter(|(_, cell)| cell.calls.calls > 0);
            counted.extend(cells.map(|(slot, cell)| (site, slot, cell)));
        }
        let callers: Vec<Option<Caller>> = counted
            .iter()
            .map(|(site, slot, _)| {
                (*slot > 0).then(|| self.names.part(caller_row(site.id as usize, *slot), 0))
            })
            .collect();
        let names = newest_names(callers.iter().flatten());
        let who = |caller: Caller| Who {
            pid: caller.tgid,
            comm: names.get(&process(&caller)).map_or_else(Vec::new, comm),
            ioas: (caller.ioas > 0).then_some(caller.ioas),
            is_threads_name: names.get(&process(&caller)).is_some_and(is_threads_name),
            started: (caller.started > 0).then_some(caller.started),
        };
        let row = |((site, slot, cell), caller): ((&Site, usize, ScannerCell), Option<Caller>)| {
            let ScannerCell { calls: CallerCell { calls, failed, nanos }, pages, bytes } = cell;
            let place = u32::try_from(caller_row(site.id as usize, slot)).unwrap_or(u32::MAX);
            let who = caller.map(who);
            (place, Row { who, site: site.name.to_owned(), calls, failed, nanos, pages, bytes })
        };
        counted.into_iter().zip(callers).map(row).collect()
    }

    /// Let the programs look every caller up again when it calls next, and so its name.
    pub(super) fn look_again(blocks: &Mapping<Block>) {
        for cpu in 0..blocks.elements() {
            for site in 0..SITES.len() {
                let last = offset_of!(Block, last) + site * size_of::<LastCaller>();
                blocks.store_half(cpu, last + offset_of!(LastCaller, tgid), 0);
            }
        }
    }

    /// Slots of a site that somebody has, the first one among them.
    fn used(&self, site: &Site) -> usize {
        let shared: Shared = self.shared.part(0, 0);
        let given = usize::try_from(shared.slots[site.id as usize]).unwrap_or(CALLERS);
        CALLERS.min(given.saturating_add(1))
    }
}

/// What makes a process one, whatever it is called.
fn process(caller: &Caller) -> (u32, u64) {
    (caller.tgid, caller.started)
}

/// Of each process the row whose name was looked up last: its rows are of different sites and times, and
/// it has one name.
fn newest_names<'a>(callers: impl Iterator<Item = &'a Caller>) -> HashMap<(u32, u64), Caller> {
    let mut newest: HashMap<(u32, u64), Caller> = HashMap::new();
    for caller in callers {
        let known = newest.entry(process(caller)).or_insert(*caller);
        if known.named_at < caller.named_at {
            *known = *caller;
        }
    }
    newest
}

fn comm(caller: &Caller) -> Vec<u8> {
    caller.comm.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

fn is_threads_name(caller: &Caller) -> bool {
    caller.named_by == NamedBy::Thread as u32
}

/// Pages that the returned runs touch, over all rows: every scan is in one.
pub(super) fn pages(rows: &BTreeMap<u32, Row>) -> u64 {
    let site = SiteId::GetPhys.row().name;
    rows.values().filter(|row| row.site == site).map(|row| row.pages).fold(0, u64::wrapping_add)
}

/// The first `slots` cells of a table at a byte offset, over all CPUs. A cell is 64-bit counters.
fn sums<T: FromBytes + Immutable + Copy>(blocks: &Mapping<Block>, table: usize, slots: usize) -> Vec<T> {
    let words = slots * size_of::<T>() / size_of::<u64>();
    let mut sums = vec![0u64; words];
    for cpu in 0..blocks.elements() {
        for (sum, word) in sums.iter_mut().zip(blocks.words_of(cpu, table, words)) {
            *sum = sum.wrapping_add(word.load(std::sync::atomic::Ordering::Relaxed));
        }
    }
    <[T]>::ref_from_bytes(sums.as_bytes()).map(<[T]>::to_vec).unwrap_or_default()
}
