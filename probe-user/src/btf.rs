//! Just enough of BTF (`Documentation/bpf/btf.rst`, Linux 7.3) to find functions and members by name: in a
//! kernel's `.BTF` section or in `/sys/kernel/btf`. Little-endian only, as are all machines that
//! iommufd's users have. Trusts no offset.

use std::collections::BTreeMap;

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_FUNC: u32 = 12;
/// Anonymous structures are followed so deep.
const DEEPEST: u32 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    #[error("no BTF header")]
    Header,
    #[error("BTF ends in the middle of {0}")]
    Truncated(&'static str),
    #[error("BTF has a type of kind {0}, which this version does not know")]
    Kind(u32),
}

/// The two sections of one BTF blob.
#[derive(Clone, Copy)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Btf<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let magic = bytes.first_chunk().ok_or(BtfError::Header)?;
        if u16::from_le_bytes(*magic) != MAGIC {
            return Err(BtfError::Header);
        }
        let field = |offset| word(bytes, offset).ok_or(BtfError::Header);
        // hdr_len, type_off, type_len, str_off, str_len.
        let header = field(4)?;
        let section = |offset, length, what| {
            let start = header.checked_add(offset).ok_or(BtfError::Truncated(what))?;
            let end = start.checked_add(length).ok_or(BtfError::Truncated(what))?;
            bytes.get(start as usize..end as usize).ok_or(BtfError::Truncated(what))
        };
        Ok(Self {
            types: section(field(8)?, field(12)?, "its types")?,
            strings: section(field(16)?, field(20)?, "its strings")?,
        })
    }

    /// Type ids of those of `wanted` that are functions here. A module's BTF counts its strings and
    /// types on from vmlinux's, which is then the `base`.
    pub fn functions<'w>(
        &self,
        base: Option<&Btf<'_>>,
        wanted: &[&'w str],
    ) -> Result<BTreeMap<&'w str, u32>, BtfError> {
        let first = first_id(base)?;
        let mut found = BTreeMap::new();
        self.each_type(|place, kind, name, _| {
            if kind == KIND_FUNC {
                let name = wanted.iter().find(|wanted| self.string_is(base, name, wanted));
                found.extend(name.map(|name| (*name, first + place)));
            }
        })?;
        Ok(found)
    }

    /// Bytes from the beginning of a structure to a member of it, also of an anonymous structure in
    /// it; `None` where there is no such structure or member, or it is a bit field.
    pub fn member(
        &self,
        base: Option<&Btf<'_>>,
        structure: &str,
        member: &str,
    ) -> Result<Option<u32>, BtfError> {
        let mut members = Vec::new();
        self.each_type(|_, kind, name, body| {
            if kind == KIND_STRUCT && self.string_is(base, name, structure) {
                members.push(body);
            }
        })?;
        for body in members {
            if let Some(bits) = self.member_in(base, body, member, DEEPEST)? {
                return Ok((bits % 8 == 0).then_some(bits / 8));
            }
        }
        Ok(None)
    }

    /// The place of a member among `members`, in bits.
    fn member_in(
        &self,
        base: Option<&Btf<'_>>,
        members: &[u8],
        wanted: &str,
        depth: u32,
    ) -> Result<Option<u32>, BtfError> {
        for member in members.chunks_exact(12) {
            let field = |offset| word(member, offset).ok_or(BtfError::Truncated("a member"));
            // The upper byte is the size of a bit field, 0 of any other member.
            let (name, kind, place) = (field(0)?, field(4)?, field(8)? & 0x00ff_ffff);
            if name != 0 {
                if self.string_is(base, name as usize, wanted) {
                    return Ok(Some(place));
                }
            } else if depth > 0
                && let Some(inner) = self.members_of(base, kind)?
                && let Some(inner) = self.member_in(base, inner, wanted, depth - 1)?
            {
                return Ok(Some(place + inner));
            }
        }
        Ok(None)
    }

    /// The members of a structure or union by its id, which is counted on from the base's.
    fn members_of<'b>(&'b self, base: Option<&'b Btf<'_>>, id: u32) -> Result<Option<&'b [u8]>, BtfError> {
        let first = first_id(base)?;
        let (btf, place) = match (base, id.checked_sub(first)) {
            (_, Some(place)) => (self, place),
            (Some(base), None) => (base, id.saturating_sub(1)),
            (None, None) => return Ok(None),
        };
        let mut found = None;
        btf.each_type(|at, kind, _, body| {
            if at == place && matches!(kind, KIND_STRUCT | KIND_UNION) {
                found = Some(body);
            }
        })?;
        Ok(found)
    }

    /// Every type: its place, its kind, where its name is, and what follows the common words.
    fn each_type<'b>(&'b self, mut visit: impl FnMut(u32, u32, usize, &'b [u8])) -> Result<(), BtfError> {
        let mut rest = self.types;
        let mut place = 0;
        while !rest.is_empty() {
            let truncated = BtfError::Truncated("a type");
            let (Some(name), Some(info)) = (word(rest, 0), word(rest, 4)) else {
                return Err(truncated);
            };
            // Linux 7.3; older kernels have fewer bits for both, and zeroes in the rest.
            let kind = (info >> 24) & 0x7f;
            let extra = trailing_bytes(kind, (info & 0x00ff_ffff) as usize)?;
            let body = rest.get(12..12 + extra).ok_or(truncated)?;
            rest = &rest[12 + extra..];
            visit(place, kind, name as usize, body);
            place += 1;
        }
        Ok(())
    }

    /// Whether the string at `offset` is `wanted`; strings of the base come before ours.
    fn string_is(&self, base: Option<&Btf<'_>>, offset: usize, wanted: &str) -> bool {
        let before = base.map_or(0, |base| base.strings.len());
        let string = match (base, offset.checked_sub(before)) {
            (_, Some(offset)) => self.strings.get(offset..),
            (Some(base), None) => base.strings.get(offset..),
            (None, None) => None,
        };
        let string = string.unwrap_or_default();
        string.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Whether any string is exactly `name`: for enumerators, whose owner does not matter.
    pub fn has_string(&self, name: &str) -> bool {
        self.strings.split(|byte| *byte == 0).any(|string| string == name.as_bytes())
    }
}

