//! Kernel functions that programs call: made-up call numbers on the BPF side, the running kernel's
//! BTF ids after the loader has looked them up.
//!
//! Numbers far beyond any helper's, so an object that was loaded without that step is refused.

/// A kernel function by a call number of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kfunc {
    /// The immediate of the call in the object.
    pub number: i32,
    /// The function's name in the kernel's BTF.
    pub name: &'static str,
}

/// `bool bpf_session_is_return(void *ctx)`: at the return of the traced function.
pub const SESSION_IS_RETURN: Kfunc = Kfunc { number: 0x7001, name: "bpf_session_is_return" };
/// `__u64 *bpf_session_cookie(void *ctx)`: the call's own 8 bytes.
pub const SESSION_COOKIE: Kfunc = Kfunc { number: 0x7002, name: "bpf_session_cookie" };
/// `void *bpf_rdonly_cast(const void *, u32)`: reads of kernel memory as plain loads; one that
/// faults gives 0.
pub const RDONLY_CAST: Kfunc = Kfunc { number: 0x7003, name: "bpf_rdonly_cast" };

/// Every one that a program may call.
pub const KFUNCS: [Kfunc; 3] = [SESSION_IS_RETURN, SESSION_COOKIE, RDONLY_CAST];
