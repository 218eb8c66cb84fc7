//! The programs on the kernel's tracepoints of contended locks.

use aya::programs::links::FdLink;
use probe_common::site::LOCK_PROGRAMS;

use super::misses::FdInfo;
use super::{Programs, SourceError};

/// The attached programs; dropping them detaches.
pub(super) struct LockProbes(Vec<(u32, FdLink)>);

impl LockProbes {
    pub(super) fn attach(programs: &mut Programs) -> Result<Self, SourceError> {
        let attach = |(name, tracepoint): (&'static str, &str)| {
            let program = programs.tracepoint(name)?;
            program
                .load()
                .map_err(|source| SourceError::Program { program: name, source: Box::new(source) })?;
            let failed = |source: aya::programs::ProgramError| SourceError::Attach {
                program: name,
                symbol: tracepoint.to_owned(),
                source: Box::new(source),
            };
            let id = program.attach(tracepoint).map_err(failed)?;
            let link = program.take_link(id).map_err(failed)?;
            let number = program.info().map_err(failed)?.id();
            Ok((number, link.into()))
        };
        LOCK_PROGRAMS.into_iter().map(attach).collect::<Result<_, SourceError>>().map(Self)
    }

    /// Runs that the kernel refused, because the program was running on that CPU.
    pub(super) fn misses(&self) -> Result<u64, SourceError> {
        let fdinfo = FdInfo::of_this_process()?;
        self.0.iter().map(|(program, _)| fdinfo.recursion_misses(*program, "contended locks")).sum()
    }
}
