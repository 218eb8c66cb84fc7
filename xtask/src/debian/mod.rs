//! Debian as a source of programs for this host, and of everything in the lab's guest.

mod apt;
mod host;
mod mirror;

pub(crate) use apt::{Apt, Deb};
pub(crate) use host::ensure as ensure_host_packages;
pub(crate) use mirror::Mirror;
