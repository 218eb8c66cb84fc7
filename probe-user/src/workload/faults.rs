//! GET_PA calls that fail on purpose: one table of what is wrong with each and what the kernel says.

use std::str::FromStr;

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::abi::Abi;
use super::iommufd::{Answer, Bend, IoasId, Iommufd, Query};
use super::outcome::{Command, Outcome};
use super::quantity::Iova;

/// One way to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The IOVA after the buffer.
    Unmapped,
    ZeroLength,
    /// An id of no object.
    BadIoas,
    Flags,
    Reserved,
    /// The last IOVA there is.
    Overflow,
    /// Without `CAP_SYS_RAWIO`, which this thread gives up for the call.
    NoPermission,
    /// A structure that is too short, longer than the kernel's, or not there.
    Short,
    Long,
    BadPointer,
    /// An ioctl number that iommufd does not have.
    NoIoctl,
}

/// What a version of the ABI answers to a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Outcome(Outcome),
    /// No version of the source was read that says.
    Unknown,
}

/// How many calls of a fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// So many, on top of the good ones.
    Count(u64),
    /// This share of all calls: above 0, below 1.
    Share(f64),
}

/// How many calls of each fault to issue: `unmapped=100,flags=2%`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FaultPlan(Vec<(Fault, Amount)>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    #[error("`{0}`: write NAME=COUNT or NAME=SHARE%")]
    Form(String),
    #[error("`{name}` is no known failure; there are {}", Fault::names())]
    Name { name: String },
    #[error("`{0}` is neither a count nor a share such as 2.5%")]
    Amount(String),
    #[error("{0} is named twice")]
    Twice(&'static str),
    #[error("the shares leave no good calls: together they must be below 100%")]
    Shares,
}

impl Fault {
    pub const ALL: [Self; 11] = [
        Self::Unmapped,
        Self::ZeroLength,
        Self::BadIoas,
        Self::Flags,
        Self::Reserved,
        Self::Overflow,
        Self::NoPermission,
        Self::Short,
        Self::Long,
        Self::BadPointer,
        Self::NoIoctl,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Unmapped => "unmapped",
            Self::ZeroLength => "zero-length",
            Self::BadIoas => "bad-ioas",
            Self::Flags => "flags",
            Self::Reserved => "reserved",
            Self::Overflow => "overflow",
            Self::NoPermission => "no-permission",
            Self::Short => "short",
            Self::Long => "long",
            Self::BadPointer => "bad-pointer",
            Self::NoIoctl => "no-ioctl",
        }
    }

    /// All names, for the help.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Under which command it is counted.
    pub fn command(self) -> Command {
        if self == Self::NoIoctl { Command::Unknown } else { Command::GetPa }
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
            _ => good,
        }
    }

    /// Issue it.
    pub fn provoke(self, iommufd: &Iommufd, query: Query) -> Result<Answer, Errno> {
        let bend = match self {
            Self::Reserved => Bend::Reserved,
            Self::Short => Bend::Short,
            Self::Long => Bend::Long,
            Self::BadPointer => Bend::Pointer,
            Self::NoIoctl => Bend::Number,
            Self::NoPermission => return without_rawio(|| iommufd.get_pa_uncounted(query)),
            _ => return iommufd.get_pa_uncounted(query),
        };
        iommufd.get_pa_bent(query, bend)
    }

    /// From `iommufd_fops_ioctl`, `iommufd_ioas_noiommu_get_pa` and `iopt_get_phys`: Linux 7.3 for the
    /// merged ABI, the patch for v5. Where the ioctl is off, or not permitted, its fields are not looked at.
    pub fn expected(self, abi: Abi) -> Expected {
        let errno = |errno: Errno| Expected::Outcome(errno.into());
        match (abi, self) {
            (_, Self::NoIoctl) | (Abi::Absent, _) => errno(Errno::NOTTY),
            (_, Self::BadPointer) => errno(Errno::FAULT),
            (_, Self::Short) | (Abi::Merged, Self::ZeroLength) => errno(Errno::INVAL),
            (_, Self::Long) => errno(Errno::TOOBIG),
            (Abi::Off, _) | (_, Self::Flags | Self::Reserved) => errno(Errno::OPNOTSUPP),
            (Abi::NotPermitted, _) | (_, Self::NoPermission) => errno(Errno::PERM),
            (_, Self::ZeroLength) => Expected::Outcome(Outcome::Ok),
            (_, Self::Unmapped | Self::BadIoas) | (Abi::V5, Self::Overflow) => errno(Errno::NOENT),
            (Abi::Merged, Self::Overflow) => errno(Errno::OVERFLOW),
            (_, Self::Overflow) => Expected::Unknown,
        }
    }
}

