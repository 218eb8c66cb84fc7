//! Programs that we load ourselves: trampolines, kprobe sessions, tracepoints of lock waits.
//!
//! aya 0.14 cannot name a module's function, does not know sessions, and has no calls of kernel
//! functions. So it makes the maps and constants, and everything about these programs is done here:
//! aya-obj relocates them against aya's maps, our numbers of kernel functions become the kernel's BTF
//! ids, the placeholder of the blocks becomes their address, and `bpf.rs` loads and links.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use aya_obj::Object;
use aya_obj::generated::{
    BPF_CALL, BPF_DW, BPF_IMM, BPF_JMP, BPF_LD, BPF_PSEUDO_KFUNC_CALL, BPF_PSEUDO_MAP_VALUE, bpf_insn,
};
use probe_common::constant::BLOCKS_PLACEHOLDER;
use probe_common::kfunc::{KFUNCS, Kfunc};
use probe_common::site::{SITES, Site};
use probe_common::wire::BLOCKS_MAP;

use super::super::bpf::{self, AttachType, Place, Rejected};
use super::super::objects;
use super::super::types::Types;
use super::super::verifier::Refused;
use super::super::{Programs, SourceError};
use crate::btf::Btf;

/// The object with everything in place, and the kernel's ids for it.
pub(in super::super) struct Loader {
    object: Object,
    kfuncs: BTreeMap<&'static str, u32>,
    functions: Option<Functions>,
}

/// The sites as the kernel's types number them.
struct Functions {
    /// BTF of the module that holds the sites; `None` when they are built in.
    module: Option<OwnedFd>,
    ids: BTreeMap<&'static str, u32>,
}

impl Loader {
    /// For programs that are loaded for a function, which the kernel wants by its id.
    pub(super) fn for_functions(programs: &Programs, module: Option<&str>) -> Result<Self, SourceError> {
        let functions = Some(Functions::look(types(programs)?, module)?);
        Ok(Self { functions, ..Self::new(programs)? })
    }

    /// For programs that meet their function only when they are attached.
    pub(in super::super) fn new(programs: &Programs) -> Result<Self, SourceError> {
        let (path, kernel) = types(programs)?.kernel()?;
        let kfuncs = functions(path, kernel, None, &KFUNCS.map(|kfunc| kfunc.name))?;
        Ok(Self { object: relocated(programs)?, kfuncs, functions: None })
    }

    /// Load a program of a site.
    pub(super) fn load(
        &self,
        site: &Site,
        attach: AttachType,
        name: &'static str,
    ) -> Result<OwnedFd, SourceError> {
        self.load_at(self.place(site)?, attach, name)
    }

    /// Load a program of a tracepoint.
    pub(in super::super) fn load_tracepoint(&self, name: &'static str) -> Result<OwnedFd, SourceError> {
        self.load_at(None, AttachType::RawTracepoint, name)
    }

    /// The place of a site's function, where programs are loaded for one.
    pub(super) fn place(&self, site: &Site) -> Result<Option<Place<'_>>, SourceError> {
        self.functions.as_ref().map(|functions| functions.place(site)).transpose()
    }

    /// Load a program, one of a trampoline for this place.
    pub(super) fn load_at(
        &self,
        place: Option<Place<'_>>,
        attach: AttachType,
        name: &'static str,
    ) -> Result<OwnedFd, SourceError> {
        let missing = || SourceError::Missing { kind: "program", name: name.to_owned() };
        let program = self.object.programs.get(name).ok_or_else(missing)?;
        let mut instructions =
            self.object.functions.get(&program.function_key()).ok_or_else(missing)?.instructions.clone();
        for instruction in &mut instructions {
            self.name_kfunc(instruction)?;
        }
        bpf::load(name, &self.object.license, &instructions, attach, place)
            .map_err(|rejected| explained(attach, name, rejected))
    }

    /// Give a call of a kernel function the kernel's own id.
    fn name_kfunc(&self, instruction: &mut bpf_insn) -> Result<(), SourceError> {
        let Some(kfunc) = kfunc_of(*instruction) else { return Ok(()) };
        let not_there = || SourceError::NotInBtf { function: kfunc.name };
        let id = *self.kfuncs.get(kfunc.name).ok_or_else(not_there)?;
        // Kernels have fewer than 2^20 types (BTF_MAX_TYPE).
        instruction.imm = i32::try_from(id).map_err(|_| not_there())?;
        instruction.set_src_reg(BPF_PSEUDO_KFUNC_CALL.to_le_bytes()[0]);
        Ok(())
    }
}

