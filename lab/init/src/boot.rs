//! From the initramfs to Debian's root: boot modules, the overlay, and what a user space expects.

use std::os::unix::fs::chroot;
use std::process::{Command, Stdio};
use std::{env, fs};

use lab_init::path;
use rustix::mount::{MountFlags, mount_move};

use crate::{Failure, modules, mounts};

/// Where the overlay is built before it becomes `/`.
const NEW_ROOT: &str = "/newroot";

/// Loads what the way to the host and to the root takes.
pub(crate) fn load_modules() -> Result<(), Failure> {
    let order = format!("{}/order", path::BOOT_MODULES);
    let order = fs::read_to_string(&order).map_err(|e| format!("read {order}: {e}"))?;
    order.lines().try_for_each(|name| modules::load(&format!("{}/{name}", path::BOOT_MODULES)))
}

/// Makes Debian's files the root, writable in memory only.
pub(crate) fn enter_root() -> Result<(), Failure> {
    mounts::root(NEW_ROOT)?;
    env::set_current_dir(NEW_ROOT).map_err(|e| format!("enter {NEW_ROOT}: {e}"))?;
    mount_move(NEW_ROOT, "/").map_err(|e| format!("move {NEW_ROOT} to /: {e}"))?;
    chroot(".").map_err(|e| format!("chroot to the new root: {e}"))?;
    env::set_current_dir("/").map_err(|e| format!("enter /: {e}"))?;
    mounts::system()?;
    mounts::fixed(lab_init::tag::IN, path::IN)?;
    mounts::changing(lab_init::tag::OUT, path::OUT, MountFlags::empty())?;
    mounts::fixed(lab_init::tag::MODULES, path::MODULES)?;
    rustix::system::sethostname(b"lab").map_err(|e| format!("set the host name: {e}"))?;
    loopback_up()
}

/// Servers under test listen on 127.0.0.1; there is no other network.
fn loopback_up() -> Result<(), Failure> {
    let status = Command::new("/usr/sbin/ip")
        .args(["link", "set", "lo", "up"])
        .stdin(Stdio::null())
        .status()
        .map_err(|e| format!("run ip: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("ip link set lo up: {status}")) }
}