/// Run `call` while this thread lacks `CAP_SYS_RAWIO` in its effective set; other threads keep theirs.
fn without_rawio<T>(call: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let all = capabilities(None)?;
    let less = CapabilitySets { effective: all.effective - CapabilitySet::SYS_RAWIO, ..all };
    set_capabilities(None, less)?;
    let result = call();
    // It stays permitted, so it can be taken back.
    set_capabilities(None, all)?;
    result
}

impl FaultPlan {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults with their amounts, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (Fault, Amount)> + '_ {
        self.0.iter().copied()
    }

    /// Counted faults of thread `index` of `threads`, taking turns so that none comes in one block.
    pub fn share(&self, index: u64, threads: u64) -> Vec<Fault> {
        let counted = self.iter().filter_map(|(fault, amount)| match amount {
            Amount::Count(count) => Some((fault, count)),
            Amount::Share(_) => None,
        });
        let mut left: Vec<(Fault, u64)> = counted
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

    /// Faults given as shares, each with the good calls between two of it.
    pub fn periods(&self) -> Vec<(Fault, f64)> {
        let shares = || {
            self.iter().filter_map(|(fault, amount)| match amount {
                Amount::Share(share) => Some((fault, share)),
                Amount::Count(_) => None,
            })
        };
        let good = 1.0 - shares().map(|(_, share)| share).sum::<f64>();
        shares().map(|(fault, share)| (fault, good / share)).collect()
    }
}

impl FromStr for Amount {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || FaultError::Amount(text.to_owned());
        match text.strip_suffix('%') {
            Some(percent) => {
                let share = percent.trim().parse::<f64>().map_err(|_| bad())? / 100.0;
                if share > 0.0 && share < 1.0 { Ok(Self::Share(share)) } else { Err(bad()) }
            }
            None => text.parse().map(Self::Count).map_err(|_| bad()),
        }
    }
}

impl FromStr for FaultPlan {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut plan: Vec<(Fault, Amount)> = Vec::new();
        for part in text.split(',') {
            let (name, amount) = part.split_once('=').ok_or_else(|| FaultError::Form(part.to_owned()))?;
            let fault = Fault::ALL
                .into_iter()
                .find(|fault| fault.name() == name.trim())
                .ok_or_else(|| FaultError::Name { name: name.to_owned() })?;
            if plan.iter().any(|(known, _)| *known == fault) {
                return Err(FaultError::Twice(fault.name()));
            }
            plan.push((fault, amount.trim().parse()?));
        }
        let plan = Self(plan);
        if plan.periods().iter().any(|(_, period)| *period <= 0.0) {
            return Err(FaultError::Shares);
        }
        Ok(plan)
    }
}

/// When a thread issues which fault: counted ones spread over its good calls, shares at their period.
#[derive(Debug)]
pub struct Turns {
    /// Counted ones still to come, the next one last, every `gap` good calls.
    counted: Vec<Fault>,
    gap: u64,
    next_counted: u64,
    /// Shares: the fault, its period in good calls, and how many were issued.
    shares: Vec<(Fault, f64, u64)>,
    /// The good call after which something is due.
    pub due: u64,
}

impl Turns {
    /// Of thread `index`; `quota`: good calls it will make, where that is known.
    pub fn new(plan: &FaultPlan, index: u64, threads: u64, quota: Option<u64>) -> Self {
        let counted = plan.share(index, threads);
        let gap = quota.map_or(1, |quota| quota / (counted.len() as u64 + 1)).max(1);
        let shares = plan.periods().into_iter().map(|(fault, period)| (fault, period, 0)).collect();
        let mut turns = Self { counted, gap, next_counted: gap, shares, due: u64::MAX };
        turns.look_ahead();
        turns
    }

