//! The recording: an append-only stream of frames (docs/recording.md).
//!
//! Holds counters and what is needed to understand them; never a percentile, a physical address, a
//! kernel pointer or an IOVA.

mod frame;
mod read;
mod write;

pub use frame::MAGIC;
pub use probe_model::origin::{Anchor, Declined, Delta, End, EndReason, Header, Host, Mark, Recording};
pub use read::{Event, Reader};
pub use write::{Writer, create};

/// Version of the format that is written: the meaning of required frames. Every older one is read.
pub const FORMAT: u32 = 2;

/// What is wrong with a recording. Each names the operation and its object.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("cannot {operation} {path}")]
    Io { operation: &'static str, path: String, source: std::io::Error },
    #[error("{path} is not an iovascope recording (it begins with other bytes)")]
    NotARecording { path: String },
    #[error("{path} needs format {needed}, this iovascope reads up to {FORMAT}: use a newer one")]
    TooNew { path: String, needed: u32 },
    #[error("{path} needs a reader that knows {feature:?}, which this iovascope does not: use a newer one")]
    UnknownFeature { path: String, feature: String },
    #[error("{path} has a required frame of kind {kind} that this iovascope does not know: use a newer one")]
    UnknownRequired { path: String, kind: u16 },
    #[error("{path} has no header: it was cut off before anything was recorded")]
    NoHeader { path: String },
    #[error("cannot encode a frame: {0}")]
    Encode(String),
}
