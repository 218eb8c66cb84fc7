//! Writing: header, windows, end. Every frame is handed over whole; what was written stays readable.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use probe_model::sample::Sample;
use serde::Serialize;

use super::frame::{self, Kind, MAGIC};
use super::{Delta, End, Header, RecordingError};

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
}

impl<W: Write> Writer<W> {
    /// Begin a recording with its header; `name` is for messages.
    pub fn begin(mut out: W, name: String, header: &Header) -> Result<Self, RecordingError> {
        let failed = |source| RecordingError::Io { operation: "write", path: name.clone(), source };
        out.write_all(&MAGIC).map_err(failed)?;
        let last = Sample { at: header.started, ..Sample::default() };
        let mut writer = Self { out, name, last, written: MAGIC.len() as u64 };
        writer.frame(Kind::Header, header)?;
        Ok(writer)
    }

    /// Append what was counted since the sample before.
    pub fn sample(&mut self, sample: Sample) -> Result<(), RecordingError> {
        let delta = Delta { to: sample.at, counters: sample.counters.since(&self.last.counters) };
        self.frame(Kind::Window, &delta)?;
        self.last = sample;
        Ok(())
    }

    /// Append the end, and make sure of everything.
    pub fn end(mut self, end: &End) -> Result<u64, RecordingError> {
        self.frame(Kind::End, end)?;
        Ok(self.written)
    }

    fn frame(&mut self, kind: Kind, value: &impl Serialize) -> Result<(), RecordingError> {
        let mut payload = Vec::new();
        ciborium::into_writer(value, &mut payload)
            .map_err(|error| RecordingError::Encode(error.to_string()))?;
        let failed = |source| RecordingError::Io { operation: "write", path: self.name.clone(), source };
        frame::write(&mut self.out, kind, &payload).map_err(failed)?;
        self.out.flush().map_err(failed)?;
        self.written += payload.len() as u64 + 12;
        Ok(())
    }
}
