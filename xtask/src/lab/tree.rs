//! A Debian kernel as files: its image, and its folder of modules with what depmod wrote.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::base::Base;
use super::chroot;
use crate::tool;

/// Folders of modules that hold what a guest's boot and its devices take, and what those need.
pub(super) const TAKEN: [&str; 6] = ["fs", "net/9p", "drivers/virtio", "drivers/char", "lib", "virt/lib"];

/// Where a kernel's files are.
pub(super) struct Tree {
    /// What QEMU boots.
    pub(super) image: PathBuf,
    /// Holds `kernel/` and `modules.dep`.
    pub(super) modules: PathBuf,
    /// The same folder as the guest sees it; none where the guest has no modules of this kernel.
    pub(super) in_guest: Option<String>,
    /// What else the guest has to be given for that, by name.
    pub(super) share: Option<(String, PathBuf)>,
}

/// Unpacks into `dir` what of a package matches `wanted` and, of its modules, [`TAKEN`]; modules come into `lib`.
pub(super) fn unpack(deb: &Path, dir: &Path, wanted: &[String], log: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["-x", "--no-same-owner", "--wildcards", "-C"]).arg(dir);
    // Modules were in /lib before trixie.
    tar.args(["--transform", "s,^\\./usr/lib/,./lib/,"]).args(wanted);
    tool::piped(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(deb), &mut tar, log)
        .with_context(|| format!("cannot unpack {}", deb.display()))
}

/// A pattern of the lists that a kernel has of its modules.
pub(super) const LISTS: &str = "*/modules.*";

/// Patterns of the modules that are taken.
pub(super) fn modules() -> Vec<String> {
    TAKEN.map(|folder| format!("*/kernel/{folder}/*")).to_vec()
}

/// Has depmod write what the modules of `dir/lib/modules/RELEASE` need.
pub(super) fn index(base: &Base, dir: &Path, release: &str, log: &Path) -> Result<()> {
    let mut depmod = chroot::command(&base.root(), Some(dir), "/usr/sbin/depmod");
    tool::logged(depmod.args(["--basedir", chroot::WORK]).arg(release), log)
}
