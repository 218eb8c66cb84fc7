//! Counts by bucket, shared until they change.
//!
//! Samples are cumulative, and between two of them most distributions stand still: copies of one share their
//! counts, and the difference of two that share them is seen without looking at any.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Values per bucket; only buckets with values. A copy costs nothing; it is made when one side changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Buckets(Arc<BTreeMap<u32, u64>>);

impl Buckets {
    /// No values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether both are the same counts, not only equal ones.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What was counted since `older`. Buckets that are only in `older` are left out; a count that is smaller
    /// than the older one has wrapped.
    pub(crate) fn since(&self, older: &Self) -> Self {
        if older.is_empty() {
            return self.clone();
        }
        if self.is_shared_with(older) {
            return Self::new();
        }
        // Both ascend: one pass over each.
        let mut before = older.iter().peekable();
        let mut moved = Vec::new();
        for (&index, &count) in self {
            while before.next_if(|&(&earlier, _)| earlier < index).is_some() {}
            let known = before.next_if(|&(&same, _)| same == index).map_or(0, |(_, &count)| count);
            if count != known {
                moved.push((index, count.wrapping_sub(known)));
            }
        }
        moved.into_iter().collect()
    }
}

impl Deref for Buckets {
    type Target = BTreeMap<u32, u64>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Buckets {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::make_mut(&mut self.0)
    }
}

impl<'a> IntoIterator for &'a Buckets {
    type Item = (&'a u32, &'a u64);
    type IntoIter = std::collections::btree_map::Iter<'a, u32, u64>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl FromIterator<(u32, u64)> for Buckets {
    fn from_iter<I: IntoIterator<Item = (u32, u64)>>(counts: I) -> Self {
        Self(Arc::new(counts.into_iter().collect()))
    }
}

impl<const N: usize> From<[(u32, u64); N]> for Buckets {
    fn from(counts: [(u32, u64); N]) -> Self {
        counts.into_iter().collect()
    }
}

impl From<BTreeMap<u32, u64>> for Buckets {
    fn from(counts: BTreeMap<u32, u64>) -> Self {
        Self(Arc::new(counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_copy_shares_until_one_of_them_changes() {
        let ours = Buckets::from([(3, 1)]);
        let mut theirs = ours.clone();
        assert!(theirs.is_shared_with(&ours));
        assert!(theirs.since(&ours).is_empty());
        theirs.insert(3, 2);
        assert!(!theirs.is_shared_with(&ours));
        assert_eq!((ours[&3], theirs[&3]), (1, 2));
        assert_eq!(theirs.since(&ours), Buckets::from([(3, 1)]));
    }

    proptest! {
        #[test]
        fn a_difference_is_that_of_each_bucket(
            newer in prop::collection::btree_map(0u32..40, 0u64..4, 0..30),
            older in prop::collection::btree_map(0u32..40, 0u64..4, 0..30),
        ) {
            // A bucket without values is not held.
            let held = |mut counts: BTreeMap<u32, u64>| {
                counts.retain(|_, count| *count > 0);
                counts
            };
            let (newer, older) = (held(newer), held(older));
            let mut expected = newer.clone();
            for (index, count) in &mut expected {
                *count = count.wrapping_sub(older.get(index).copied().unwrap_or(0));
            }
            let moved = Buckets::from(newer).since(&Buckets::from(older));
            prop_assert_eq!(&*moved, &held(expected));
        }
    }
}
