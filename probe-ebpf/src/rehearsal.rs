//! The calibration's object: the same programs, which take canaries for calls to be counted and the outcome of a call
//! from the block (`probe_common::wire::outcome`). So a recorder that can make no GET_PA succeed rehearses what
//! counting one costs.
//!
//! An object of its own, because a switch would be an instruction more in every call of a recording.

use probe_common::wire::Block;

/// Whether this is that object.
pub const IS_ON: bool = cfg!(feature = "rehearsal");

/// A call's result, or the one that is rehearsed: one load in place of another.
///
/// # Safety
/// `block` is the current CPU's.
#[inline(always)]
pub unsafe fn result(block: *const Block, result: i64) -> i64 {
    if !IS_ON {
        return result;
    }
    // SAFETY: the lower half of a valid word, little-endian.
    i64::from(unsafe { core::ptr::read_volatile((&raw const (*block).armed).cast::<i32>()) })
}
