//! Frames: kind, flags, length, payload, checksum. All integers little-endian.
//!
//! ```text
//! u16 kind | u16 flags | u32 length | length bytes of payload | u32 CRC-32C of all that stands before
//! ```
//!
//! Refuses to know what a payload means.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::{DeflateDecoder, DeflateEncoder};

use super::FORMAT;

/// What a file begins with. The first byte is not text and the line ends catch mangled transfers.
pub const MAGIC: [u8; 8] = *b"\x89IOVA\r\n\x1a";

/// A longer frame is taken for damage: a window of every command and class is below 4 MiB.
/// Packed and unpacked: nothing that a file claims makes a reader hold more.
const LONGEST: u32 = 16 << 20;

const HEAD: usize = 8;

/// Flag: a reader that does not know the kind must refuse the recording instead of skipping it.
const REQUIRED: u16 = 1;
/// Flag: the payload is packed by DEFLATE (RFC 1951).
const PACKED: u16 = 2;
/// A reader knows the meaning of these; others may change the meaning of a frame.
const KNOWN: u16 = REQUIRED | PACKED;

/// Kinds of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Kind {
    Header = 1,
    Window = 2,
    End = 3,
    Mark = 4,
    Anchor = 5,
    Calls = 6,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Header, Self::Window, Self::End, Self::Mark, Self::Anchor, Self::Calls];

    fn of(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }

    /// Extras: the figures are right without them.
    fn flags(self) -> u16 {
        match self {
            Self::Header | Self::Window | Self::End => REQUIRED,
            Self::Mark | Self::Anchor | Self::Calls => 0,
        }
    }
}

/// What stands next in a stream.
#[derive(Debug)]
pub(super) enum Next {
    Frame(Kind, Vec<u8>),
    /// A whole frame of a kind that this version does not know and may skip.
    Skipped,
    /// A whole frame of a kind that this version does not know and must not skip.
    Refused(u16),
    /// The stream ends between two frames.
    End,
    /// The stream ends within a frame, or the frame is damaged; nothing after it can be trusted.
    Damaged(&'static str),
}

/// Append a frame; how many bytes it took.
pub(super) fn write(out: &mut dyn Write, kind: Kind, payload: &[u8]) -> io::Result<u64> {
    let mut packed = Vec::new();
    DeflateEncoder::new(payload, Compression::default()).read_to_end(&mut packed)?;
    let (flags, payload) = if packed.len() < payload.len() {
        (kind.flags() | PACKED, packed.as_slice())
    } else {
        (kind.flags(), payload)
    };
    let length = u32::try_from(payload.len()).ok().filter(|&length| length <= LONGEST);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "frame too long"))?;
    let mut frame = Vec::with_capacity(HEAD + payload.len() + 4);
    frame.extend((kind as u16).to_le_bytes());
    frame.extend(flags.to_le_bytes());
    frame.extend(length.to_le_bytes());
    frame.extend(payload);
    frame.extend(crc32c::crc32c(&frame).to_le_bytes());
    // In one call: a reader of a growing stream sees whole frames where the medium allows.
    out.write_all(&frame)?;
    Ok(frame.len() as u64)
}

pub(super) fn read(input: &mut dyn Read) -> io::Result<Next> {
    let mut head = [0; HEAD];
    match fill(input, &mut head)? {
        0 => return Ok(Next::End),
        HEAD => {}
        _ => return Ok(Next::Damaged("cut within a frame")),
    }
    let [k0, k1, f0, f1, l0, l1, l2, l3] = head;
    let (kind, flags) = (u16::from_le_bytes([k0, k1]), u16::from_le_bytes([f0, f1]));
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    if length > LONGEST {
        return Ok(Next::Damaged("impossible frame length"));
    }
    let mut body = Vec::new();
    // Grows with what is really there, not with what a damaged length claims.
    let read = input.take(u64::from(length) + 4).read_to_end(&mut body)?;
    if read < length as usize + 4 {
        return Ok(Next::Damaged("cut within a frame"));
    }
    let checksum = body.split_off(length as usize);
    let expected = crc32c::crc32c_append(crc32c::crc32c(&head), &body);
    if checksum != expected.to_le_bytes() {
        return Ok(Next::Damaged("wrong checksum"));
    }
    Ok(match Kind::of(kind).filter(|_| flags & !KNOWN == 0) {
        Some(known) if flags & PACKED == 0 => Next::Frame(known, body),
        Some(known) => match unpack(&body) {
            Some(payload) => Next::Frame(known, payload),
            None => Next::Damaged("a frame that cannot be unpacked"),
        },
        None if flags & REQUIRED == 0 => Next::Skipped,
        None => Next::Refused(kind),
    })
}

/// Unpack a payload, but never one beyond [`LONGEST`]: a few bytes can claim to be gigabytes.
fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let mut payload = Vec::new();
    let mut unpacked = DeflateDecoder::new(packed).take(u64::from(LONGEST) + 1);
    unpacked.read_to_end(&mut payload).ok().filter(|&length| length <= LONGEST as usize)?;
    Some(payload)
}

/// Read until `buffer` is full or the stream ends; how many bytes there were.
pub(super) fn fill(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

const _: () = assert!(FORMAT == 2, "a new format needs its kinds here");