    /// The fault that is due after `done` good calls; ask until there is none.
    pub fn take(&mut self, done: u64) -> Option<Fault> {
        let taken = if done >= self.next_counted && !self.counted.is_empty() {
            self.next_counted += self.gap;
            self.counted.pop()
        } else {
            let due = |(_, period, issued): &&mut (Fault, f64, u64)| next(*period, *issued) <= done;
            self.shares.iter_mut().find(due).map(|(fault, _, issued)| {
                *issued += 1;
                *fault
            })
        };
        self.look_ahead();
        taken
    }

    /// A counted one that is left after the last good call.
    pub fn left_over(&mut self) -> Option<Fault> {
        self.counted.pop()
    }

    fn look_ahead(&mut self) {
        let counted = if self.counted.is_empty() { u64::MAX } else { self.next_counted };
        let shares = self.shares.iter().map(|(_, period, issued)| next(*period, *issued));
        self.due = shares.fold(counted, u64::min);
    }
}

/// After how many good calls the next fault of a share is due. By multiplication: sums would drift.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive; saturates")]
fn next(period: f64, issued: u64) -> u64 {
    (period * (issued + 1) as f64).floor().max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read() {
        let plan: FaultPlan = "unmapped=100, zero-length=2.5%,flags=1".parse().expect("good");
        let expected = [
            (Fault::Unmapped, Amount::Count(100)),
            (Fault::ZeroLength, Amount::Share(0.025)),
            (Fault::Flags, Amount::Count(1)),
        ];
        assert!(plan.iter().eq(expected));
    }

    #[test]
    fn a_bad_list_says_what_is_wrong() {
        assert_eq!("unmapped".parse::<FaultPlan>(), Err(FaultError::Form("unmapped".to_owned())));
        for amount in ["x", "0%", "100%", "-1%", "1.5"] {
            let error = format!("flags={amount}").parse::<FaultPlan>();
            assert_eq!(error, Err(FaultError::Amount(amount.to_owned())));
        }
        assert_eq!("flags=1,flags=2%".parse::<FaultPlan>(), Err(FaultError::Twice("flags")));
        assert_eq!("flags=60%,reserved=40%".parse::<FaultPlan>(), Err(FaultError::Shares));
        let error = "eio=3".parse::<FaultPlan>().expect_err("unknown");
        assert!(error.to_string().contains("zero-length, bad-ioas"), "{error}");
    }

    #[test]
    fn threads_share_the_counts() {
        let plan: FaultPlan = "unmapped=3,flags=2".parse().expect("good");
        let (first, second) = (plan.share(0, 2), plan.share(1, 2));
        assert_eq!(first, [Fault::Unmapped, Fault::Flags, Fault::Unmapped]);
        assert_eq!(second, [Fault::Unmapped, Fault::Flags]);
    }

    /// Faults among the first `good` calls of the only thread.
    fn issued(plan: &str, good: u64) -> Vec<Fault> {
        let mut turns = Turns::new(&plan.parse().expect("good"), 0, 1, Some(good));
        let mut issued = Vec::new();
        for done in 1..=good {
            while done >= turns.due {
                issued.extend(turns.take(done));
            }
        }
        issued.extend(std::iter::from_fn(|| turns.left_over()));
        issued
    }

    #[test]
    fn shares_are_kept_and_counts_are_issued_to_the_last() {
        let all = issued("unmapped=7,flags=10%,reserved=2%", 8800);
        let count = |wanted: Fault| all.iter().filter(|fault| **fault == wanted).count();
        assert_eq!(count(Fault::Unmapped), 7);
        // 8,800 good calls are 88 % of 10,000.
        assert_eq!((count(Fault::Flags), count(Fault::Reserved)), (1000, 200));
        assert_eq!(issued("unmapped=9", 3).len(), 9);
        assert!(Turns::new(&FaultPlan::default(), 0, 1, None).due == u64::MAX);
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
        let expected = [
            "ENOENT",
            "EINVAL",
            "ENOENT",
            "EOPNOTSUPP",
            "EOPNOTSUPP",
            "EOVERFLOW",
            "EPERM",
            "EINVAL",
            "E2BIG",
            "EFAULT",
            "ENOTTY",
        ];
        assert_eq!(names, expected);
        assert_eq!(Fault::ZeroLength.expected(Abi::V5), Expected::Outcome(Outcome::Ok));
    }
}
