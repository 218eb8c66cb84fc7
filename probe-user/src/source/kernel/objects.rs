//! The machine's BPF objects by their numbers, ours and others': BTF, programs, links.
//!
//! All of it needs `CAP_SYS_ADMIN`. Shapes are the kernel's (include/uapi/linux/bpf.h, Linux 7.3), cut after the
//! last member that is used.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya_obj::generated::bpf_cmd;
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes};

use super::bpf::{command, command_fd, fd};

/// `BPF_*_GET_NEXT_ID` and `BPF_*_GET_FD_BY_ID`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_btf_info`.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct BtfInfo {
    btf: u64,
    btf_size: u32,
    id: u32,
    name: u64,
    name_len: u32,
    kernel_btf: u32,
}

/// `struct bpf_prog_info`.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: u64,
    lengths: [u32; 2],
    pointers: [u64; 2],
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; 16],
}

/// `struct bpf_link_info`; the union as words.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    hole: u32,
    words: [u64; 8],
}

/// `enum bpf_link_type`.
const TRACING: u32 = 2;
const PERF_EVENT: u32 = 7;
const KPROBE_MULTI: u32 = 8;
/// `enum bpf_perf_event_type`.
const KPROBE: u32 = 3;
const KRETPROBE: u32 = 4;
/// `BPF_F_KPROBE_MULTI_RETURN`.
const MULTI_RETURN: u32 = 1;

/// What a link attaches a program to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A function by its BTF id; `attach` is the `enum bpf_attach_type`.
    Trampoline { attach: u32, btf_object: u32, function: u32 },
    /// Functions by their addresses; all 0 for who may not see them.
    Functions { addresses: Vec<u64>, is_return: bool },
    /// A kprobe through perf; the function's name is empty where the kernel does not tell.
    Kprobe { function: String, is_return: bool },
    /// Something that is no function of the kernel.
    Other,
}

/// A link.
pub(super) struct Link {
    pub(super) program: u32,
    pub(super) target: Target,
}

/// Numbers of all links.
pub(super) fn links() -> io::Result<Vec<u32>> {
    ids(bpf_cmd::BPF_LINK_GET_NEXT_ID).collect()
}

/// A link by its number; `None` when it is gone.
pub(super) fn link(id: u32) -> io::Result<Option<Link>> {
    let Some(link) = open(bpf_cmd::BPF_LINK_GET_FD_BY_ID, id)? else { return Ok(None) };
    let mut about = LinkInfo::new_zeroed();
    info(link.as_fd(), &mut about)?;
    let low = |word: u64| u32::try_from(word & 0xffff_ffff).unwrap_or(0);
    let high = |word: u64| low(word >> 32);
    let program = about.program;
    let target = match about.kind {
        TRACING => Target::Trampoline {
            attach: low(about.words[0]),
            btf_object: high(about.words[0]),
            function: low(about.words[1]),
        },
        KPROBE_MULTI => {
            let (count, flags) = (low(about.words[1]), high(about.words[1]));
            let mut addresses = vec![0u64; count as usize];
            let mut about = LinkInfo::new_zeroed();
            about.words[0] = addresses.as_mut_ptr() as u64;
            about.words[1] = u64::from(count);
            info(link.as_fd(), &mut about)?;
            Target::Functions { addresses, is_return: flags & MULTI_RETURN != 0 }
        }
        PERF_EVENT => kprobe(link.as_fd())?,
        _ => Target::Other,
    };
    Ok(Some(Link { program, target }))
}

/// What a link to a perf event is on. Before Linux 6.6 the kernel does not tell.
fn kprobe(link: BorrowedFd<'_>) -> io::Result<Target> {
    // KSYM_NAME_LEN (include/linux/kallsyms.h, Linux 7.3).
    let mut name = [0u8; 512];
    let mut about = LinkInfo::new_zeroed();
    about.words[1] = name.as_mut_ptr() as u64;
    about.words[2] = name.len() as u64;
    match info(link, &mut about) {
        // A longer name than any function's: of a file.
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => return Ok(Target::Other),
        other => other?,
    }
    let function = CStr::from_bytes_until_nul(&name).unwrap_or_default().to_string_lossy().into_owned();
    Ok(match u32::try_from(about.words[0] & 0xffff_ffff).unwrap_or(0) {
        KPROBE => Target::Kprobe { function, is_return: false },
        KRETPROBE => Target::Kprobe { function, is_return: true },
        0 => Target::Kprobe { function: String::new(), is_return: false },
        _ => Target::Other,
    })
}

