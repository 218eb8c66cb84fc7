//! Writing: header, then windows and what happened between them, then the end. Every frame is handed over
//! whole; what was written stays readable.
//!
//! Written is not synced: a recording survives the death of the recorder at any instant, and the loss of
//! power only up to what the kernel had written back. The end is synced.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use probe_model::call::Call;
use probe_model::loss::Flow;
use probe_model::sample::Sample;
use serde::Serialize;

use super::frame::{self, Kind, MAGIC};
use super::{Anchor, Delta, End, Header, Mark, RecordingError};

/// A new file for a recording: never one that exists, never through a link, readable by its owner only.
pub fn create(path: &Path) -> Result<File, RecordingError> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(no_follow).open(path).map_err(
        |source| RecordingError::Io { operation: "create", path: path.display().to_string(), source },
    )
}

/// A recording being written.
pub struct Writer<W: Write> {
    out: W,
    name: String,
    last: Sample,
    written: u64,
    windows: u64,
}

impl<W: Write> Writer<W> {
    /// Begin a recording with its header; `name` is for messages.
    pub fn begin(mut out: W, name: String, header: &Header) -> Result<Self, RecordingError> {
        let failed = |source| RecordingError::Io { operation: "write", path: name.clone(), source };
        out.write_all(&MAGIC).map_err(failed)?;
        let last = Sample { at: header.started, ..Sample::default() };
        let mut writer = Self { out, name, last, written: MAGIC.len() as u64, windows: 0 };
        writer.frame(Kind::Header, header)?;
        Ok(writer)
    }

    /// Append what was counted since the sample before.
    pub fn sample(&mut self, sample: Sample) -> Result<(), RecordingError> {
        let mut counters = sample.counters.since(&self.last.counters);
        // What did not happen needs no room.
        counters.flow.retain(|_, flow| *flow != Flow::default());
        counters.programs.retain(|_, cost| cost.runs > 0);
        self.frame(Kind::Window, &Delta { to: sample.at, counters })?;
        self.last = sample;
        self.windows += 1;
        Ok(())
    }

    /// Append single calls.
    pub fn calls(&mut self, calls: &[Call]) -> Result<(), RecordingError> {
        // A frame has a longest length; a batch has not.
        calls.chunks(4096).try_for_each(|calls| self.frame(Kind::Calls, &calls))
    }

    /// Append a mark.
    pub fn mark(&mut self, mark: &Mark) -> Result<(), RecordingError> {
        self.frame(Kind::Mark, mark)
    }

    /// Append the same instant by several clocks.
    pub fn anchor(&mut self, anchor: &Anchor) -> Result<(), RecordingError> {
        self.frame(Kind::Anchor, anchor)
    }

    /// Append the end; how many bytes the recording has.
    pub fn end(mut self, end: &End) -> Result<u64, RecordingError> {
        self.frame(Kind::End, end)?;
        Ok(self.written)
    }

    /// The last sample that is in the recording, whole.
    pub fn last(&self) -> &Sample {
        &self.last
    }

    /// Windows written.
    pub fn windows(&self) -> u64 {
        self.windows
    }

    fn frame(&mut self, kind: Kind, value: &impl Serialize) -> Result<(), RecordingError> {
        let mut payload = Vec::new();
        ciborium::into_writer(value, &mut payload)
            .map_err(|error| RecordingError::Encode(error.to_string()))?;
        let failed = |source| RecordingError::Io { operation: "write", path: self.name.clone(), source };
        self.written += frame::write(&mut self.out, kind, &payload).map_err(failed)?;
        self.out.flush().map_err(failed)
    }
}
