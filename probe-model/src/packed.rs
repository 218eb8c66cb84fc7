//! Bucket counts as bytes: pairs of LEB128 numbers, the gap to the bucket before and the count. What a
//! recording is mostly made of takes one or two bytes a bucket; forms for people keep the map.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserializer, Serialize, Serializer};

use crate::buckets::Buckets;

pub(crate) fn serialize<S: Serializer>(buckets: &Buckets, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        return (**buckets).serialize(serializer);
    }
    let mut bytes = Vec::with_capacity(2 * buckets.len());
    let mut before = 0;
    for (&index, &count) in buckets {
        put(&mut bytes, u64::from(index - before));
        put(&mut bytes, count);
        before = index;
    }
    serializer.serialize_bytes(&bytes)
}

/// Takes both forms: format 1 of recordings has maps.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Buckets, D::Error> {
    deserializer.deserialize_any(Both)
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(low_byte(number | 0x80));
        number >>= 7;
    }
    bytes.push(low_byte(number));
}

fn low_byte(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

/// The next number; `None` where there is none, or one beyond 64 bits.
fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if part.leading_zeros() < shift {
            return None;
        }
        number |= part << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

struct Both;

impl<'de> Visitor<'de> for Both {
    type Value = Buckets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counts by bucket, as a map or as packed bytes")
    }

    fn visit_bytes<E: Error>(self, mut bytes: &[u8]) -> Result<Buckets, E> {
        let mut buckets = Buckets::new();
        let mut before = 0u32;
        while !bytes.is_empty() {
            let pair = take(&mut bytes).zip(take(&mut bytes));
            let (gap, count) = pair.ok_or_else(|| E::custom("bucket counts that are cut off"))?;
            let index = u32::try_from(gap).ok().and_then(|gap| before.checked_add(gap));
            before = index.ok_or_else(|| E::custom("a bucket number beyond 32 bits"))?;
            if buckets.insert(before, count).is_some() {
                return Err(E::custom("a bucket that is there twice"));
            }
        }
        Ok(buckets)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Buckets, A::Error> {
        let mut buckets = Buckets::new();
        while let Some((index, count)) = map.next_entry()? {
            buckets.insert(index, count);
        }
        Ok(buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(buckets in prop::collection::btree_map(any::<u32>(), any::<u64>(), 0..50)) {
            let mut bytes = Vec::new();
            let mut before = 0;
            for (&index, &count) in &buckets {
                put(&mut bytes, u64::from(index - before));
                put(&mut bytes, count);
                before = index;
            }
            let unpacked = Both.visit_bytes::<serde::de::value::Error>(&bytes);
            prop_assert_eq!(unpacked, Ok(buckets.into()));
        }

        #[test]
        fn any_bytes_are_counts_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Both.visit_bytes::<serde::de::value::Error>(&bytes);
        }
    }
}