/// A program's name, up to 15 bytes; `None` when it is gone.
pub(super) fn program_name(id: u32) -> io::Result<Option<String>> {
    let Some(program) = open(bpf_cmd::BPF_PROG_GET_FD_BY_ID, id)? else { return Ok(None) };
    let mut about = ProgramInfo::new_zeroed();
    info(program.as_fd(), &mut about)?;
    Ok(Some(CStr::from_bytes_until_nul(&about.name).unwrap_or_default().to_string_lossy().into_owned()))
}

/// The BTF object of a module that is loaded; `None` when it has none.
pub(super) fn module_btf(module: &str) -> io::Result<Option<OwnedFd>> {
    for id in ids(bpf_cmd::BPF_BTF_GET_NEXT_ID) {
        let Some(btf) = open(bpf_cmd::BPF_BTF_GET_FD_BY_ID, id?)? else { continue };
        if kernels_btf_name(btf.as_fd())?.as_deref() == Some(module) {
            return Ok(Some(btf));
        }
    }
    Ok(None)
}

/// The name of one of the kernel's own BTF objects by its number: of a module, or `vmlinux`.
pub(super) fn btf_name(id: u32) -> io::Result<Option<String>> {
    match open(bpf_cmd::BPF_BTF_GET_FD_BY_ID, id)? {
        Some(btf) => kernels_btf_name(btf.as_fd()),
        None => Ok(None),
    }
}

/// The name of a BTF object; `None` when it is a program's.
fn kernels_btf_name(btf: BorrowedFd<'_>) -> io::Result<Option<String>> {
    // MODULE_NAME_LEN (include/linux/module.h, Linux 7.3).
    let mut name = [0u8; 64];
    let mut about = BtfInfo::new_zeroed();
    about.name = name.as_mut_ptr() as u64;
    about.name_len = u32::try_from(name.len()).unwrap_or(0);
    match info(btf, &mut about) {
        // A longer name than any module's.
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok((about.kernel_btf != 0)
            .then(|| CStr::from_bytes_until_nul(&name).unwrap_or_default().to_string_lossy().into_owned())),
    }
}

/// Numbers of all objects of a kind, in their order; ends at the first error.
fn ids(next: bpf_cmd) -> impl Iterator<Item = io::Result<u32>> {
    let mut last = Some(0);
    std::iter::from_fn(move || {
        let mut attr = ById { id: last?, next_id: 0, open_flags: 0 };
        match command(next, &mut attr) {
            Ok(_) => {
                last = Some(attr.next_id);
                Some(Ok(attr.next_id))
            }
            Err(error) => {
                last = None;
                (error.kind() != io::ErrorKind::NotFound).then_some(Err(error))
            }
        }
    })
}

/// An object by its number; `None` when it is gone.
fn open(by_id: bpf_cmd, id: u32) -> io::Result<Option<OwnedFd>> {
    match command_fd(by_id, &mut ById { id, next_id: 0, open_flags: 0 }) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}

fn info<T: IntoBytes>(object: BorrowedFd<'_>, about: &mut T) -> io::Result<()> {
    let info_len = u32::try_from(size_of::<T>()).unwrap_or(0);
    let mut attr = InfoByFd { bpf_fd: fd(object), info_len, info: std::ptr::from_mut(about) as u64 };
    command(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_laid_out_as_the_kernels() {
        assert_eq!(std::mem::offset_of!(LinkInfo, words), 16);
        assert_eq!(std::mem::offset_of!(ProgramInfo, name), 64);
    }
}
