//! By the trampolines of fentry, fexit and fsession, also in modules.
//!
//! aya 0.14 cannot name a module's function, does not know fsession, and has no calls of kernel
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
use probe_common::kfunc::KFUNCS;
use probe_common::site::{Backend, SITES, Site};
use probe_common::wire::BLOCKS_MAP;

use super::super::bpf::{self, AttachType, Target};
use super::super::misses::{self, Misses, RunTime, recursion_misses};
use super::super::types::Types;
use super::super::{Config, Programs, SourceError};
use crate::btf::Btf;

/// Attempts to attach two programs with nothing in between.
const ATTEMPTS: u32 = 4;

/// The programs of all sites.
pub(in super::super) struct Trampolines(Vec<SitePrograms>);

struct SitePrograms {
    site: &'static Site,
    programs: Vec<(AttachType, &'static str, OwnedFd)>,
    /// Closing them detaches.
    links: Vec<OwnedFd>,
}

/// What the programs of a site are called and where they go, the ones at returns first: a call that
/// begins in between then shows up as a return without an entry, which is counted.
///
/// A program that was attached later runs earlier (`hlist_add_head` in kernel/bpf/trampoline.c, Linux 7.3), so
/// the last guard comes first.
fn programs_of(site: &Site, config: &Config) -> Vec<(AttachType, &'static str)> {
    let session = if config.needs_extra() { site.fsession_extra } else { site.fsession };
    match config.backend {
        Backend::Fsession if config.guard => {
            let guards = site.guards.iter().rev().copied();
            guards.chain([session]).map(|name| (AttachType::Fsession, name)).collect()
        }
        Backend::Fsession => vec![(AttachType::Fsession, session)],
        _ => vec![(AttachType::Fexit, site.fentry.exit), (AttachType::Fentry, site.fentry.entry)],
    }
}

pub(super) fn attach(
    programs: &Programs,
    config: &Config,
    attached: &mut dyn FnMut(),
) -> Result<Trampolines, SourceError> {
    let no_types = || SourceError::NotInBtf { function: SITES[0].symbol };
    let kernel = Kernel::look(programs.types().ok_or_else(no_types)?, config.module)?;
    let object = relocated(programs)?;
    let load = |site: &'static Site| {
        let load = |(attach, name)| kernel.load(&object, site, attach, name).map(|fd| (attach, name, fd));
        let programs = programs_of(site, config).into_iter().map(load).collect::<Result<_, _>>()?;
        Ok(SitePrograms { site, programs, links: Vec::new() })
    };
    let mut sites = SITES.iter().map(load).collect::<Result<Vec<_>, SourceError>>()?;
    for site in &mut sites {
        site.link()?;
        attached();
    }
    Ok(Trampolines(sites))
}

impl Trampolines {
    pub(super) fn misses(&self) -> Result<Vec<Misses>, SourceError> {
        self.0.iter().map(SitePrograms::misses).collect()
    }

    pub(super) fn run_times(&self) -> Result<Vec<(&'static str, RunTime)>, SourceError> {
        let programs = self.0.iter().flat_map(|site| &site.programs);
        programs.map(|(_, name, program)| Ok((*name, misses::run_time(program.as_fd())?))).collect()
    }

    /// Detach, and wait until no CPU runs a program any more. The programs stay, for their counters.
    pub(super) fn detach(&mut self) {
        for site in &mut self.0 {
            site.links.clear();
        }
        // Programs run in RCU read-side sections (`__bpf_prog_enter_recur`, kernel/bpf/trampoline.c,
        // Linux 7.3), and this command waits for all of them (kernel/sched/membarrier.c). Where it is
        // refused, a call that returns in this instant may be missing from the last sample: it is then
        // in flight there.
        let _ = bpf::wait_for_readers();
    }
}

impl SitePrograms {
    fn link(&mut self) -> Result<(), SourceError> {
        for _ in 0..ATTEMPTS {
            for (attach, _, program) in &self.programs {
                let link = bpf::link(program.as_fd(), *attach).map_err(|error| SourceError::Attach {
                    program: attach.name(),
                    symbol: self.site.symbol.to_owned(),
                    source: Box::new(error),
                })?;
                self.links.push(link);
            }
            if !self.has_guards() || self.are_neighbours()? {
                return Ok(());
            }
            self.links.clear();
        }
        Err(SourceError::Crowded { symbol: self.site.symbol })
    }

