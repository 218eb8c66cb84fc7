//! The `bpf(2)` commands that aya 0.14 has no way to: loading tracing programs for functions of a
//! module and kprobe sessions, and linking them with any attach type.
//!
//! Shapes are the kernel's `union bpf_attr` (include/uapi/linux/bpf.h, Linux 7.3), cut after the last
//! member that is used: the kernel takes the rest as zero.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use aya_obj::generated::{BPF_ALU64, BPF_EXIT, BPF_JMP, BPF_K, BPF_MOV, bpf_cmd, bpf_insn, bpf_prog_type};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes};

/// `enum bpf_attach_type`. aya-obj 0.3 does not know the last two yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttachType {
    /// A raw tracepoint's program has none.
    RawTracepoint = 0,
    Fentry = 24,
    Fexit = 25,
    KprobeSession = 56,
    Fsession = 58,
}

impl AttachType {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RawTracepoint => "raw_tracepoint",
            Self::Fentry => "fentry",
            Self::Fexit => "fexit",
            Self::KprobeSession => "kprobe.session",
            Self::Fsession => "fsession",
        }
    }

    fn program_type(self) -> bpf_prog_type {
        match self {
            Self::RawTracepoint => bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT,
            Self::KprobeSession => bpf_prog_type::BPF_PROG_TYPE_KPROBE,
            Self::Fentry | Self::Fexit | Self::Fsession => bpf_prog_type::BPF_PROG_TYPE_TRACING,
        }
    }
}

/// Where a program of a trampoline goes: a function by its BTF id.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The module's BTF object; `None` for a function of the kernel itself.
    pub(super) module: Option<BorrowedFd<'a>>,
    pub(super) function: u32,
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_btf_obj_fd: u32,
    core_relo_cnt: u32,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

/// The same with `link_create.kprobe_multi`.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct MultiLinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    multi_flags: u32,
    count: u32,
    /// Pointers to names.
    symbols: u64,
    addresses: u64,
    cookies: u64,
}

/// `raw_tracepoint`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct RawTracepointOpen {
    name: u64,
    prog_fd: u32,
    padding: u32,
}

/// The same for `BPF_PROG_TEST_RUN`, to the end of `batch_size`; nothing else is wanted of it.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct TestRun {
    prog_fd: u32,
    rest: [u32; 19],
}

/// Why the kernel refused a program.
pub(super) struct Rejected {
    pub(super) error: io::Error,
    /// The verifier's words; empty where it was not asked.
    pub(super) log: String,
}

/// Room for the verifier's log; the kernel keeps the end of a longer one.
const LOG_SIZE: usize = 1 << 20;
/// Load a program; one of a trampoline is loaded for a `place`.
pub(super) fn load(
    name: &str,
    license: &CStr,
    instructions: &[bpf_insn],
    attach: AttachType,
    place: Option<Place<'_>>,
) -> Result<OwnedFd, Rejected> {
    let mut attr = ProgLoad::new_zeroed();
    attr.prog_type = attach.program_type() as u32;
    attr.insn_cnt = u32::try_from(instructions.len()).unwrap_or(u32::MAX);
    attr.insns = address(instructions);
    attr.license = license.as_ptr() as u64;
    for (to, from) in attr.prog_name.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    attr.expected_attach_type = attach as u32;
    if let Some(place) = place {
        attr.attach_btf_id = place.function;
        attr.attach_btf_obj_fd = place.module.map_or(0, fd);
    }
    let refused = match command_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr) {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    let mut log = vec![0; LOG_SIZE];
    attr.log_level = 1;
    attr.log_size = u32::try_from(log.len()).unwrap_or(0);
    attr.log_buf = log.as_mut_ptr() as u64;
    // The same refusal once more, this time with its reasons; a log cut short is ENOSPC.
    command_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr).map_err(|_| {
        let words = log.split(|byte| *byte == 0).next().unwrap_or_default();
        Rejected { error: refused, log: String::from_utf8_lossy(words).into_owned() }
    })
}

