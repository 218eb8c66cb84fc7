//! Just enough of BTF (`Documentation/bpf/btf.rst`, Linux 7.3) to find functions by name: in a
//! kernel's `.BTF` section or in `/sys/kernel/btf`. Little-endian only, as are all machines that
//! iommufd's users have. Trusts no offset.

use std::collections::BTreeMap;

const MAGIC: u16 = 0xeb9f;
const KIND_FUNC: u32 = 12;

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
        let base_strings = base.map_or(0, |base| base.strings.len());
        let mut first = 1; // Id 0 is void.
        if let Some(base) = base {
            base.each_type(|_, _, _| first += 1)?;
        }
        let mut found = BTreeMap::new();
        self.each_type(|place, kind, name| {
            if let (KIND_FUNC, Some(offset)) = (kind, name.checked_sub(base_strings)) {
                let name = wanted.iter().find(|wanted| self.string_is(offset, wanted));
                found.extend(name.map(|name| (*name, first + place)));
            }
        })?;
        Ok(found)
    }

    /// Every type: its place, its kind, and where its name is.
    fn each_type(&self, mut visit: impl FnMut(u32, u32, usize)) -> Result<(), BtfError> {
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
            rest = rest.get(12 + extra..).ok_or(truncated)?;
            visit(place, kind, name as usize);
            place += 1;
        }
        Ok(())
    }

    fn string_is(&self, offset: usize, wanted: &str) -> bool {
        let string = self.strings.get(offset..).unwrap_or_default();
        string.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Whether any string is exactly `name`: for enumerators, whose owner does not matter.
    pub fn has_string(&self, name: &str) -> bool {
        self.strings.split(|byte| *byte == 0).any(|string| string == name.as_bytes())
    }
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