/// The verifier takes `bpf_rdonly_cast` to void, by which programs of sessions over the function graph tracer read the
/// kernel's memory, since Linux 6.17 (kernel/bpf/verifier.c); before, its type must be a structure.
fn explained(attach: AttachType, program: &'static str, rejected: Rejected) -> SourceError {
    if attach == AttachType::KprobeSession && rejected.log.contains("bpf_rdonly_cast") {
        return SourceError::OldSession(Box::new(rejected.error));
    }
    let refused = Refused::new(program, rejected.error, &rejected.log);
    SourceError::Program { program, source: Box::new(refused) }
}

/// The kernel function that an instruction calls by our number.
fn kfunc_of(instruction: bpf_insn) -> Option<&'static Kfunc> {
    let is_helper_call = u32::from(instruction.code) == BPF_JMP | BPF_CALL && instruction.src_reg() == 0;
    KFUNCS.iter().find(|kfunc| is_helper_call && kfunc.number == instruction.imm)
}

impl Functions {
    fn look(types: &Types, module: Option<&str>) -> Result<Self, SourceError> {
        let (kernel_path, kernel) = types.kernel()?;
        let sites = SITES.map(|site| site.symbol);
        let (Some(name), Some((path, split))) = (module, types.module()?) else {
            return Ok(Self { module: None, ids: functions(kernel_path, kernel, None, &sites)? });
        };
        let no_object = || SourceError::NoModuleBtf { module: name.to_owned() };
        Ok(Self {
            module: Some(objects::module_btf(name).map_err(SourceError::BtfObjects)?.ok_or_else(no_object)?),
            ids: functions(path, split, Some(&kernel), &sites)?,
        })
    }

    fn place(&self, site: &Site) -> Result<Place<'_>, SourceError> {
        let not_there = || SourceError::NotInBtf { function: site.symbol };
        let function = *self.ids.get(site.symbol).ok_or_else(not_there)?;
        Ok(Place { module: self.module.as_ref().map(OwnedFd::as_fd), function })
    }
}

/// The place of a function of the kernel itself.
pub(super) fn place_in_kernel(
    programs: &Programs,
    function: &'static str,
) -> Result<Place<'static>, SourceError> {
    let (path, kernel) = types(programs)?.kernel()?;
    let ids = functions(path, kernel, None, &[function])?;
    let id = ids.get(function).ok_or(SourceError::NotInBtf { function })?;
    Ok(Place { module: None, function: *id })
}

fn types(programs: &Programs) -> Result<&Types, SourceError> {
    programs.types().ok_or(SourceError::NotInBtf { function: SITES[0].symbol })
}

fn functions(
    path: &Path,
    btf: Btf<'_>,
    base: Option<&Btf<'_>>,
    wanted: &[&'static str],
) -> Result<BTreeMap<&'static str, u32>, SourceError> {
    btf.functions(base, wanted).map_err(|source| SourceError::Btf { path: path.to_owned(), source })
}

/// The embedded object with aya's maps in its instructions.
fn relocated(programs: &Programs) -> Result<Object, SourceError> {
    fn failed<E: std::error::Error + Send + Sync + 'static>(error: E) -> SourceError {
        SourceError::Relocate(Box::new(error))
    }
    let mut object = Object::parse(programs.object()).map_err(failed)?;
    let maps = std::mem::take(&mut object.maps);
    let mut placed = Vec::with_capacity(maps.len());
    for (name, map) in &maps {
        placed.push((name.as_str(), programs.map_fd(name)?.as_raw_fd(), map));
    }
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_maps(placed.into_iter(), &sections).map_err(failed)?;
    object.relocate_calls(&sections).map_err(failed)?;
    let blocks = programs.map_fd(BLOCKS_MAP)?.as_raw_fd();
    for function in object.functions.values_mut() {
        place_blocks(&mut function.instructions, blocks);
    }
    Ok(object)
}

/// Put the address of the first block over its placeholder.
fn place_blocks(instructions: &mut [bpf_insn], map: i32) {
    for place in 1..instructions.len() {
        let (low, high) = (instructions[place - 1], instructions[place]);
        let is_load = u32::from(low.code) == BPF_LD | BPF_IMM | BPF_DW && low.src_reg() == 0;
        let half = |immediate: i32| u64::from(immediate.cast_unsigned());
        if is_load && half(low.imm) | half(high.imm) << 32 == BLOCKS_PLACEHOLDER {
            instructions[place - 1].set_src_reg(BPF_PSEUDO_MAP_VALUE.to_le_bytes()[0]);
            instructions[place - 1].imm = map;
            // The place in the value.
            instructions[place].imm = 0;
        }
    }
}
