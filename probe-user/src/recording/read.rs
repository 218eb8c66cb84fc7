//! Reading: a file cut anywhere is a valid prefix, flagged unclean.

use std::io::Read;

use probe_model::sample::Sample;
use probe_model::window::Window;
use serde::de::DeserializeOwned;

use super::frame::{self, Kind, MAGIC, Next};
use super::{Delta, End, FORMAT, Header, RecordingError};

/// A recording being read, one window after the other.
pub struct Reader<R: Read> {
    input: R,
    name: String,
    header: Header,
    last: Sample,
    end: Option<End>,
    unclean: Option<&'static str>,
    skipped: u64,
}

impl<R: Read> Reader<R> {
    /// Read the header; `name` is for messages.
    pub fn begin(mut input: R, name: String) -> Result<Self, RecordingError> {
        let failed = |source| RecordingError::Io { operation: "read", path: name.clone(), source };
        let mut magic = [0; MAGIC.len()];
        let filled = frame::fill(&mut input, &mut magic).map_err(failed)?;
        if magic[..filled] != MAGIC[..filled] || filled == 0 {
            return Err(RecordingError::NotARecording { path: name });
        }
        let header = match frame::read(&mut input).map_err(failed)? {
            Next::Frame(Kind::Header, payload) => decode::<Header>(&payload),
            _ => None,
        };
        let Some(header) = header else {
            return Err(RecordingError::NoHeader { path: name });
        };
        if header.format > FORMAT {
            return Err(RecordingError::TooNew { path: name, needed: header.format });
        }
        let last = Sample { at: header.started, ..Sample::default() };
        Ok(Self { input, name, header, last, end: None, unclean: None, skipped: 0 })
    }

    /// What was recorded, where, how.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next cumulative sample; `None` at the end.
    pub fn next_sample(&mut self) -> Result<Option<&Sample>, RecordingError> {
        while self.end.is_none() && self.unclean.is_none() {
            let failed = |source| RecordingError::Io { operation: "read", path: self.name.clone(), source };
            match frame::read(&mut self.input).map_err(failed)? {
                Next::Frame(Kind::Window, payload) => match decode::<Delta>(&payload) {
                    Some(delta) => {
                        self.last.counters.append(&delta.counters);
                        self.last.at = delta.to;
                        return Ok(Some(&self.last));
                    }
                    None => self.unclean = Some("a window that cannot be decoded"),
                },
                Next::Frame(Kind::End, payload) => match decode::<End>(&payload) {
                    Some(end) => self.end = Some(end),
                    None => self.unclean = Some("an end that cannot be decoded"),
                },
                Next::Frame(Kind::Header, _) => self.unclean = Some("a second header"),
                Next::Skipped => self.skipped += 1,
                Next::Refused(kind) => {
                    return Err(RecordingError::UnknownRequired { path: self.name.clone(), kind });
                }
                Next::End => self.unclean = Some("no end: the recorder was stopped short"),
                Next::Damaged(why) => self.unclean = Some(why),
            }
        }
        Ok(None)
    }

    /// Read to the end, keep the whole.
    pub fn whole(mut self) -> Result<Recording, RecordingError> {
        let from = Sample { at: self.header.started, ..Sample::default() };
        let mut windows = 0;
        while self.next_sample()?.is_some() {
            windows += 1;
        }
        Ok(Recording {
            window: Window::between(&from, &self.last),
            header: self.header,
            windows,
            end: self.end,
            unclean: self.unclean,
            skipped: self.skipped,
        })
    }
}

/// A recording, read to its end.
#[derive(Debug, Clone)]
pub struct Recording {
    pub header: Header,
    /// All of it as one window.
    pub window: Window,
    /// How many windows it has.
    pub windows: u64,
    /// How it ended; `None` when it was cut off.
    pub end: Option<End>,
    /// Why it is only a prefix of what was recorded.
    pub unclean: Option<&'static str>,
    /// Optional frames of kinds that this version does not know.
    pub skipped: u64,
}

fn decode<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    ciborium::from_reader(payload).ok()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
