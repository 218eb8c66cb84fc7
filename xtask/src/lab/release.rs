//! Which Debian kernel the lab boots: the newest of 7.3 or later, found once and then kept.
//!
//! Kept, because a mirror's newest changes under one's feet, and a lab that rebuilds itself on a day of its
//! own choosing is no lab. `lab build --update` looks again.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::debian::Apt;
use crate::ui;

/// The first version with `IOMMU_IOAS_NOIOMMU_GET_PA`.
const OLDEST: (u32, u32) = (7, 3);
const FLAVOUR: &str = "-amd64";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Release {
    /// As `uname -r` says it.
    pub(crate) kernel: String,
    /// The Debian version of all its packages.
    pub(crate) version: String,
    /// The package with its sources.
    pub(crate) source: String,
}

impl Release {
    /// The release this cache has settled on.
    pub(crate) fn kept(cache: &Cache) -> Option<Self> {
        let text = fs::read_to_string(file(cache).ok()?).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Looks for the newest release and keeps it. The lists must be up to date.
    pub(crate) fn find(cache: &Cache, apt: &Apt) -> Result<Self> {
        let kernel = newest(&apt.names("linux-binary-")?).ok_or_else(|| {
            let (major, minor) = OLDEST;
            anyhow!("Debian's index has no kernel of {major}.{minor} or later: is the mirror complete and current?")
        })?;
        let versions = apt.versions(&format!("linux-headers-{kernel}"))?;
        let version =
            versions.into_iter().next().ok_or_else(|| anyhow!("Debian has no headers for {kernel}"))?;
        let (major, minor, _) =
            numbers(&kernel).ok_or_else(|| anyhow!("not a kernel's version: {kernel}"))?;
        let release = Self { source: format!("linux-source-{major}.{minor}"), kernel, version };
        let path = file(cache)?;
        let text = serde_json::to_string_pretty(&release).context("cannot encode the release")?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        ui::say(format!("[lab] kernel {} ({})", release.kernel, release.version));
        Ok(release)
    }

    /// The same kernel in another flavour of Debian's, such as `rt-amd64`, as `uname -r` says it.
    pub(crate) fn of_flavour(&self, flavour: &str) -> Result<String> {
        let plain = self.kernel.strip_suffix(FLAVOUR);
        let plain =
            plain.ok_or_else(|| anyhow!("not a kernel of flavour {}: {}", &FLAVOUR[1..], self.kernel))?;
        Ok(format!("{plain}-{flavour}"))
    }

    /// Its packages, each with its exact version. The linux-image package would bring an initramfs
    /// generator; the kernel is in linux-binary.
    pub(crate) fn packages(&self) -> Vec<String> {
        let of_kernel = ["binary", "modules", "headers"].map(|part| format!("linux-{part}-{}", self.kernel));
        let names = of_kernel.into_iter().chain([self.source.clone()]);
        names.map(|name| format!("{name}={}", self.version)).collect()
    }
}

fn file(cache: &Cache) -> Result<PathBuf> {
    Ok(cache.folder("lab")?.join("release.json"))
}

/// The newest plain kernel among names of `linux-binary-*` packages.
fn newest(packages: &[String]) -> Option<String> {
    packages
        .iter()
        .filter_map(|package| package.strip_prefix("linux-binary-"))
        .filter_map(|kernel| Some((numbers(kernel)?, kernel)))
        .filter(|((major, minor, _), _)| (*major, *minor) >= OLDEST)
        .max()
        .map(|(_, kernel)| kernel.to_owned())
}

/// `7.3.4+deb13-amd64` to `(7, 3, 4)`; other flavours are none.
fn numbers(kernel: &str) -> Option<(u32, u32, u32)> {
    let (version, rest) = kernel.strip_suffix(FLAVOUR)?.split_once('+')?;
    if rest.contains('-') {
        return None;
    }
    let mut parts = version.split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some((next()?, next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_plain_kernel_wins_by_number() {
        let names = [
            "linux-binary-7.3.4+deb13-amd64",
            "linux-binary-7.3.11+deb13-amd64",
            "linux-binary-7.4.1+deb13-rt-amd64",
            "linux-binary-7.4.1+deb13-cloud-amd64",
            "linux-binary-unsigned-7.4.2+deb13-amd64",
            "linux-binary-7.2.99+deb13-amd64",
        ];
        assert_eq!(newest(&names.map(str::to_owned)).as_deref(), Some("7.3.11+deb13-amd64"));
        assert_eq!(newest(&["linux-binary-7.2.9+deb13-amd64".to_owned()]), None);
        assert_eq!(newest(&[]), None);
    }

    #[test]
    fn a_flavour_is_of_the_same_version() {
        let release = |kernel: &str| Release {
            kernel: kernel.to_owned(),
            version: "7.3.4-1".to_owned(),
            source: "linux-source-7.3".to_owned(),
        };
        let kernel = release("7.3.4+deb13-amd64").of_flavour("rt-amd64").unwrap();
        assert_eq!(kernel, "7.3.4+deb13-rt-amd64");
        assert!(release("7.3.4+deb13-arm64").of_flavour("rt-amd64").is_err());
    }
}
