//! From the embedded object to maps, constants, and programs that backends may load.

use std::num::NonZeroU64;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::{fs, io};

use aya::maps::{Map, MapData, RingBuf};
use aya::programs::KProbe;
use aya::{Ebpf, EbpfLoader};
use probe_common::constant::Constant;
use probe_common::site::{Backend, Site, SiteId};
use probe_common::wire::{
    self, CALLS_MAP, DispatchOpen, GetPhysOpen, LOCK_BLOCKS_MAP, OPEN_SLOTS, WAITS_MAP,
};

use super::mapping::Mapping;
use super::object::{Purpose, Tailored};
use super::types::Types;
use super::{Config, LogLevel, Logs, SourceError};

/// Bytes of the ring of single calls: ten thousand of them.
const RING: u32 = 1 << 20;

/// The object: its maps are made, its programs not yet loaded.
pub(super) struct Programs {
    ebpf: Ebpf,
    logs: LogLevel,
    object: Tailored,
    types: Option<Types>,
}

pub(super) fn load(config: &Config) -> Result<Programs, SourceError> {
    load_for(Purpose::Recording, config)
}

pub(super) fn load_for(purpose: Purpose, config: &Config) -> Result<Programs, SourceError> {
    let cpus = possible_cpus()?;
    let types = match (Types::read(config.module), config.backend) {
        (Ok(types), _) => Some(types),
        // It works without, and then knows less about short scans and numbers of IOASes.
        (Err(_), Backend::Kprobe) if !config.locks => None,
        (Err(error), _) => return Err(error),
    };
    let object = Tailored::new(purpose, &constants(config, cpus, types.as_ref())?, cpus)?;
    let log_level = config.logs.wire();
    let mut loader = EbpfLoader::new();
    // The kernel's types are not needed by aya: offsets are constants of ours.
    loader.btf(None).override_global(aya_log::LEVEL, &log_level, true);
    if config.calls.is_some() {
        loader.map_max_entries(CALLS_MAP, RING);
    }
    if config.locks {
        loader.map_max_entries(WAITS_MAP, OPEN_SLOTS).map_max_entries(LOCK_BLOCKS_MAP, cpus);
    }
    let ebpf = loader.load(object.bytes()).map_err(|error| SourceError::Load(Box::new(error)))?;
    Ok(Programs { ebpf, logs: config.logs, object, types })
}

fn constants(config: &Config, cpus: u32, types: Option<&Types>) -> Result<Vec<(Constant, u64)>, SourceError> {
    let page = rustix::param::page_size() as u64;
    let mut constants = types.map(Types::offsets).transpose()?.unwrap_or_default();
    let knows_areas = constants.iter().any(|(constant, _)| *constant == Constant::HasAreas);
    if config.locks && !knows_areas {
        return Err(SourceError::NotInBtf { function: "io_pagetable.iova_rwsem" });
    }
    constants.extend([
        (Constant::PageShift, u64::from(page.ilog2())),
        (Constant::PageMask, page - 1),
        (Constant::LengthIsCap, u64::from(config.length_is_cap)),
        (Constant::Cpus, u64::from(cpus)),
        (Constant::CanaryThread, u64::from(config.canary_thread)),
        (Constant::Locks, u64::from(config.locks)),
    ]);
    if let Some(calls) = config.calls {
        constants.extend([
            (Constant::CallsEvery, calls.every.map_or(0, |every| u64::from(every.get()))),
            (Constant::CallsSlower, calls.slower.map_or(0, NonZeroU64::get)),
            (Constant::IncludeIova, u64::from(calls.include_iova)),
        ]);
    }
    Ok(constants)
}

/// Possible CPUs, numbers that are left out among them counted too: the kernel's `nr_cpu_ids`. They index
/// the blocks, and CPUs may come online later.
pub(super) fn possible_cpus() -> Result<u32, SourceError> {
    let path = Path::new("/sys/devices/system/cpu/possible");
    let failed = |source| SourceError::File { path: path.to_owned(), source };
    let text = fs::read_to_string(path).map_err(failed)?;
    // Such as `0-3,8-11`.
    let last = text.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<u32>().ok());
    last.map(|last| last + 1).ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidData, text)))
}

impl Programs {
    pub(super) fn kprobe(&mut self, name: &str) -> Result<&mut KProbe, SourceError> {
        self.ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| SourceError::Missing { kind: "kprobe program", name: name.to_owned() })
    }

    /// The object that the maps were made of.
    pub(super) fn object(&self) -> &[u8] {
        self.object.bytes()
    }

    /// The kernel's types, where they can be read.
    pub(super) fn types(&self) -> Option<&Types> {
        self.types.as_ref()
    }

    /// A ring of calls; at most once.
    pub(super) fn take_ring(&mut self, name: &'static str) -> Result<RingBuf<MapData>, SourceError> {
        let map = self.ebpf.take_map(name);
        let missing = || SourceError::Missing { kind: "ring buffer", name: name.to_owned() };
        RingBuf::try_from(map.ok_or_else(missing)?)
            .map_err(|source| SourceError::Map { map: name, source: Box::new(source) })
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
