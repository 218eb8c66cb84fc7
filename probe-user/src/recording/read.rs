//! Reading: a file cut anywhere is a valid prefix, flagged unclean. Memory does not grow with the file.

use std::io::Read;

use probe_model::call::Call;
use probe_model::check;
use probe_model::clock::Anchors;
use probe_model::origin::MOST_MARKS;
use probe_model::sample::{Instant, Sample};
use probe_model::window::Window;
use serde::de::DeserializeOwned;

use super::frame::{self, Kind, MAGIC, Next};
use super::{Anchor, Delta, End, FORMAT, Header, Mark, Recording, RecordingError};

/// Names in [`Header::requires`] that this reader understands.
const FEATURES: [&str; 0] = [];

/// What stands next in a recording.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all events are windows, and one is held at a time")]
pub enum Event {
    /// What was counted since the window before.
    Window(Window),
    /// Single calls.
    Calls(Vec<Call>),
    /// A mark.
    Mark(Mark),
    /// One instant by several clocks.
    Anchor(Anchor),
}

/// A recording being read, one event after the other. On a stream that still grows, reading waits for
/// the next whole frame.
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
        if let Some(feature) = header.requires.iter().find(|name| !FEATURES.contains(&name.as_str())) {
            return Err(RecordingError::UnknownFeature { path: name, feature: feature.clone() });
        }
        let mut last = Sample { at: header.started, ..Sample::default() };
        // A site without calls has a balance too: nothing was missed.
        last.counters.flow = header.sites.keys().map(|site| (site.clone(), <_>::default())).collect();
        Ok(Self { input, name, header, last, end: None, unclean: None, skipped: 0 })
    }

    /// What was recorded, where, how.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How it ended; `None` before the end, and for a recording that was cut off.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Why nothing more can be read although there was no end.
    pub fn unclean(&self) -> Option<&'static str> {
        self.unclean
    }

    /// The next event; `None` at the end.
    pub fn next_event(&mut self) -> Result<Option<Event>, RecordingError> {
        while self.end.is_none() && self.unclean.is_none() {
            let failed = |source| RecordingError::Io { operation: "read", path: self.name.clone(), source };
            let event = match frame::read(&mut self.input).map_err(failed)? {
                Next::Frame(kind, payload) => self.frame(kind, &payload),
                Next::Skipped => {
                    self.skipped += 1;
                    Ok(None)
                }
                Next::Refused(kind) => {
                    return Err(RecordingError::UnknownRequired { path: self.name.clone(), kind });
                }
                Next::End => Err("no end: the recorder was stopped short"),
                Next::Damaged(why) => Err(why),
            };
            match event {
                Ok(None) => {}
                Ok(event) => return Ok(event),
                Err(why) => self.unclean = Some(why),
            }
        }
        Ok(None)
    }

    /// The next window; what stands before it is passed over.
    pub fn next_window(&mut self) -> Result<Option<Window>, RecordingError> {
        loop {
            match self.next_event()? {
                Some(Event::Window(window)) => return Ok(Some(window)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// The next cumulative sample; `None` at the end.
    pub fn next_sample(&mut self) -> Result<Option<&Sample>, RecordingError> {
        Ok(self.next_window()?.map(|_| &self.last))
    }

    /// The last cumulative sample: all that was read so far.
    pub fn sample(&self) -> &Sample {
        &self.last
    }

    /// Read to the end, keep the whole.
    pub fn whole(self) -> Result<Recording, RecordingError> {
        self.sum_up(|_| Ok::<_, RecordingError>(true))
    }

    /// Read to the end and add up the windows for which `keep` says so; the rest is left out as if it
    /// had not been recorded.
    pub fn sum_up<E: From<RecordingError>>(
        mut self,
        mut keep: impl FnMut(&Window) -> Result<bool, E>,
    ) -> Result<Recording, E> {
        let mut sum: Option<Window> = None;
        let (mut windows, mut left_out, mut marks, mut anchors) = (0, 0u64, Vec::new(), Anchors::default());
        let sites = self.last.counters.clone();
        let mut earlier = None;
        while let Some(event) = self.next_event()? {
            match event {
                Event::Window(window) if keep(&window)? => {
                    windows += 1;
                    let whole = sum.get_or_insert_with(|| Window {
                        from: window.from,
                        to: window.to,
                        counters: sites.clone(),
                    });
                    whole.counters.append(&window.counters);
                    whole.to = window.to;
                }
                Event::Window(_) => left_out += 1,
                Event::Calls(_) => {}
                Event::Mark(mark) if mark.change.is_some() && earlier.is_none() => {
                    earlier = Some(sum.as_ref().map_or_else(|| sites.clone(), |sum| sum.counters.clone()));
                    marks.push(mark);
                }
                Event::Mark(mark) if marks.len() < MOST_MARKS => marks.push(mark),
                Event::Mark(_) => self.skipped += 1,
                Event::Anchor(anchor) => anchors.push(anchor),
            }
        }
        let empty = |at: Instant| Window { from: at, to: at, counters: sites.clone() };
        Ok(Recording {
            window: sum.unwrap_or_else(|| empty(self.header.started)),
            header: self.header,
            windows,
            part: left_out > 0,
            end: self.end,
            unclean: self.unclean,
            skipped: self.skipped,
            marks,
            anchors: anchors.into_vec(),
            earlier,
        })
    }

    /// Take in a whole frame.
    fn frame(&mut self, kind: Kind, payload: &[u8]) -> Result<Option<Event>, &'static str> {
        Ok(Some(match kind {
            Kind::Header => return Err("a second header"),
            Kind::Window => {
                let delta: Delta = decode(payload).ok_or("a window that cannot be decoded")?;
                check::counters(&delta.counters)?;
                if delta.to.monotonic < self.last.at.monotonic {
                    return Err("a window that ends before it begins");
                }
                let from = std::mem::replace(&mut self.last.at, delta.to);
                self.last.counters.append(&delta.counters);
                check::size(&self.last.counters)?;
                Event::Window(Window { from, to: delta.to, counters: delta.counters })
            }
            Kind::End => {
                self.end = Some(decode(payload).ok_or("an end that cannot be decoded")?);
                return Ok(None);
            }
            Kind::Mark => Event::Mark(decode(payload).ok_or("a mark that cannot be decoded")?),
            Kind::Anchor => Event::Anchor(decode(payload).ok_or("an anchor that cannot be decoded")?),
            Kind::Calls => Event::Calls(decode(payload).ok_or("calls that cannot be decoded")?),
        }))
    }
}

fn decode<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    ciborium::from_reader(payload).ok()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
