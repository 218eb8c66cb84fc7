//! Every mount of the guest. The host's files come read-only, but for the out folder.

use std::ffi::CString;
use std::fs;

use lab_init::spec::Spec;
use lab_init::{path, tag};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use crate::Failure;

/// Bytes per 9p message: with the default of 128 KiB, paging in large programs takes many round trips.
const MSIZE: usize = 512 * 1024;

/// What opening the ports needs: device nodes and their names.
pub(crate) fn early() -> Result<(), Failure> {
    on("devtmpfs", "devtmpfs", "/dev", MountFlags::empty(), "")?;
    on("proc", "proc", "/proc", MountFlags::empty(), "")?;
    on("sysfs", "sysfs", "/sys", MountFlags::empty(), "")
}

/// Debian's files under a layer in memory, at `target`.
pub(crate) fn root(target: &str) -> Result<(), Failure> {
    fixed(tag::ROOT, "/lower")?;
    on("tmpfs", "tmpfs", "/upper", MountFlags::empty(), "mode=0755")?;
    for dir in ["/upper/files", "/upper/work"] {
        make_dir(dir)?;
    }
    let layers = "lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work";
    on("overlay", "overlay", target, MountFlags::empty(), layers)
}

/// The file systems that a Linux user space and an observability tool expect.
pub(crate) fn system() -> Result<(), Failure> {
    early()?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    for (kind, target, flags, options) in [
        ("devpts", "/dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, "mode=0620,ptmxmode=0666"),
        ("tmpfs", "/dev/shm", plain, "mode=1777"),
        ("tmpfs", "/run", plain, "mode=0755"),
        ("tmpfs", "/tmp", plain, "mode=1777"),
        ("tracefs", "/sys/kernel/tracing", plain, ""),
        ("debugfs", "/sys/kernel/debug", plain, ""),
        ("securityfs", "/sys/kernel/security", plain, ""),
        ("bpf", "/sys/fs/bpf", plain, "mode=0700"),
        ("cgroup2", "/sys/fs/cgroup", plain, ""),
    ] {
        on(kind, kind, target, flags, options)?;
    }
    Ok(())
}

/// The shares that only this run has.
pub(crate) fn shares(spec: &Spec) -> Result<(), Failure> {
    for (index, name) in spec.shares.iter().enumerate() {
        changing(&tag::share(index), &format!("{}/{name}", path::SHARES), MountFlags::RDONLY)?;
    }
    Ok(())
}

/// A folder of the host that nobody changes while a guest runs: the guest keeps what it has read, above all its
/// programs.
pub(crate) fn fixed(tag: &str, target: &str) -> Result<(), Failure> {
    nine_p(tag, target, MountFlags::RDONLY, "loose")
}

/// A folder of the host that may change while the guest runs.
pub(crate) fn changing(tag: &str, target: &str, flags: MountFlags) -> Result<(), Failure> {
    nine_p(tag, target, flags, "none")
}

fn nine_p(tag: &str, target: &str, flags: MountFlags, cache: &str) -> Result<(), Failure> {
    on(tag, "9p", target, flags, &format!("trans=virtio,version=9p2000.L,cache={cache},msize={MSIZE}"))
}

fn on(source: &str, kind: &str, target: &str, flags: MountFlags, options: &str) -> Result<(), Failure> {
    // Folders inside sysfs exist already and cannot be made.
    if !target.starts_with("/sys/") {
        make_dir(target)?;
    }
    let options = CString::new(options).map_err(|e| format!("mount {target}: {e}"))?;
    match mount(source, target, kind, flags, options.as_c_str()) {
        // The kernel mounts tracefs under debugfs by itself on some versions.
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => Err(format!("mount {source} ({kind}) at {target}: {error}")),
    }
}

fn make_dir(dir: &str) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(|e| format!("make {dir}: {e}"))
}