/// The id of the first type: 0 is void, and a module's come after its base's.
fn first_id(base: Option<&Btf<'_>>) -> Result<u32, BtfError> {
    let mut first = 1;
    if let Some(base) = base {
        base.each_type(|_, _, _, _| first += 1)?;
    }
    Ok(first)
}

/// The bytes after the three common words of a type, by its kind (`struct btf_type`).
fn trailing_bytes(kind: u32, members: usize) -> Result<usize, BtfError> {
    match kind {
        // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
        2 | 7..=12 | 16 | 18 => Ok(0),
        // INT, VAR, DECL_TAG
        1 | 14 | 17 => Ok(4),
        // ARRAY
        3 => Ok(12),
        // STRUCT, UNION, DATASEC, ENUM64
        4 | 5 | 15 | 19 => Ok(12 * members),
        // ENUM, FUNC_PROTO
        6 | 13 => Ok(8 * members),
        _ => Err(BtfError::Kind(kind)),
    }
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

/// A blob with one prototype and `functions`, for this crate's tests.
#[cfg(test)]
pub(crate) fn blob(functions: &[&str], base_strings: usize) -> Vec<u8> {
    let mut strings = if base_strings == 0 { vec![0] } else { Vec::new() };
    let mut types = Vec::new();
    let mut push = |words: &[u32]| types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    // FUNC_PROTO with two parameters: something to skip.
    push(&[0, (13 << 24) | 2, 0, 0, 0, 0, 0]);
    for name in functions {
        let offset = u32::try_from(base_strings + strings.len()).unwrap();
        strings.extend(name.bytes().chain([0]));
        push(&[offset, 12 << 24, 1]);
    }
    let mut bytes = Vec::new();
    bytes.extend(MAGIC.to_le_bytes());
    bytes.extend([1, 0]);
    let (types_len, strings_len) =
        (u32::try_from(types.len()).unwrap(), u32::try_from(strings.len()).unwrap());
    for word in [24, 0, types_len, types_len, strings_len] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(types);
    bytes.extend(strings);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: [&str; 2] = ["iopt_get_phys", "iommufd_fops_ioctl"];

    #[test]
    fn functions_are_found_by_their_whole_name() {
        let bytes = blob(&["iopt_get_phys", "iommufd_fops_ioctl_not", "main"], 0);
        let btf = Btf::parse(&bytes).expect("good");
        assert_eq!(btf.functions(None, &WANTED).expect("good"), BTreeMap::from([("iopt_get_phys", 2)]));
        assert!(btf.has_string("main") && !btf.has_string("mai"));
    }

    #[test]
    fn a_modules_names_count_on_from_the_kernels() {
        let kernel = blob(&["iommufd_fops_ioctl"], 0);
        let kernel = Btf::parse(&kernel).expect("good");
        let module = blob(&["iopt_get_phys"], kernel.strings.len());
        let module = Btf::parse(&module).expect("good");
        // After the kernel's prototype and function and the module's prototype.
        let found = module.functions(Some(&kernel), &WANTED).expect("good");
        assert_eq!(found, BTreeMap::from([("iopt_get_phys", 4)]));
        assert!(module.functions(None, &WANTED).expect("good").is_empty());
    }

    /// A structure `outer` with an unnamed one around `inner` at byte 16, and `plain` at byte 8.
    fn structures() -> Vec<u8> {
        let strings = b"\0outer\0inner\0plain\0";
        let words: [u32; 15] = [
            // struct (unnamed) { inner at bit 32 }
            0,
            (4 << 24) | 1,
            8,
            7,
            0,
            32,
            // struct outer { plain at bit 64; (unnamed) at bit 128 }
            1,
            (4 << 24) | 2,
            24,
            13,
            0,
            64,
            0,
            1,
            128,
        ];
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend([1, 0]);
        let (types, names) = (4 * 15, u32::try_from(strings.len()).unwrap());
        for word in [24, 0, types, types, names].into_iter().chain(words) {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_in_unnamed_structures_too() {
        let bytes = structures();
        let btf = Btf::parse(&bytes).expect("good");
        let member = |structure, member| btf.member(None, structure, member).expect("good");
        assert_eq!(member("outer", "plain"), Some(8));
        assert_eq!(member("outer", "inner"), Some(16 + 4));
        assert_eq!(member("outer", "other"), None);
        assert_eq!(member("inner", "plain"), None);
    }

    #[test]
    fn cut_and_damaged_blobs_are_errors() {
        let bytes = blob(&["iopt_get_phys"], 0);
        for length in 0..bytes.len() {
            let outcome = Btf::parse(&bytes[..length]).and_then(|btf| btf.functions(None, &WANTED));
            assert!(outcome.is_err(), "{length} bytes");
        }
        let mut damaged = bytes.clone();
        damaged[24 + 7] = 31;
        assert_eq!(
            Btf::parse(&damaged).and_then(|btf| btf.functions(None, &WANTED)),
            Err(BtfError::Kind(31))
        );
        let mut far = bytes;
        far[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Btf::parse(&far).is_err());
    }
}
