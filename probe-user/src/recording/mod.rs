//! The recording: an append-only stream of frames (docs/recording.md).
//!
//! Holds counters and what is needed to understand them; never a percentile, a physical address, a
//! kernel pointer or an IOVA.

mod frame;
mod read;
mod write;

use std::collections::BTreeMap;

use probe_model::sample::{Counters, Instant};
use serde::{Deserialize, Serialize};

pub use read::{Reader, Recording};
pub use write::{Writer, create};

/// Version of the format: the meaning of required frames.
pub const FORMAT: u32 = 1;

/// The first frame: what was recorded, where, how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// Version of iovascope that wrote it.
    pub tool: String,
    /// Kernel release, as `uname -r`.
    pub kernel: String,
    /// Machine, as `uname -m`.
    pub machine: String,
    /// GET_PA's ABI, as the canary found it.
    pub abi: String,
    /// Whether the length argument is a cap; where not, no scan stops at `cap`.
    pub length_is_cap: bool,
    /// How programs were attached.
    pub backend: String,
    /// Better backends that were not taken, best first; only where the choice was ours.
    #[serde(default)]
    pub declined: Vec<Declined>,
    /// The kernel's page size in bytes: the step of a scan.
    pub page_size: u64,
    /// Possible CPUs.
    pub cpus: u32,
    /// Kernel function by site name.
    pub sites: BTreeMap<String, String>,
    /// When counting began.
    pub started: Instant,
}

/// A backend that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declined {
    /// Its name.
    pub backend: String,
    /// Why not, for people.
    pub why: String,
}

/// A window frame: what was counted since the one before, or since counting began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Where the window ends.
    pub to: Instant,
    /// What was counted.
    pub counters: Counters,
}

/// The last frame of a recording that ended in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why it ended.
    pub reason: EndReason,
    /// Calls found in each site's table of open calls after the probes were detached; empty for a
    /// backend without such tables.
    pub open_calls: BTreeMap<String, u64>,
    /// By how much the losses may be off, because misses fell into the moment of arming or disarming.
    pub doubt: u64,
}

/// Why a recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The duration was over.
    Duration,
    /// The command ended.
    Command,
    /// A signal asked for it.
    Signal,
}

/// What is wrong with a recording. Each names the operation and its object.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("cannot {operation} {path}")]
    Io { operation: &'static str, path: String, source: std::io::Error },
    #[error("{path} is not an iovascope recording (it begins with other bytes)")]
    NotARecording { path: String },
    #[error("{path} needs format {needed}, this iovascope reads up to {FORMAT}: use a newer one")]
    TooNew { path: String, needed: u32 },
    #[error("{path} has a required frame of kind {kind} that this iovascope does not know: use a newer one")]
    UnknownRequired { path: String, kind: u16 },
    #[error("{path} has no header: it was cut off before anything was recorded")]
    NoHeader { path: String },
    #[error("cannot encode a frame: {0}")]
    Encode(String),
}
