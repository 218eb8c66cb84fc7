//! The programs on the kernel's tracepoints of contended locks.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};

use probe_common::site::LOCK_PROGRAMS;

use super::backend::loader::Loader;
use super::misses::recursion_misses;
use super::{Programs, SourceError, bpf};

/// The attached programs; dropping them detaches.
pub(super) struct LockProbes(Vec<Attached>);

struct Attached {
    program: OwnedFd,
    /// Closing it detaches.
    _link: OwnedFd,
}

impl LockProbes {
    pub(super) fn attach(programs: &Programs) -> Result<Self, SourceError> {
        // Ours, for the reads of kernel memory that aya does not know.
        let loader = Loader::new(programs)?;
        let attach = |(name, tracepoint): (&'static str, &str)| {
            let program = loader.load_tracepoint(name)?;
            let failed = |source: std::io::Error| SourceError::Attach {
                program: name,
                symbol: tracepoint.to_owned(),
                source: Box::new(source),
            };
            let tracepoint = CString::new(tracepoint).map_err(|error| failed(error.into()))?;
            let link = bpf::link_tracepoint(program.as_fd(), &tracepoint).map_err(failed)?;
            Ok(Attached { program, _link: link })
        };
        LOCK_PROGRAMS.into_iter().map(attach).collect::<Result<_, SourceError>>().map(Self)
    }

    /// Runs that the kernel refused, because the program was running on that CPU.
    pub(super) fn misses(&self) -> Result<u64, SourceError> {
        self.0.iter().map(|attached| recursion_misses(attached.program.as_fd(), "contended locks")).sum()
    }
}
