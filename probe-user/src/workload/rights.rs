//! The capabilities of this process, as the kernel lists them in `/proc/self/status`.

use std::fs;
use std::io;
use std::path::Path;

/// A capability that some part of iovascope needs; the value is its bit
/// (`include/uapi/linux/capability.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    SysRawio = 17,
    SysAdmin = 21,
    Perfmon = 38,
    Bpf = 39,
}

/// The effective set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capability {
    pub fn name(self) -> &'static str {
        match self {
            Self::SysRawio => "CAP_SYS_RAWIO",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

impl Capabilities {
    /// Read `proc/self/status` under `root`.
    pub fn read(root: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(root.join("proc/self/status"))?;
        Self::parse(&text).ok_or_else(|| io::Error::other("proc/self/status has no CapEff line"))
    }

    fn parse(status: &str) -> Option<Self> {
        let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(set.trim(), 16).ok().map(Self)
    }

    pub fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u8) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_the_kernels() {
        // CAP_SYS_RAWIO and CAP_BPF alone.
        let set = Capabilities::parse("Name:\tx\nCapEff:\t0000008000020000\n").expect("a set");
        assert!(set.has(Capability::SysRawio) && set.has(Capability::Bpf));
        assert!(!set.has(Capability::SysAdmin) && !set.has(Capability::Perfmon));
        assert!(Capabilities::parse("Name:\tx\n").is_none());
    }
}
