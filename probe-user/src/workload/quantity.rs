//! Numbers that carry a unit or an identity, and how a user writes them on the command line.
//!
//! Pure: knows no file and no kernel call.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes. Written `4096`, `64K`, `64M`, `2MiB`, `1G`; multiples are binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// An I/O virtual address inside one IOAS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Iova(pub u64);

/// A physical address. `Debug` hides it: the kernel gives it to holders of `CAP_SYS_RAWIO` only, and
/// a log line or a panic message has other readers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PhysAddr(pub u64);

/// The kernel's base page size: the step of a scan, and what `IOAS_MAP` aligns to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct PageSize(pub u64);

/// A quantity that could not be read from the command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("`{0}` is not a size; write bytes or a binary multiple: 4096, 64K, 2MiB, 1G")]
    Size(String),
    #[error("`{0}` is not an address; write it decimal or as 0x…")]
    Address(String),
    #[error("`{0}` is not a duration; write 500ms, 5s, 2m or 1h")]
    Duration(String),
    #[error("`{0}` is larger than 64 bits hold")]
    TooLarge(String),
}

impl PageSize {
    /// The page size of the running kernel.
    pub fn of_system() -> Self {
        Self(u64::try_from(rustix::param::page_size()).unwrap_or(u64::MAX))
    }
}

impl Bytes {
    /// The next multiple of `unit`, or `None` beyond 64 bits.
    pub fn round_up(self, unit: u64) -> Option<Self> {
        self.0.checked_next_multiple_of(unit).map(Self)
    }

    /// As an address-space length of this process.
    pub fn to_usize(self) -> Option<usize> {
        usize::try_from(self.0).ok()
    }
}

impl FromStr for Bytes {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || QuantityError::Size(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = match number.parse() {
            Ok(number) => number,
            Err(_) if digits > 0 => return Err(QuantityError::TooLarge(text.to_owned())),
            Err(_) => return Err(bad()),
        };
        let unit = unit.trim_start().to_ascii_lowercase();
        let shift = match unit.trim_end_matches("ib").trim_end_matches('b') {
            "" if !unit.starts_with('i') => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return Err(bad()),
        };
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| QuantityError::TooLarge(text.to_owned()))
    }
}

impl FromStr for Iova {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => text.parse(),
        };
        parsed.map(Self).map_err(|_| QuantityError::Address(text.to_owned()))
    }
}

/// Read `500ms`, `5s`, `2m`, `1h`; a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let bad = || QuantityError::Duration(text.to_owned());
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let seconds = match unit.trim() {
        "ns" => number / 1e9,
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(bad()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| bad())
}

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (name, shift) in UNITS {
            let unit = 1_u64 << shift;
            if self.0 >= unit {
                return match (self.0 % unit, self.0 / unit) {
                    (0, whole) => write!(out, "{whole} {name}"),
                    _ => write!(out, "{:.1} {name}", self.0 as f64 / unit as f64),
                };
            }
        }
        write!(out, "{} B", self.0)
    }
}

impl fmt::Display for Iova {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#x}", self.0)
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PhysAddr(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_multiples() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64K", 64 << 10),
            ("64M", 64 << 20),
            ("64m", 64 << 20),
            ("2MiB", 2 << 20),
            ("2 MiB", 2 << 20),
            ("2MB", 2 << 20),
            ("1G", 1 << 30),
            ("3T", 3 << 40),
            ("17B", 17),
        ] {
            assert_eq!(text.parse::<Bytes>(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "M", "-1", "1.5M", "64X", "64iB", "64MM", "0x1000"] {
            assert!(matches!(text.parse::<Bytes>(), Err(QuantityError::Size(_))), "{text}");
        }
        for text in ["18446744073709551616", "99999999T"] {
            assert!(matches!(text.parse::<Bytes>(), Err(QuantityError::TooLarge(_))), "{text}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_mins(2)));
        for text in ["", "s", "-1s", "5 parsecs", "1e400"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!("0x100000000".parse::<Iova>(), Ok(Iova(1 << 32)));
        assert_eq!("4096".parse::<Iova>(), Ok(Iova(4096)));
        assert!("0x".parse::<Iova>().is_err());
    }

    #[test]
    fn bytes_read_back_as_people_write_them() {
        assert_eq!(Bytes(64 << 20).to_string(), "64 MiB");
        assert_eq!(Bytes(6144).to_string(), "6 KiB");
        assert_eq!(Bytes(6145).to_string(), "6.0 KiB");
        assert_eq!(Bytes(12).to_string(), "12 B");
    }

    #[test]
    fn a_physical_address_hides_in_debug_output() {
        assert_eq!(format!("{:?}", PhysAddr(0x1234)), "PhysAddr(hidden)");
    }
}
