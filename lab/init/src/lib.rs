//! What the host and the lab's guest agree on: names of ports and shares, what to run, and the verdict.
//!
//! Linked by the guest's PID 1 (this package's binary) and by `xtask`, so neither can drift from the
//! other. Pure: text in, text out.

pub mod spec;
pub mod verdict;

/// Names of the virtio-serial ports, as the guest finds them in `/sys/class/virtio-ports/*/name`.
pub mod port {
    /// What the command wrote to its standard output.
    pub const STDOUT: &str = "lab.stdout";
    /// What the command wrote to its standard error.
    pub const STDERR: &str = "lab.stderr";
    /// One [`crate::verdict::Verdict`] to the host, then one [`ACK`] back.
    pub const VERDICT: &str = "lab.verdict";
    /// The host's word that it holds the verdict and every counted byte, so the guest may power off.
    pub const ACK: &[u8] = b"ack\n";
}

/// Mount tags of the 9p shares. QEMU allows 31 bytes.
pub mod tag {
    /// Debian's files, read-only, under an overlay.
    pub const ROOT: &str = "lab.root";
    /// What this run brings: the spec and programs. Read-only.
    pub const IN: &str = "lab.in";
    /// The only folder of the host that a guest can write to.
    pub const OUT: &str = "lab.out";
    /// The variant's kernel modules, read-only.
    pub const MODULES: &str = "lab.modules";

    /// The read-only share that is the `index`th of the spec.
    #[must_use]
    pub fn share(index: usize) -> String {
        format!("lab.share{index}")
    }
}

/// Paths inside the guest.
pub mod path {
    /// Where [`super::tag::IN`] is mounted.
    pub const IN: &str = "/lab/in";
    /// Programs of this run, first on the command's `PATH`.
    pub const BIN: &str = "/lab/in/bin";
    /// The encoded [`super::spec::Spec`].
    pub const SPEC: &str = "/lab/in/spec";
    /// Where [`super::tag::OUT`] is mounted; also the command's working folder.
    pub const OUT: &str = "/lab/out";
    /// Where [`super::tag::MODULES`] is mounted.
    pub const MODULES: &str = "/lab/modules";
    /// Where further shares are mounted, each by its name.
    pub const SHARES: &str = "/lab/share";
    /// In the initramfs: modules that mounting the root needs, and their order in `order`, one a line.
    pub const BOOT_MODULES: &str = "/modules";
}
