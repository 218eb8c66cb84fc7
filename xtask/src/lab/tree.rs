//! A Debian kernel as files: its image, and its folder of modules with what depmod wrote.

use std::path::PathBuf;

/// Where a kernel's files are.
pub(super) struct Tree {
    /// What QEMU boots.
    pub(super) image: PathBuf,
    /// Holds `kernel/` and `modules.dep`.
    pub(super) modules: PathBuf,
    /// The same folder as the guest sees it; none where the guest's root has no modules of this kernel.
    pub(super) in_guest: Option<String>,
}
