//! The kernel side: two sites, programs at their entries and returns for each backend.
//!
//! Aggregates in place; nothing shown to users depends on the delivery of events. Reads no user
//! memory. Physical addresses and kernel pointers stay here.
//!
//! * [`maps`]: every map and load-time constant
//! * [`backend`]: the programs, a file per way to attach
//! * [`open`]: the tables of open calls
//! * [`span`]: an entry and its return made one measured call
//! * [`dispatch`], [`get_phys`]: what is counted of a call of each site
//! * [`kfunc`]: calls of kernel functions

#![no_std]
#![no_main]
// Compare-and-swap: the BPF target has one, and the core library's atomic types say it has not.
#![feature(core_intrinsics)]
// A barrier for the compiler (see `maps::near`).
#![feature(asm_experimental_arch)]
#![allow(internal_features, reason = "no stable name for a compare-and-swap on this target")]

mod backend;
mod dispatch;
mod get_phys;
mod kfunc;
mod maps;
mod open;
mod span;

/// The kernel offers some helpers to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
