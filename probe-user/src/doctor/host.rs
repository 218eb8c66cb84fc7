//! The machine as files under one root: `/` for the real one, a fixture tree in tests.
//!
//! Reads only. The one question that is not a file is asked of `/dev/iommu`, and only where iommufd is
//! already in the kernel: opening the node may load the module otherwise.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::workload::abi::{self, Abi};
use crate::workload::iommufd::Iommufd;

/// Larger than any file looked at: a config is 300 KiB, vmlinux's BTF a few MiB.
const MOST_BYTES: u64 = 256 << 20;

#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
    canary: Canary,
}

/// How the version of GET_PA is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Canary {
    /// By asking this machine's kernel.
    Ask,
    /// There is no kernel behind the tree; the test says what it would answer.
    Given(Option<Abi>),
}

/// This machine.
impl Default for Host {
    fn default() -> Self {
        Self { root: PathBuf::from("/"), canary: Canary::Ask }
    }
}

impl Host {
    /// A file tree that stands for a machine whose kernel answers the canary with `abi`.
    pub fn at(root: &Path, abi: Option<Abi>) -> Self {
        Self { root: root.to_owned(), canary: Canary::Given(abi) }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    pub fn bytes(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub fn text(&self, path: &str) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes(path)?).into_owned())
    }

    /// Where a link leads, as text.
    pub fn link(&self, path: &str) -> Option<String> {
        fs::read_link(self.root.join(path)).ok().map(|target| target.to_string_lossy().into_owned())
    }

    pub fn open(&self, path: &str) -> io::Result<fs::File> {
        fs::File::open(self.root.join(path))
    }

    /// Which GET_PA the kernel has; `None` where it could not be asked. The caller knows that iommufd
    /// is there.
    pub fn abi(&self) -> Option<Abi> {
        match self.canary {
            Canary::Given(abi) => abi,
            Canary::Ask => Iommufd::open(&self.root.join("dev/iommu"))
                .ok()
                .and_then(|iommufd| abi::detect(&iommufd).ok()),
        }
    }
}
