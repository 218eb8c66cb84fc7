//! GET_PA calls that fail on purpose: one table of what is wrong with each and what the kernel says.

use std::str::FromStr;

use rustix::io::Errno;

use super::abi::Abi;
use super::iommufd::{IoasId, Query};
use super::outcome::Outcome;
use super::quantity::Iova;

/// One way to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Unmapped,
    ZeroLength,
    BadIoas,
    Flags,
    Overflow,
}

/// What a version of the ABI answers to a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Outcome(Outcome),
    /// No version of the source was read that says.
    Unknown,
}

/// How many calls of each fault to issue: `unmapped=100,flags=10`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultPlan(Vec<(Fault, u64)>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    #[error("`{0}`: write NAME=COUNT")]
    Form(String),
    #[error("`{name}` is no known failure; there are {}", names())]
    Name { name: String },
    #[error("`{0}` is not a count")]
    Count(String),
}

fn names() -> String {
    Fault::ALL.map(Fault::name).join(", ")
}

impl Fault {
    pub const ALL: [Self; 5] = [Self::Unmapped, Self::ZeroLength, Self::BadIoas, Self::Flags, Self::Overflow];

    pub fn name(self) -> &'static str {
        match self {
            Self::Unmapped => "unmapped",
            Self::ZeroLength => "zero-length",
            Self::BadIoas => "bad-ioas",
            Self::Flags => "flags",
            Self::Overflow => "overflow",
        }
    }

    /// `good`, a query that would succeed at the start of the buffer, made wrong; `end` is the first
    /// IOVA after the buffer.
    pub fn spoil(self, good: Query, end: Iova) -> Query {
        match self {
            Self::Unmapped => Query { iova: end, ..good },
            Self::ZeroLength => Query { length: 0, ..good },
            Self::BadIoas => Query { ioas: IoasId(u32::MAX), ..good },
            Self::Flags => Query { flags: 1, ..good },
            Self::Overflow => Query { iova: Iova(u64::MAX), ..good },
        }
    }

    /// From `iommufd_ioas_noiommu_get_pa` and `iopt_get_phys`: Linux 7.3 for the merged ABI, the patch
    /// for v5. Where the ioctl is off, or not permitted, nothing else is looked at.
    pub fn expected(self, abi: Abi) -> Expected {
        let errno = |errno: Errno| Expected::Outcome(errno.into());
        match (abi, self) {
            (Abi::Off, _) => errno(Errno::OPNOTSUPP),
            (Abi::Absent, _) => errno(Errno::NOTTY),
            (Abi::NotPermitted, _) => errno(Errno::PERM),
            (Abi::Merged, Self::ZeroLength) => errno(Errno::INVAL),
            (_, Self::ZeroLength) => Expected::Outcome(Outcome::Ok),
            (_, Self::Unmapped | Self::BadIoas) | (Abi::V5, Self::Overflow) => errno(Errno::NOENT),
            (_, Self::Flags) => errno(Errno::OPNOTSUPP),
            (Abi::Merged, Self::Overflow) => errno(Errno::OVERFLOW),
            (_, Self::Overflow) => Expected::Unknown,
        }
    }
}

impl FaultPlan {
    /// The faults with their counts, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Thread `index` of `threads`' share, faults taking turns so that none comes in one block.
    pub fn share(&self, index: u64, threads: u64) -> Vec<Fault> {
        let mut left: Vec<(Fault, u64)> = self
            .iter()
            .map(|(fault, count)| (fault, count / threads + u64::from(index < count % threads)))
            .collect();
        let mut order = Vec::new();
        while left.iter().any(|(_, count)| *count > 0) {
            for (fault, count) in left.iter_mut().filter(|(_, count)| *count > 0) {
                *count -= 1;
                order.push(*fault);
            }
        }
        order
    }
}

impl FromStr for FaultPlan {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut plan: Vec<(Fault, u64)> = Vec::new();
        for part in text.split(',') {
            let (name, count) = part.split_once('=').ok_or_else(|| FaultError::Form(part.to_owned()))?;
            let fault = Fault::ALL
                .into_iter()
                .find(|fault| fault.name() == name.trim())
                .ok_or_else(|| FaultError::Name { name: name.to_owned() })?;
            let count = count.trim().parse().map_err(|_| FaultError::Count(count.to_owned()))?;
            match plan.iter_mut().find(|(known, _)| *known == fault) {
                Some((_, sum)) => *sum += count,
                None => plan.push((fault, count)),
            }
        }
        Ok(Self(plan))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read() {
        let plan: FaultPlan = "unmapped=100, zero-length=50,flags=1,flags=2".parse().expect("good");
        let expected = [(Fault::Unmapped, 100), (Fault::ZeroLength, 50), (Fault::Flags, 3)];
        assert!(plan.iter().eq(expected));
    }

    #[test]
    fn a_bad_list_says_what_is_wrong() {
        assert_eq!("unmapped".parse::<FaultPlan>(), Err(FaultError::Form("unmapped".to_owned())));
        assert_eq!("flags=x".parse::<FaultPlan>(), Err(FaultError::Count("x".to_owned())));
        let error = "eio=3".parse::<FaultPlan>().expect_err("unknown");
        assert!(error.to_string().contains("unmapped, zero-length, bad-ioas"), "{error}");
    }

    #[test]
    fn shares_add_up_and_take_turns() {
        let plan: FaultPlan = "unmapped=5,flags=2".parse().expect("good");
        let shares: Vec<_> = (0..3).map(|index| plan.share(index, 3)).collect();
        assert_eq!(shares.iter().map(Vec::len).sum::<usize>(), 7);
        assert_eq!(shares[0], [Fault::Unmapped, Fault::Flags, Fault::Unmapped]);
        assert_eq!(shares[2], [Fault::Unmapped]);
    }

    #[test]
    fn each_fault_changes_one_thing() {
        let good = Query { ioas: IoasId(3), flags: 0, iova: Iova(0x1000), length: 4096 };
        let spoilt = |fault: Fault| fault.spoil(good, Iova(0x9000));
        assert_eq!(spoilt(Fault::Unmapped).iova, Iova(0x9000));
        assert_eq!(spoilt(Fault::ZeroLength).length, 0);
        assert_eq!(spoilt(Fault::BadIoas).ioas, IoasId(u32::MAX));
        assert_eq!(spoilt(Fault::Flags).flags, 1);
        assert_eq!(spoilt(Fault::Overflow).iova, Iova(u64::MAX));
    }

    #[test]
    fn the_merged_abi_has_an_errno_for_each() {
        let names = Fault::ALL.map(|fault| match fault.expected(Abi::Merged) {
            Expected::Outcome(outcome) => outcome.name(),
            Expected::Unknown => "?".to_owned(),
        });
        assert_eq!(names, ["ENOENT", "EINVAL", "ENOENT", "EOPNOTSUPP", "EOVERFLOW"]);
        assert_eq!(Fault::ZeroLength.expected(Abi::V5), Expected::Outcome(Outcome::Ok));
    }
}
