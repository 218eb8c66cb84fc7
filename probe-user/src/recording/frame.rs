//! Frames: kind, flags, length, payload, checksum. All integers little-endian.
//!
//! ```text
//! u16 kind | u16 flags | u32 length | length bytes of CBOR | u32 CRC-32C of all that stands before
//! ```

use std::io::{self, Read, Write};

use super::FORMAT;

/// What a file begins with. The first byte is not text and the line ends catch mangled transfers.
pub(super) const MAGIC: [u8; 8] = *b"\x89IOVA\r\n\x1a";

/// A longer frame is taken for damage: a window of every command and class is below 4 MiB.
const LONGEST: u32 = 16 << 20;

const HEAD: usize = 8;

/// Flag: a reader that does not know the kind must refuse the recording instead of skipping it.
const REQUIRED: u16 = 1;

/// Kinds of frames, by format 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Kind {
    Header = 1,
    Window = 2,
    End = 3,
}

impl Kind {
    fn of(number: u16) -> Option<Self> {
        [Self::Header, Self::Window, Self::End].into_iter().find(|kind| *kind as u16 == number)
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

pub(super) fn write(out: &mut dyn Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).ok().filter(|&length| length <= LONGEST);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "frame too long"))?;
    let mut frame = Vec::with_capacity(HEAD + payload.len() + 4);
    frame.extend((kind as u16).to_le_bytes());
    frame.extend(REQUIRED.to_le_bytes());
    frame.extend(length.to_le_bytes());
    frame.extend(payload);
    frame.extend(crc32c::crc32c(&frame).to_le_bytes());
    // In one call: a reader of a growing stream sees whole frames where the medium allows.
    out.write_all(&frame)
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
    Ok(match Kind::of(kind) {
        Some(known) => Next::Frame(known, body),
        None if flags & REQUIRED == 0 => Next::Skipped,
        None => Next::Refused(kind),
    })
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

const _: () = assert!(FORMAT == 1, "a new format needs its kinds here");
