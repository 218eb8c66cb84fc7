//! What an ioctl was and how it ended, under the names the kernel's headers use.

use std::collections::BTreeMap;

use probe_model::errno;
use rustix::io::Errno;

/// An iommufd ioctl this driver issues. The name is the UAPI's without `IOMMU_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    Destroy,
    IoasAlloc,
    IoasMap,
    IoasUnmap,
    Option,
    HwptAlloc,
    IoasMapFile,
    GetPa,
    /// A number of no ioctl, issued on purpose.
    Unknown,
}

/// How one ioctl ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Ok,
    /// The errno, positive.
    Failed(i32),
}

/// Every iommufd ioctl that was issued, by command and outcome. The VFIO ioctls on the device's file
/// (bind, attach, detach) are not here: they do not pass through `iommufd_fops_ioctl`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger(BTreeMap<(Command, Outcome), u64>);

impl Command {
    pub fn name(self) -> &'static str {
        match self {
            Self::Destroy => "DESTROY",
            Self::IoasAlloc => "IOAS_ALLOC",
            Self::IoasMap => "IOAS_MAP",
            Self::IoasUnmap => "IOAS_UNMAP",
            Self::Option => "OPTION",
            Self::HwptAlloc => "HWPT_ALLOC",
            Self::IoasMapFile => "IOAS_MAP_FILE",
            Self::GetPa => "IOAS_NOIOMMU_GET_PA",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl From<Errno> for Outcome {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno.raw_os_error())
    }
}

impl<T> From<&Result<T, Errno>> for Outcome {
    fn from(result: &Result<T, Errno>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(errno) => (*errno).into(),
        }
    }
}

impl Outcome {
    /// `ok`, the errno's name, or its number where this table has no name.
    pub fn name(self) -> String {
        match self {
            Self::Ok => "ok".to_owned(),
            Self::Failed(errno) => errno::name(errno.unsigned_abs()),
        }
    }
}

impl Ledger {
    pub fn add(&mut self, command: Command, outcome: Outcome, count: u64) {
        if count > 0 {
            *self.0.entry((command, outcome)).or_default() += count;
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Command, Outcome, u64)> + '_ {
        self.0.iter().map(|(&(command, outcome), &count)| (command, outcome, count))
    }

    /// Take in another account.
    pub fn merge(&mut self, other: &Self) {
        other.iter().for_each(|(command, outcome, count)| self.add(command, outcome, count));
    }

    /// All calls of `command`, whatever came of them.
    pub fn total(&self, command: Command) -> u64 {
        self.iter().filter(|(this, ..)| *this == command).map(|(.., count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_have_the_kernels_names() {
        assert_eq!(Outcome::Ok.name(), "ok");
        assert_eq!(Outcome::from(Errno::OPNOTSUPP).name(), "EOPNOTSUPP");
        assert_eq!(Outcome::Failed(4000).name(), "errno 4000");
    }

    #[test]
    fn the_ledger_adds_up_by_command() {
        let mut ledger = Ledger::default();
        ledger.add(Command::GetPa, Outcome::Ok, 3);
        ledger.add(Command::GetPa, Errno::NOENT.into(), 2);
        ledger.add(Command::GetPa, Errno::INVAL.into(), 0);
        ledger.add(Command::IoasMap, Outcome::Ok, 1);
        assert_eq!(ledger.total(Command::GetPa), 5);
        assert_eq!(ledger.iter().count(), 3);
    }
}
