//! Calls of kernel functions. The loader replaces the made-up numbers of `probe_common::kfunc` with
//! the running kernel's BTF ids; the verifier checks arguments, and inlines all of them in trampoline
//! programs (kernel/bpf/verifier.c, Linux 7.3). Before Linux 7.0 those of sessions take no argument; one too
//! many does no harm.

use core::ffi::c_void;
use core::mem::transmute;

use aya_ebpf::EbpfContext;
use probe_common::kfunc::{RDONLY_CAST, SESSION_COOKIE, SESSION_IS_RETURN};

/// Whether the session's program runs at the return of the traced function.
#[inline(always)]
pub fn session_is_return(ctx: &impl EbpfContext) -> bool {
    // SAFETY: a call by number, as of a helper; the signature is the kernel's.
    let call: unsafe extern "C" fn(*mut c_void) -> u64 =
        unsafe { transmute(SESSION_IS_RETURN.number as usize) };
    // SAFETY: the context is the program's own.
    unsafe { call(ctx.as_ptr()) != 0 }
}

/// The 8 bytes of the session's program for this call.
#[inline(always)]
pub fn session_cookie(ctx: &impl EbpfContext) -> *mut u64 {
    // SAFETY: a call by number, as of a helper; the signature is the kernel's.
    let call: unsafe extern "C" fn(*mut c_void) -> *mut u64 =
        unsafe { transmute(SESSION_COOKIE.number as usize) };
    // SAFETY: the context is the program's own.
    unsafe { call(ctx.as_ptr()) }
}

/// A word of kernel memory; 0 where there is none.
#[inline(always)]
pub fn read(address: u64) -> u64 {
    // SAFETY: a call by number, as of a helper; the signature is the kernel's.
    let cast: unsafe extern "C" fn(u64, u32) -> *const u64 =
        unsafe { transmute(RDONLY_CAST.number as usize) };
    // SAFETY: type 0 is void: the kernel makes each load from it one that may fault and then gives 0.
    unsafe { *cast(address, 0) }
}
