//! Which GET_PA the running kernel has: one number and one layout served several meanings before
//! Linux 7.3 settled on one. Found out by asking, with an IOAS of our own and no device.

use rustix::io::Errno;

use super::iommufd::{IoasId, IoctlError, Iommufd, Query};
use super::outcome::Outcome;
use super::quantity::{Iova, PageSize};

/// The meaning of `length`, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Abi {
    /// Linux 7.3: `length` in caps the scan, 0 is refused with EINVAL.
    Merged,
    /// A draft after v5: `length` in caps the scan, 0 means no cap.
    NoLimit,
    /// The v5 patch: `length` in is ignored, every scan goes to the end of its run.
    V5,
    /// `V5` or `NoLimit`: without a mapping the two answer alike. [`refine`] tells them apart.
    Draft,
    /// The kernel knows the ioctl and was built without `CONFIG_IOMMUFD_NOIOMMU`.
    Off,
    /// The kernel's iommufd is older than the ioctl.
    Absent,
    /// The caller lacks `CAP_SYS_RAWIO`; the meaning stays unknown.
    NotPermitted,
}

/// The question could not be asked, or the answer fits no version.
#[derive(Debug, thiserror::Error)]
pub enum AbiError {
    #[error("asking for the GET_PA version")]
    SetUp(#[from] IoctlError),
    #[error("GET_PA on an empty IOAS with length 0 gave {0}, which no known version does")]
    Unknown(String),
}

impl Abi {
    pub fn name(self) -> &'static str {
        match self {
            Self::Merged => "merged",
            Self::NoLimit => "no-limit",
            Self::V5 => "v5",
            Self::Draft => "draft",
            Self::Off => "off",
            Self::Absent => "absent",
            Self::NotPermitted => "not-permitted",
        }
    }

    /// For a person.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Merged => "as merged in Linux 7.3 (length caps the scan, 0 is refused)",
            Self::NoLimit => "a draft after v5 (length caps the scan, 0 means no cap)",
            Self::V5 => "the v5 draft (length is ignored, every scan is uncapped)",
            Self::Draft => "v5 or a later draft from before the merge",
            Self::Off => "built without CONFIG_IOMMUFD_NOIOMMU",
            Self::Absent => "older than GET_PA",
            Self::NotPermitted => "unknown: CAP_SYS_RAWIO is missing",
        }
    }

    /// Whether GET_PA can succeed at all.
    pub fn answers(self) -> bool {
        matches!(self, Self::Merged | Self::NoLimit | Self::V5 | Self::Draft)
    }

    /// The cap a scan obeys when `length` is asked for; `None`: no cap.
    pub fn cap(self, length: u64) -> Option<u64> {
        match self {
            Self::Merged => Some(length),
            Self::NoLimit if length > 0 => Some(length),
            _ => None,
        }
    }
}

/// Ask GET_PA for length 0 in an empty IOAS. Costs one `IOAS_ALLOC`, one `GET_PA` and one `DESTROY`,
/// all in the ledger of `iommufd`; changes nothing.
pub fn detect(iommufd: &Iommufd) -> Result<Abi, AbiError> {
    let ioas = iommufd.ioas_alloc()?;
    let answer = iommufd.get_pa(Query { ioas, flags: 0, iova: Iova(0), length: 0 });
    iommufd.destroy(ioas)?;
    classify(answer.map(|_| ()))
}

fn classify(answer: Result<(), Errno>) -> Result<Abi, AbiError> {
    match answer {
        Err(Errno::INVAL) => Ok(Abi::Merged),
        Err(Errno::NOENT) => Ok(Abi::Draft),
        Err(Errno::OPNOTSUPP) => Ok(Abi::Off),
        Err(Errno::NOTTY) => Ok(Abi::Absent),
        Err(Errno::PERM) => Ok(Abi::NotPermitted),
        other => Err(AbiError::Unknown(Outcome::from(&other).name())),
    }
}

/// Turn [`Abi::Draft`] into the version it is, where something is mapped at `start`: asked for one byte,
/// a kernel that caps says one, and v5 a whole page or more. One call of GET_PA, in the ledger of
/// `iommufd`; any other version comes back as it went in.
pub fn refine(iommufd: &Iommufd, abi: Abi, ioas: IoasId, start: Iova, page: PageSize) -> Abi {
    if abi != Abi::Draft {
        return abi;
    }
    match iommufd.get_pa(Query { ioas, flags: 0, iova: start, length: 1 }) {
        Ok(answer) if answer.length == 1 => Abi::NoLimit,
        Ok(answer) if answer.length >= page.0 => Abi::V5,
        _ => Abi::Draft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_of_the_canary_names_one_version() {
        for (errno, abi) in [
            (Errno::INVAL, Abi::Merged),
            (Errno::NOENT, Abi::Draft),
            (Errno::OPNOTSUPP, Abi::Off),
            (Errno::NOTTY, Abi::Absent),
            (Errno::PERM, Abi::NotPermitted),
        ] {
            assert_eq!(classify(Err(errno)).expect("known"), abi);
        }
    }

    #[test]
    fn an_answer_of_no_version_is_an_error_that_shows_it() {
        let error = classify(Err(Errno::FAULT)).expect_err("unknown");
        assert!(error.to_string().contains("EFAULT"), "{error}");
        assert!(classify(Ok(())).is_err());
    }

    #[test]
    fn the_cap_is_what_the_version_makes_of_length() {
        assert_eq!(Abi::Merged.cap(4096), Some(4096));
        assert_eq!(Abi::NoLimit.cap(4096), Some(4096));
        assert_eq!(Abi::NoLimit.cap(0), None);
        assert_eq!(Abi::V5.cap(4096), None);
    }
}
