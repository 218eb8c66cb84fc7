//! Where the kernel keeps what our programs look at: offsets in its structures, from its own BTF.

use std::fs;
use std::path::{Path, PathBuf};

use probe_common::constant::Constant;

use super::SourceError;
use crate::btf::Btf;

/// A constant as the sum of the places of members: `+` or `-`, structure, member.
type Sum = &'static [(i64, &'static str, &'static str)];

/// The process of a thread; every kernel's types have it.
const TASK: [(Constant, Sum); 1] = [(Constant::TaskTgid, &[(1, "task_struct", "tgid")])];

/// The name of a thread's process (`include/linux/sched.h`, Linux 7.3).
const NAMES: [(Constant, Sum); 2] = [
    (Constant::TaskLeader, &[(1, "task_struct", "group_leader")]),
    (Constant::TaskComm, &[(1, "task_struct", "comm")]),
];

/// The real-time mutex inside of a semaphore: `PREEMPT_RT` alone has it (`include/linux/rwsem.h`, `rwbase_rt.h`, Linux
/// 7.3).
const RT_RWSEM: [(Constant, Sum); 1] =
    [(Constant::RwsemInner, &[(1, "rw_semaphore", "rwbase"), (1, "rwbase_rt", "rtmutex")])];

/// When a process began (Linux 5.5 gave it this name).
const STARTED: [(Constant, Sum); 1] = [(Constant::TaskStarted, &[(1, "task_struct", "start_boottime")])];

/// iommufd's areas (`drivers/iommu/iommufd/iommufd_private.h` and `io_pagetable.h`,
/// `include/linux/interval_tree.h`, `rbtree_types.h`, Linux 7.3).
const AREAS: [(Constant, Sum); 9] = [
    (
        Constant::IoptAreaRoot,
        &[(1, "io_pagetable", "area_itree"), (1, "rb_root_cached", "rb_root"), (1, "rb_root", "rb_node")],
    ),
    (Constant::IoptIovaRwsem, &[(1, "io_pagetable", "iova_rwsem")]),
    (
        Constant::IoptIoasId,
        &[(1, "iommufd_ioas", "obj"), (1, "iommufd_object", "id"), (-1, "iommufd_ioas", "iopt")],
    ),
    (
        Constant::AreaPages,
        &[(1, "iopt_area", "pages"), (-1, "iopt_area", "node"), (-1, "interval_tree_node", "rb")],
    ),
    (Constant::PagesMutex, &[(1, "iopt_pages", "mutex")]),
    (Constant::NodeStart, &[(1, "interval_tree_node", "start"), (-1, "interval_tree_node", "rb")]),
    (Constant::NodeLast, &[(1, "interval_tree_node", "last"), (-1, "interval_tree_node", "rb")]),
    (Constant::NodeLeft, &[(1, "rb_node", "rb_left")]),
    (Constant::NodeRight, &[(1, "rb_node", "rb_right")]),
];

/// The kernel's BTF and that of the module with the sites, as bytes.
pub(super) struct Types {
    kernel: (PathBuf, Vec<u8>),
    module: Option<(PathBuf, Vec<u8>)>,
}

impl Types {
    /// Read both; every process may.
    pub(super) fn read(module: Option<&str>) -> Result<Self, SourceError> {
        let read = |name: &str| {
            let path = Path::new("/sys/kernel/btf").join(name);
            match fs::read(&path) {
                Ok(bytes) => Ok((path, bytes)),
                Err(source) => Err(SourceError::File { path, source }),
            }
        };
        Ok(Self { kernel: read("vmlinux")?, module: module.map(read).transpose()? })
    }

    /// The kernel's own types and where they are from.
    pub(super) fn kernel(&self) -> Result<(&Path, Btf<'_>), SourceError> {
        parse(&self.kernel)
    }

    /// The module's types, which count on from the kernel's.
    pub(super) fn module(&self) -> Result<Option<(&Path, Btf<'_>)>, SourceError> {
        self.module.as_ref().map(parse).transpose()
    }

    /// Offsets that the kernel's types tell. Either all about areas or none.
    pub(super) fn offsets(&self) -> Result<Vec<(Constant, u64)>, SourceError> {
        let mut known = self.resolve(&TASK)?.unwrap_or_default();
        if let Some(names) = self.resolve(&NAMES)? {
            known.extend(names);
            known.push((Constant::HasNames, 1));
            known.extend(self.resolve(&STARTED)?.unwrap_or_default());
        }
        known.extend(self.resolve(&RT_RWSEM)?.unwrap_or_default());
        if let Some(areas) = self.resolve(&AREAS)? {
            known.extend(areas);
            known.push((Constant::HasAreas, 1));
        }
        Ok(known)
    }

    fn resolve(&self, wanted: &[(Constant, Sum)]) -> Result<Option<Vec<(Constant, u64)>>, SourceError> {
        let mut resolved = Vec::new();
        for (constant, sum) in wanted {
            let mut total = 0i64;
            for (sign, structure, member) in *sum {
                match self.member(structure, member)? {
                    Some(offset) => total += sign * i64::from(offset),
                    None => return Ok(None),
                }
            }
            resolved.push((*constant, total.cast_unsigned()));
        }
        Ok(Some(resolved))
    }

    fn member(&self, structure: &str, member: &str) -> Result<Option<u32>, SourceError> {
        let (path, kernel) = self.kernel()?;
        if let Some((path, module)) = self.module()?
            && let Some(offset) =
                module.member(Some(&kernel), structure, member).map_err(|source| failed(path, source))?
        {
            return Ok(Some(offset));
        }
        kernel.member(None, structure, member).map_err(|source| failed(path, source))
    }
}

fn parse((path, bytes): &(PathBuf, Vec<u8>)) -> Result<(&Path, Btf<'_>), SourceError> {
    Btf::parse(bytes).map(|btf| (path.as_path(), btf)).map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: crate::btf::BtfError) -> SourceError {
    SourceError::Btf { path: path.to_owned(), source }
}
