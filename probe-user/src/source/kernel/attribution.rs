//! The table of callers: who has which slot, and what was counted in it.

use std::collections::BTreeMap;

use probe_common::site::{SITES, SiteId};
use probe_common::wire::{Block, CALLERS, Caller, CallerCell, Shared};
use probe_model::attribution::{Row, Who};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::mapping::Mapping;

/// The maps of the table that user space reads; kernel pointers are in another one.
pub(super) struct Callers {
    pub(super) names: Mapping<Caller>,
    pub(super) shared: Mapping<Shared>,
}

impl Callers {
    /// Rows with calls, by slot.
    pub(super) fn rows(&self, blocks: &Mapping<Block>) -> BTreeMap<u32, Row> {
        let shared: Shared = self.shared.part(0, 0);
        let given = usize::try_from(shared.slots).unwrap_or(CALLERS);
        let slots = CALLERS.min(SITES.len() + given);
        let mut rows = BTreeMap::new();
        for (slot, cell) in sums(blocks, slots).into_iter().enumerate() {
            if cell.calls == 0 {
                continue;
            }
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            let (who, site) = match SITES.get(slot as usize) {
                Some(site) => (None, site.name),
                None => self.name(slot as usize),
            };
            let counted = Row {
                who,
                site: site.to_owned(),
                calls: cell.calls,
                failed: cell.failed,
                nanos: cell.nanos,
                pages: cell.pages,
                bytes: cell.bytes,
            };
            rows.insert(slot, counted);
        }
        rows
    }

    fn name(&self, slot: usize) -> (Option<Who>, &'static str) {
        let Caller { tgid, ioas, site, comm, .. } = self.names.part(slot, 0);
        let comm = comm.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        let site = SITES.get(site as usize).map_or("", |site| site.name);
        (Some(Who { pid: tgid, comm, ioas: (ioas > 0).then_some(ioas) }), site)
    }
}

/// Pages that the returned runs touch, over all rows: every scan is in one.
pub(super) fn pages(rows: &BTreeMap<u32, Row>) -> u64 {
    let site = SiteId::GetPhys.row().name;
    rows.values().filter(|row| row.site == site).map(|row| row.pages).fold(0, u64::wrapping_add)
}

/// The cells of the first `slots` slots over all CPUs.
fn sums(blocks: &Mapping<Block>, slots: usize) -> Vec<CallerCell> {
    let mut sums = vec![CallerCell::default(); slots];
    let mut words = vec![0; slots * size_of::<CallerCell>() / size_of::<u64>()];
    for cpu in 0..blocks.elements() {
        blocks.read(cpu, std::mem::offset_of!(Block, callers), &mut words);
        let Ok(cells) = <[CallerCell]>::ref_from_bytes(words.as_bytes()) else { continue };
        for (sum, cell) in sums.iter_mut().zip(cells) {
            sum.calls = sum.calls.wrapping_add(cell.calls);
            sum.failed = sum.failed.wrapping_add(cell.failed);
            sum.nanos = sum.nanos.wrapping_add(cell.nanos);
            sum.pages = sum.pages.wrapping_add(cell.pages);
            sum.bytes = sum.bytes.wrapping_add(cell.bytes);
        }
    }
    sums
}
