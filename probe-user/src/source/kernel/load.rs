//! From the embedded object to maps, constants, and programs that backends may load.

use std::os::fd::{AsFd as _, BorrowedFd};

use aya::maps::{Map, MapData};
use aya::programs::KProbe;
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use probe_common::site::{Site, SiteId};
use probe_common::wire::{self, BLOCKS_MAP, DispatchOpen, GetPhysOpen, OPEN_SLOTS};

use super::mapping::Mapping;
use super::{Config, LogLevel, Logs, SourceError};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/iovascope.bpf.o"));

/// The BPF object inside this binary; empty when it was built without one.
pub fn object() -> &'static [u8] {
    OBJECT
}

/// The object: its maps are made, its programs not yet loaded.
pub(super) struct Programs {
    ebpf: Ebpf,
    logs: LogLevel,
}

pub(super) fn load(config: &Config) -> Result<Programs, SourceError> {
    if OBJECT.is_empty() {
        return Err(SourceError::NoObject);
    }
    let page_shift = u8::try_from(rustix::param::page_size().ilog2()).unwrap_or(u8::MAX);
    let length_is_cap = u8::from(config.length_is_cap);
    let log_level = config.logs.wire();
    let ebpf = EbpfLoader::new()
        // The kernel's types are not needed: no field of a kernel structure is read.
        .btf(None)
        .override_global(wire::PAGE_SHIFT_GLOBAL, &page_shift, true)
        .override_global(wire::LENGTH_IS_CAP_GLOBAL, &length_is_cap, true)
        .override_global(aya_log::LEVEL, &log_level, true)
        .map_max_entries(BLOCKS_MAP, possible_cpus()?)
        .load(OBJECT)
        .map_err(|error| SourceError::Load(Box::new(error)))?;
    Ok(Programs { ebpf, logs: config.logs })
}

/// Possible CPUs index the blocks: CPU numbers may have gaps, and CPUs may come online later.
pub(super) fn possible_cpus() -> Result<u32, SourceError> {
    let count =
        aya::util::nr_cpus().map_err(|(path, source)| SourceError::File { path: path.into(), source })?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

impl Programs {
    pub(super) fn kprobe(&mut self, name: &str) -> Result<&mut KProbe, SourceError> {
        self.ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| SourceError::Missing { kind: "kprobe program", name: name.to_owned() })
    }

    /// A map of the object, constants and aya-log's own among them.
    pub(super) fn map_fd(&self, name: &str) -> Result<BorrowedFd<'_>, SourceError> {
        match self.ebpf.map(name) {
            Some(Map::Array(data) | Map::HashMap(data) | Map::RingBuf(data)) => Ok(data.fd().as_fd()),
            _ => Err(SourceError::Missing { kind: "map", name: name.to_owned() }),
        }
    }

    /// An array that can be mapped into memory.
    pub(super) fn array(&self, name: &str) -> Result<&MapData, SourceError> {
        match self.ebpf.map(name) {
            Some(Map::Array(data)) => Ok(data),
            _ => Err(SourceError::Missing { kind: "array", name: name.to_owned() }),
        }
    }

    /// Calls in a site's table of open calls, counted one by one.
    pub(super) fn open_calls(&self, site: &Site) -> Result<u64, SourceError> {
        let table = self.array(site.open_map)?;
        // A slot begins with its owner, and a free one has none.
        const { assert!(wire::FREE == 0) };
        Ok(match site.id {
            SiteId::Dispatch => Mapping::<DispatchOpen>::new(table, OPEN_SLOTS)?.count_first_words(),
            SiteId::GetPhys => Mapping::<GetPhysOpen>::new(table, OPEN_SLOTS)?.count_first_words(),
        })
    }

    /// A reader of the BPF side's diagnostics; only when they were asked for.
    pub(super) fn logs(&mut self) -> Result<Option<Logs>, SourceError> {
        match self.logs {
            LogLevel::Off => Ok(None),
            LogLevel::Trace => Logs::new(&mut self.ebpf).map(Some),
        }
    }
}
