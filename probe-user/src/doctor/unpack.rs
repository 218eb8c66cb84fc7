//! From the file a boot loader or modprobe takes to the ELF file inside: boot headers and compression.
//!
//! Formats: `Documentation/arch/x86/boot.rst` (protocol 2.08 on), `drivers/firmware/efi/libstub`
//! (EFI zboot), Linux 7.3. Trusts no offset and no size: what is unpacked stays below a limit.

use std::io::{self, Read};

/// Above any kernel image, even with debug information. The fuzzer has 512 MiB in all.
pub const MOST_BYTES: u64 = if cfg!(fuzzing) { 32 << 20 } else { 2 << 30 };
/// A boot image around a compressed file around an ELF file is three; nothing sensible is deeper.
const MOST_LAYERS: usize = 4;
/// Block size of the legacy LZ4 format (`lz4 -l`), uncompressed.
const LZ4_LEGACY_BLOCK: usize = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("it is empty")]
    Empty,
    #[error("it is neither an ELF file, nor a boot image, nor compressed in a known way")]
    UnknownFormat,
    #[error("its boot header points outside the file: it is cut short or damaged")]
    BootHeader,
    #[error("its boot protocol is {0:#06x}; the compressed kernel can be found from 2.08 (0x0208) on")]
    OldProtocol(u16),
    #[error("it is compressed with {0}, which is not supported; give the unpacked vmlinux or module")]
    Unsupported(&'static str),
    #[error("unpacking its {format} part")]
    Damaged { format: &'static str, source: io::Error },
    #[error("its {0} part unpacks to more than 2 GiB")]
    TooLarge(&'static str),
    #[error("it is packed more than {MOST_LAYERS} times over")]
    TooDeep,
}

/// An ELF file and what was around it, outermost first.
#[derive(Debug)]
pub struct Unpacked {
    pub elf: Vec<u8>,
    pub layers: Vec<&'static str>,
}

/// Take off layer after layer until an ELF file is left.
pub fn unpack(mut bytes: Vec<u8>) -> Result<Unpacked, UnpackError> {
    let mut layers = Vec::new();
    if bytes.is_empty() {
        return Err(UnpackError::Empty);
    }
    for _ in 0..=MOST_LAYERS {
        if bytes.starts_with(b"\x7fELF") {
            return Ok(Unpacked { elf: bytes, layers });
        }
        let (name, inner) = peel(&bytes)?;
        layers.push(name);
        bytes = inner;
    }
    Err(UnpackError::TooDeep)
}

fn peel(bytes: &[u8]) -> Result<(&'static str, Vec<u8>), UnpackError> {
    if bytes.get(0x202..0x206) == Some(b"HdrS") {
        return Ok(("bzImage", bzimage_payload(bytes)?.to_vec()));
    }
    if bytes.starts_with(b"MZ") && bytes.get(4..8) == Some(b"zimg") {
        return Ok(("EFI zboot", zboot_payload(bytes)?.to_vec()));
    }
    decompress(bytes)
}

/// `setup_sects` sectors after the boot sector come the protected-mode code and, in it, the payload.
fn bzimage_payload(bytes: &[u8]) -> Result<&[u8], UnpackError> {
    let protocol = half(bytes, 0x206).ok_or(UnpackError::BootHeader)?;
    if protocol < 0x0208 {
        return Err(UnpackError::OldProtocol(protocol));
    }
    // 0 means 4, for the oldest loaders' sake.
    let sectors = match bytes.get(0x1f1) {
        Some(0) | None => 4,
        Some(sectors) => usize::from(*sectors),
    };
    slice(bytes, word(bytes, 0x248), word(bytes, 0x24c), (sectors + 1) * 512)
}

fn zboot_payload(bytes: &[u8]) -> Result<&[u8], UnpackError> {
    slice(bytes, word(bytes, 8), word(bytes, 12), 0)
}

fn slice(bytes: &[u8], offset: Option<u32>, length: Option<u32>, base: usize) -> Result<&[u8], UnpackError> {
    let (Some(offset), Some(length)) = (offset, length) else {
        return Err(UnpackError::BootHeader);
    };
    let start = base + offset as usize;
    bytes.get(start..start + length as usize).filter(|inner| !inner.is_empty()).ok_or(UnpackError::BootHeader)
}

fn decompress(bytes: &[u8]) -> Result<(&'static str, Vec<u8>), UnpackError> {
    const UNSUPPORTED: [(&[u8], &str); 4] = [
        (b"BZh", "bzip2"),
        (b"\x5d\0\0", "lzma"),
        (b"\x89LZO", "lzo"),
        (b"\x04\x22\x4d\x18", "lz4 (frame format)"),
    ];
    let named = |format| move |inner| (format, inner);
    if bytes.starts_with(b"\x1f\x8b") {
        return read_all("gzip", flate2::read::GzDecoder::new(bytes)).map(named("gzip"));
    }
    if bytes.starts_with(b"\xfd7zXZ\0") {
        return read_all("xz", lzma_rust2::XzReader::new(bytes, false)).map(named("xz"));
    }
    if bytes.starts_with(b"\x28\xb5\x2f\xfd") {
        let decoder = ruzstd::decoding::StreamingDecoder::new(bytes)
            .map_err(|error| damaged("zstd", io::Error::other(error)))?;
        return read_all("zstd", decoder).map(named("zstd"));
    }
    if let Some(blocks) = bytes.strip_prefix(b"\x02\x21\x4c\x18") {
        return lz4_legacy(blocks).map(named("lz4"));
    }
    match UNSUPPORTED.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        Some((_, name)) => Err(UnpackError::Unsupported(name)),
        None => Err(UnpackError::UnknownFormat),
    }
}

fn read_all(format: &'static str, reader: impl Read) -> Result<Vec<u8>, UnpackError> {
    let mut inner = Vec::new();
    reader.take(MOST_BYTES + 1).read_to_end(&mut inner).map_err(|source| damaged(format, source))?;
    if inner.len() as u64 > MOST_BYTES {
        return Err(UnpackError::TooLarge(format));
    }
    Ok(inner)
}

/// Blocks, each with its compressed length before it. The kernel's build appends the unpacked length,
/// which reads as the length of a block that is not there.
fn lz4_legacy(mut rest: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let mut inner = Vec::new();
    while let Some(length) = word(rest, 0) {
        let Some(block) = rest.get(4..4 + length as usize) else {
            if rest.len() == 4 {
                break;
            }
            return Err(damaged("lz4", io::ErrorKind::UnexpectedEof.into()));
        };
        let block = lz4_flex::block::decompress(block, LZ4_LEGACY_BLOCK)
            .map_err(|error| damaged("lz4", io::Error::other(error)))?;
        inner.extend(block);
        if inner.len() as u64 > MOST_BYTES {
            return Err(UnpackError::TooLarge("lz4"));
        }
        rest = rest.get(4 + length as usize..).unwrap_or_default();
    }
    Ok(inner)
}

fn damaged(format: &'static str, source: io::Error) -> UnpackError {
    UnpackError::Damaged { format, source }
}

fn half(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|half| u16::from_le_bytes(*half))
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write as _;

    use super::*;

    pub(in super::super) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    /// A boot image as the kernel's build makes it, around `payload`.
    pub(in super::super) fn bzimage(payload: &[u8]) -> Vec<u8> {
        let (sectors, offset) = (3_u8, 0x100_usize);
        let start = (usize::from(sectors) + 1) * 512 + offset;
        let mut image = vec![0; start];
        image[0x1f1] = sectors;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&u32::try_from(offset).unwrap().to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend(payload);
        image
    }

    const ELF: &[u8] = b"\x7fELF and so on, and so on, and so on";

    #[test]
    fn layers_come_off_in_order() {
        let unpacked = unpack(gzip(&bzimage(&gzip(ELF)))).expect("good");
        assert_eq!(unpacked.elf, ELF);
        assert_eq!(unpacked.layers, ["gzip", "bzImage", "gzip"]);
    }

    #[test]
    fn every_supported_compression_unpacks() {
        let zstd = ruzstd::encoding::compress_to_vec(ELF, ruzstd::encoding::CompressionLevel::Uncompressed);
        assert_eq!(unpack(zstd).expect("good").elf, ELF);
        let mut lz4 = b"\x02\x21\x4c\x18".to_vec();
        let block = lz4_flex::block::compress(ELF);
        lz4.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
        lz4.extend(block);
        assert_eq!(unpack(lz4.clone()).expect("good").elf, ELF);
        lz4.extend(0x1000_u32.to_le_bytes());
        assert_eq!(unpack(lz4).expect("with the kernel's appended length").elf, ELF);
        let mut zboot = b"MZ\0\0zimg".to_vec();
        let payload = gzip(ELF);
        zboot.extend(16_u32.to_le_bytes());
        zboot.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
        zboot.extend(payload);
        assert_eq!(unpack(zboot).expect("good").layers, ["EFI zboot", "gzip"]);
    }

    #[test]
    fn xz_unpacks() {
        // `printf '\x7fELF xz' | xz --check=crc32`
        const XZ: &[u8] = include_bytes!("fixtures/elf.xz");
        assert_eq!(unpack(XZ.to_vec()).expect("good").elf, b"\x7fELF xz");
    }

    #[test]
    fn cut_short_is_an_error_at_every_length() {
        for whole in [bzimage(&gzip(ELF)), include_bytes!("fixtures/elf.xz").to_vec()] {
            for length in 0..whole.len() {
                assert!(unpack(whole[..length].to_vec()).is_err(), "{length} of {}", whole.len());
            }
        }
    }

    #[test]
    fn garbage_is_named_as_such() {
        assert!(matches!(unpack(Vec::new()), Err(UnpackError::Empty)));
        assert!(matches!(unpack(b"#!/bin/sh\n".to_vec()), Err(UnpackError::UnknownFormat)));
        assert!(matches!(unpack(b"BZh91AY".to_vec()), Err(UnpackError::Unsupported("bzip2"))));
        let mut old = bzimage(ELF);
        old[0x206..0x208].copy_from_slice(&0x0207_u16.to_le_bytes());
        assert!(matches!(unpack(old), Err(UnpackError::OldProtocol(0x0207))));
        let mut far = bzimage(ELF);
        far[0x248..0x24c].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(unpack(far), Err(UnpackError::BootHeader)));
    }

    #[test]
    fn damage_inside_does_not_panic() {
        for whole in [gzip(ELF), include_bytes!("fixtures/elf.xz").to_vec()] {
            for position in 6..whole.len() {
                let mut damaged = whole.clone();
                damaged[position] ^= 0xff;
                // Some damage goes unnoticed, in a time stamp for one; none may panic.
                let _ = unpack(damaged);
            }
        }
    }

    #[test]
    fn a_russian_doll_is_refused() {
        let mut doll = ELF.to_vec();
        for _ in 0..9 {
            doll = gzip(&doll);
        }
        assert!(matches!(unpack(doll), Err(UnpackError::TooDeep)));
    }
}