/// Attach a loaded tracing program to the function it was loaded for, until the link is closed.
pub(super) fn link(program: BorrowedFd<'_>, attach: AttachType) -> io::Result<OwnedFd> {
    let mut attr = LinkCreate { prog_fd: fd(program), target_fd: 0, attach_type: attach as u32, flags: 0 };
    command_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// Attach a loaded kprobe session to the function of this name, in the kernel or a module, until the link is
/// closed.
pub(super) fn link_session(program: BorrowedFd<'_>, symbol: &CStr) -> io::Result<OwnedFd> {
    let mut attr = MultiLinkCreate::new_zeroed();
    let symbols = [symbol.as_ptr()];
    attr.prog_fd = fd(program);
    attr.attach_type = AttachType::KprobeSession as u32;
    attr.count = 1;
    attr.symbols = address(&symbols);
    command_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// Attach a loaded program to the kernel's tracepoint of this name, until the link is closed.
pub(super) fn link_tracepoint(program: BorrowedFd<'_>, tracepoint: &CStr) -> io::Result<OwnedFd> {
    let mut attr = RawTracepointOpen { name: tracepoint.as_ptr() as u64, prog_fd: fd(program), padding: 0 };
    command_fd(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr)
}

/// A tracing program at entries that does nothing, for [`run_tests`].
pub(super) fn load_idle(place: Place<'_>) -> io::Result<OwnedFd> {
    let instruction = |code: u32| bpf_insn {
        code: code.to_le_bytes()[0],
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
        off: 0,
        imm: 0,
    };
    // r0 = 0; exit
    let instructions = [instruction(BPF_ALU64 | BPF_MOV | BPF_K), instruction(BPF_JMP | BPF_EXIT)];
    load("idle", c"Dual MIT/GPL", &instructions, AttachType::Fentry, Some(place))
        .map_err(|rejected| rejected.error)
}

/// Have the kernel call its functions for tests of tracing programs, each once (`bpf_prog_test_run_tracing`,
/// `net/bpf/test_run.c`, since Linux 5.5).
pub(super) fn run_tests(program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = TestRun { prog_fd: fd(program), rest: [0; 19] };
    command(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr).map(drop)
}

/// Wait until every RCU read-side section of now has ended, by `membarrier(2)`.
pub(super) fn wait_for_readers() -> io::Result<()> {
    // SAFETY: the command takes no memory.
    #[allow(unsafe_code, reason = "a system call without a safe wrapper")]
    let result = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(super) fn fd(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX)
}

fn address<T>(values: &[T]) -> u64 {
    values.as_ptr() as u64
}

/// A command that makes a descriptor. The kernel sets close-on-exec on all of them.
pub(super) fn command_fd(command_number: bpf_cmd, attr: &mut impl IntoBytes) -> io::Result<OwnedFd> {
    let made = command(command_number, attr)?;
    // SAFETY: the kernel made it for this call, and nobody else knows it.
    #[allow(unsafe_code, reason = "a new descriptor's number from a system call")]
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

pub(super) fn command(command: bpf_cmd, attr: &mut impl IntoBytes) -> io::Result<i32> {
    let size = size_of_val(attr);
    // SAFETY: the attributes are as long as said and hold no padding; what they point to outlives the
    // call and is as long as they say.
    #[allow(unsafe_code, reason = "a system call without a safe wrapper")]
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as u32, std::ptr::from_mut(attr), size) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_laid_out_as_the_kernels() {
        assert_eq!(std::mem::offset_of!(ProgLoad, expected_attach_type), 68);
        assert_eq!(std::mem::offset_of!(ProgLoad, attach_btf_obj_fd), 112);
        assert_eq!(std::mem::offset_of!(MultiLinkCreate, symbols), 24);
    }
}
