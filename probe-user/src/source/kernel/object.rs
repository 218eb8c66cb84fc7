//! The embedded BPF objects, and each with this recording's constants in it.

use aya::include_bytes_aligned;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind};
use probe_common::constant::Constant;
use probe_common::wire::{BLOCKS_MAP, Block};
use zerocopy::IntoBytes as _;

use super::SourceError;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/iovascope.bpf.o"));
static REHEARSAL: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/rehearsal.bpf.o"));

/// What is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To count.
    Recording,
    /// To find out what counting costs (`probe-ebpf/src/rehearsal.rs`).
    Rehearsal,
}

/// The BPF object inside this binary; empty when it was built without one.
pub fn object() -> &'static [u8] {
    OBJECT
}

/// Opcode of a 64-bit immediate load, the one instruction of two slots: the halves of the immediate are
/// the last four bytes of each.
const LOAD: u8 = 0x18;
/// Place of the value size in a map's definition, in bytes: after type and key size.
const VALUE_SIZE: usize = 8;
/// A map of one element can be addressed up to here (`BPF_MAX_VAR_OFF`, `include/linux/bpf_verifier.h`, Linux 7.3).
const LONGEST: usize = 1 << 29;

/// The object with constants in place of their placeholders, 0 for those not named, and room for
/// `cpus` blocks.
pub(super) struct Tailored(Vec<u64>, usize);

impl Tailored {
    pub(super) fn new(
        purpose: Purpose,
        constants: &[(Constant, u64)],
        cpus: u32,
    ) -> Result<Self, SourceError> {
        let original = match purpose {
            Purpose::Recording => OBJECT,
            Purpose::Rehearsal => REHEARSAL,
        };
        if original.is_empty() {
            return Err(SourceError::NoObject);
        }
        let damaged = |_| SourceError::Damaged;
        let file = object::File::parse(original).map_err(damaged)?;
        // Aligned like the original, for those who parse it.
        let mut words = vec![0u64; original.len().div_ceil(8)];
        let bytes = words.as_mut_bytes();
        bytes[..original.len()].copy_from_slice(original);
        for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
            let (start, length) = section.file_range().unwrap_or_default();
            let (start, length) = (usize::try_from(start), usize::try_from(length));
            if let (Ok(start), Ok(length)) = (start, length) {
                fill(&mut bytes[start..start + length], constants);
            }
        }
        let size = size_of::<Block>() * cpus as usize;
        if size > LONGEST {
            let most = u32::try_from(LONGEST / size_of::<Block>()).unwrap_or(u32::MAX);
            return Err(SourceError::TooManyCpus { cpus, most });
        }
        let place = definition(&file, BLOCKS_MAP).ok_or(SourceError::Damaged)? + VALUE_SIZE;
        let size = u32::try_from(size).map_err(|_| SourceError::Damaged)?;
        bytes[place..place + 4].copy_from_slice(&size.to_ne_bytes());
        Ok(Self(words, original.len()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0.as_bytes()[..self.1]
    }
}

/// Put constants over their placeholders in instructions.
fn fill(instructions: &mut [u8], constants: &[(Constant, u64)]) {
    for place in (0..instructions.len().saturating_sub(15)).step_by(8) {
        let load = &mut instructions[place..place + 16];
        if load[0] != LOAD || load[1] >> 4 != 0 {
            continue;
        }
        let immediate = immediate(load);
        if let Some(constant) = Constant::of_placeholder(immediate) {
            let value = constants.iter().find(|(known, _)| *known == constant).map_or(0, |(_, value)| *value);
            let [low, high] = [value & 0xffff_ffff, value >> 32];
            load[4..8].copy_from_slice(&low.to_ne_bytes()[..4]);
            load[12..16].copy_from_slice(&high.to_ne_bytes()[..4]);
        }
    }
}

/// The immediate of a 64-bit load.
fn immediate(load: &[u8]) -> u64 {
    let half = |at: usize| load[at..].first_chunk().map_or(0, |half| u64::from(u32::from_ne_bytes(*half)));
    half(4) | half(12) << 32
}

/// Where in the file a map's definition is.
fn definition(file: &object::File<'_>, name: &str) -> Option<usize> {
    let section = file.section_by_name("maps")?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(name))?;
    let (start, _) = section.file_range()?;
    usize::try_from(start + symbol.address()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_replace_their_placeholders_and_nothing_else() {
        let load = |immediate: u64, source: u8| {
            let mut bytes = [0; 16];
            bytes[0] = LOAD;
            bytes[1] = source << 4;
            bytes[4..8].copy_from_slice(&immediate.to_ne_bytes()[..4]);
            bytes[12..].copy_from_slice(&immediate.to_ne_bytes()[4..]);
            bytes
        };
        let placeholder = Constant::IoptIoasId.placeholder();
        let mut code =
            [load(placeholder, 0), load(7, 0), load(placeholder, 1), load(Constant::Cpus.placeholder(), 0)]
                .concat();
        fill(&mut code, &[(Constant::IoptIoasId, 12u64.wrapping_neg())]);
        let immediates: Vec<u64> = code.chunks_exact(16).map(immediate).collect();
        assert_eq!(immediates, [12u64.wrapping_neg(), 7, placeholder, 0]);
    }
}