    fn has_guards(&self) -> bool {
        self.programs.iter().any(|(_, name, _)| self.site.guards.contains(name))
    }

    /// Whether no other program came between the guards and the one that they guard: links are numbered
    /// in the order in which they are made, whoever makes them.
    fn are_neighbours(&self) -> Result<bool, SourceError> {
        let number = |link: &OwnedFd| misses::link_number(link.as_fd(), self.site.name);
        let numbers = self.links.iter().map(number).collect::<Result<Vec<_>, _>>()?;
        Ok(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1))
    }

    /// A trampoline has no pool that could run empty: all it counts is a program that found itself
    /// running on its CPU, preempted.
    fn misses(&self) -> Result<Misses, SourceError> {
        let mut misses = Misses::default();
        for (attach, name, program) in &self.programs {
            let count = recursion_misses(program.as_fd(), self.site.name)?;
            match attach {
                // A call that all missed is one miss of each.
                AttachType::Fsession if self.site.guards.contains(name) => {
                    misses.guard = Some(misses.guard.map_or(count, |other| other.min(count)));
                }
                AttachType::Fentry => misses.entry = count,
                AttachType::Fexit => misses.exit_recursion = count,
                AttachType::Fsession => misses.either = count,
            }
        }
        Ok(misses)
    }
}

/// The running kernel's ids of functions.
struct Kernel {
    /// BTF of the module that holds the sites; `None` when they are built in.
    module: Option<OwnedFd>,
    sites: BTreeMap<&'static str, u32>,
    kfuncs: BTreeMap<&'static str, u32>,
}

impl Kernel {
    fn look(types: &Types, module: Option<&str>) -> Result<Self, SourceError> {
        let (kernel_path, kernel) = types.kernel()?;
        let kfuncs = functions(kernel_path, kernel, None, &KFUNCS.map(|kfunc| kfunc.name))?;
        let sites = SITES.map(|site| site.symbol);
        let (Some(name), Some((path, split))) = (module, types.module()?) else {
            return Ok(Self { module: None, sites: functions(kernel_path, kernel, None, &sites)?, kfuncs });
        };
        let no_object = || SourceError::NoModuleBtf { module: name.to_owned() };
        Ok(Self {
            module: Some(bpf::module_btf(name).map_err(SourceError::BtfObjects)?.ok_or_else(no_object)?),
            sites: functions(path, split, Some(&kernel), &sites)?,
            kfuncs,
        })
    }

    fn load(
        &self,
        object: &Object,
        site: &Site,
        attach: AttachType,
        name: &'static str,
    ) -> Result<OwnedFd, SourceError> {
        let missing = || SourceError::Missing { kind: "trampoline program", name: name.to_owned() };
        let program = object.programs.get(name).ok_or_else(missing)?;
        let function =
            *self.sites.get(site.symbol).ok_or_else(|| SourceError::NotInBtf { function: site.symbol })?;
        let mut instructions =
            object.functions.get(&program.function_key()).ok_or_else(missing)?.instructions.clone();
        for instruction in &mut instructions {
            self.name_kfunc(instruction)?;
        }
        let target = Target { module: self.module.as_ref().map(OwnedFd::as_fd), function };
        bpf::load(name, &object.license, &instructions, attach, target)
            .map_err(|refused| SourceError::Program { program: name, source: Box::new(refused) })
    }

    /// Give a call of a kernel function the kernel's own id.
    fn name_kfunc(&self, instruction: &mut bpf_insn) -> Result<(), SourceError> {
        let is_helper_call = u32::from(instruction.code) == BPF_JMP | BPF_CALL && instruction.src_reg() == 0;
        if is_helper_call && let Some(kfunc) = KFUNCS.iter().find(|kfunc| kfunc.number == instruction.imm) {
            let not_there = || SourceError::NotInBtf { function: kfunc.name };
            let id = *self.kfuncs.get(kfunc.name).ok_or_else(not_there)?;
            // Kernels have fewer than 2^20 types (BTF_MAX_TYPE).
            instruction.imm = i32::try_from(id).map_err(|_| not_there())?;
            instruction.set_src_reg(BPF_PSEUDO_KFUNC_CALL.to_le_bytes()[0]);
        }
        Ok(())
    }
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
