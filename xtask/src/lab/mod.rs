//! The lab: a stock Debian kernel with iommufd and VFIO as modules, in QEMU, for one command at a time.
//! A variant may bring an older kernel of Debian's instead (`older`), or the same in another flavour (`flavour`).
//!
//! ```text
//! release ─► base (Debian's files, kernel sources) ─► modules (one set per variant) ─┐
//!                                                     lab-init ─► initramfs ─────────┴─► guest ─► outcome
//! ```

mod accel;
pub(crate) mod base;
pub(crate) mod chroot;
mod command;
mod console;
mod depends;
mod flavour;
mod guest;
mod initramfs;
mod modules;
mod older;
mod outcome;
mod qemu;
mod release;
mod scratch;
mod stage;
mod terminal;
mod tree;
mod variant;

pub(crate) use command::Lab;
pub(crate) use stage::Stage;

/// Names of the variants there are.
#[cfg(test)]
pub(crate) fn variants() -> anyhow::Result<Vec<String>> {
    variant::names()
}
