//! The BPF side's own diagnostics, by aya-log. Off by default: the level is a constant to the
//! verifier, so programs loaded with it off hold no trace of them.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;

use super::SourceError;

/// What the BPF side should say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Nothing, at no cost.
    #[default]
    Off,
    /// Every call. For debugging the probes themselves: it is slow.
    Trace,
}

impl LogLevel {
    /// The value of the level's global: aya-log's levels count from 1.
    pub(super) fn wire(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Trace => aya_log::Level::Trace as u8,
        }
    }
}

/// A stream of log lines, handed to the `log` crate's logger.
pub struct Logs(AsyncFd<EbpfLogger<&'static dyn log::Log>>);

impl Logs {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, SourceError> {
        let logger = EbpfLogger::init(ebpf).map_err(|error| SourceError::Logs(error.to_string()))?;
        // SAFETY: the logger owns its ring buffer's descriptor and keeps it open as long as it lives.
        #[allow(unsafe_code, reason = "tokio cannot know that the descriptor stays the same")]
        let registered = unsafe { AsyncFd::register(logger) };
        registered.map(Self).map_err(|error| SourceError::Logs(error.to_string()))
    }

    /// Wait for lines and pass them on; returns only on an error.
    pub async fn forward(&mut self) -> SourceError {
        loop {
            match self.0.readable_mut().await {
                Ok(mut guard) => {
                    guard.get_inner_mut().flush();
                    guard.clear_ready();
                }
                Err(error) => return SourceError::Logs(error.to_string()),
            }
        }
    }
}
