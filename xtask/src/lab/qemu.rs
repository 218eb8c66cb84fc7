//! The machine, as QEMU's arguments. Decides hardware; knows nothing of what runs on it.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab_init::{port, tag};
use rustix::io::{FdFlags, fcntl_setfd};

use super::stage::Kernel;

const PROGRAM: &str = "qemu-system-x86_64";

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accel {
    /// QEMU's translator, one thread per CPU.
    Tcg,
    /// QEMU's translator with a clock that counts instructions: one guest nanosecond is one instruction.
    Icount,
    /// The host's hardware.
    Kvm,
}

/// The guest's ends of its connections to this program.
pub(super) struct Connections {
    pub(super) stdout: UnixStream,
    pub(super) stderr: UnixStream,
    pub(super) verdict: UnixStream,
    /// The terminal, for a shell.
    pub(super) console: Option<UnixStream>,
}

/// One virtual machine.
pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) accel: Accel,
    pub(super) cpus: u32,
    /// As QEMU's `-m` takes it.
    pub(super) memory: &'a str,
    /// More kernel parameters.
    pub(super) append: &'a str,
    /// Where the kernel's log goes.
    pub(super) log: &'a Path,
    pub(super) inward: &'a Path,
    pub(super) outward: &'a Path,
    pub(super) shares: &'a [(String, PathBuf)],
}

impl Machine<'_> {
    /// The command that runs the machine. It dies with the thread that spawns it.
    pub(super) fn command(&self, connections: &Connections) -> io::Result<Command> {
        let mut qemu = Command::new("setpriv");
        qemu.args(["--pdeathsig", "KILL", PROGRAM, "-nodefaults", "-no-user-config", "-no-reboot"]);
        qemu.args(["-display", "none", "-monitor", "none", "-nic", "none"]);
        self.processor(&mut qemu);
        self.boot(&mut qemu);
        qemu.args(["-chardev", &format!("file,id=log,path={}", quoted(self.log)), "-serial", "chardev:log"]);
        qemu.args(["-device", "virtio-serial-pci"]);
        for (id, name, stream) in [
            ("stdout", port::STDOUT, &connections.stdout),
            ("stderr", port::STDERR, &connections.stderr),
            ("verdict", port::VERDICT, &connections.verdict),
        ] {
            qemu.args(["-chardev", &inherited(id, stream)?]);
            qemu.args(["-device", &format!("virtserialport,chardev={id},name={name}")]);
        }
        if let Some(stream) = &connections.console {
            qemu.args(["-chardev", &inherited("console", stream)?, "-device", "virtconsole,chardev=console"]);
        }
        if self.kernel.variant.noiommu_device {
            qemu.args(["-device", "pci-testdev"]);
        }
        // Behind the first, whose address is lower.
        if self.kernel.variant.free_device {
            qemu.args(["-device", "pci-testdev"]);
        }
        share(&mut qemu, tag::ROOT, &self.kernel.root, Access::Read);
        share(&mut qemu, tag::IN, self.inward, Access::Read);
        share(&mut qemu, tag::MODULES, &self.kernel.modules, Access::Read);
        share(&mut qemu, tag::OUT, self.outward, Access::Write);
        for (index, (_, dir)) in self.shares.iter().enumerate() {
            share(&mut qemu, &tag::share(index), dir, Access::Read);
        }
        Ok(qemu)
    }

    fn processor(&self, qemu: &mut Command) {
        let (accel, cpu) = match self.accel {
            // One host thread for all CPUs: with one each, an oops was seen in the kernel's patching of its
            // own code, which probes do at every attach.
            Accel::Tcg | Accel::Icount => ("tcg,thread=single", "max"),
            Accel::Kvm => ("kvm", "host"),
        };
        qemu.args(["-machine", "q35", "-accel", accel, "-cpu", cpu]);
        // The machine has all that are possible: Linux does not count absent CPUs, unless it knows the
        // hypervisor (acpi_is_processor_usable, arch/x86/kernel/acpi/boot.c, Linux 7.3).
        let present = self.kernel.variant.possible_cpus.unwrap_or(self.cpus);
        qemu.args(["-smp", &present.to_string(), "-m", self.memory]);
        if self.accel == Accel::Icount {
            qemu.args(["-icount", "shift=0,sleep=off"]);
        }
    }

    fn boot(&self, qemu: &mut Command) {
        // Level 5 prints warnings, which judge the run, and nothing milder, which costs time on a serial line.
        // Rebooting at once on a panic, with -no-reboot, ends QEMU.
        let mut parameters = format!("console=ttyS0 loglevel=5 panic=-1 {}", self.append);
        if self.kernel.variant.possible_cpus.is_some() {
            // The others stay offline.
            parameters = format!("{parameters} maxcpus={}", self.cpus);
        }
        qemu.arg("-kernel").arg(&self.kernel.image).arg("-initrd").arg(&self.kernel.initramfs);
        qemu.args(["-append", parameters.trim_end()]);
    }
}

#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

fn share(qemu: &mut Command, tag: &str, dir: &Path, access: Access) {
    let access = match access {
        Access::Read => ",readonly=on",
        Access::Write => "",
    };
    let path = quoted(dir);
    qemu.args(["-fsdev", &format!("local,id={tag},path={path},security_model=none,multidevs=remap{access}")]);
    qemu.args(["-device", &format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}")]);
}

/// A character device over a socket that QEMU inherits.
fn inherited(id: &str, stream: &UnixStream) -> io::Result<String> {
    fcntl_setfd(stream, FdFlags::empty())?;
    Ok(format!("socket,id={id},fd={}", stream.as_raw_fd()))
}

/// QEMU's options are separated by commas; one in a path is doubled.
fn quoted(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_stays_in_the_path() {
        assert_eq!(quoted(Path::new("/a,b/c")), "/a,,b/c");
    }
}
