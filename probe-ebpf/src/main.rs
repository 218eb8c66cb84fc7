//! The kernel side: two sites, programs at their entries and returns for each backend.
//!
//! Aggregates in place; nothing shown to users depends on the delivery of events. Reads no user
//! memory. Physical addresses and kernel pointers stay here.
//!
//! * [`constant`]: what user space tells the programs before they are loaded
//! * [`maps`]: every map
//! * [`kernel`]: the way to the kernel's state, which differs between kinds of programs
//! * [`backend`]: the programs, a file per way to attach
//! * [`open`]: the tables of open calls
//! * [`span`]: an entry and its return made one measured call
//! * [`dispatch`], [`get_phys`]: what is counted of a call of each site
//! * [`area`]: whether a short scan ended where its area does
//! * [`callers`]: whose calls
//! * [`calls`]: single calls; [`waits`]: lock waits; both only where asked for
//! * [`kfunc`]: calls of kernel functions

#![no_std]
#![no_main]
// Compare-and-swap: the BPF target has one, and the core library's atomic types say it has not.
#![feature(core_intrinsics)]
// A barrier for the compiler (see `maps::near`).
#![feature(asm_experimental_arch)]
#![allow(internal_features, reason = "no stable name for a compare-and-swap on this target")]

mod area;
mod backend;
mod callers;
mod calls;
mod constant;
mod dispatch;
mod get_phys;
mod kernel;
mod kfunc;
mod maps;
mod open;
mod rehearsal;
mod span;
mod waits;

/// The kernel offers some helpers to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
