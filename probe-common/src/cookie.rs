//! The 8 bytes that a session's program keeps of a call between its entry and its return.
//!
//! Those of fsession live on the trampoline's stack, which zeroes them before the entry
//! (`__arch_prepare_bpf_trampoline` in `arch/x86/net/bpf_jit_comp.c`, Linux 7.3). So [`UNSEEN`] at the
//! return means that the kernel did not run the program at the entry.
//!
//! The dispatch site keeps the clock alone. `get_phys` also keeps the cap, which the kernel
//! overwrites: the upper 44 bits are the clock, the lower 20 the cap's code.
//!
//! Those of a kprobe session are on the thread's shadow stack, which is not zeroed; but the kernel shows it no
//! return of a call whose entry it was not shown (`fprobe_fgraph_entry` in kernel/trace/fprobe.c, Linux 7.3). No
//! argument is left at the return, so the lower 20 bits say where the rest of the call is
//! ([`pack_place`]).

/// The program did not see the entry.
pub const UNSEEN: u64 = 0;
/// The program saw the entry, and was not to count it.
pub const UNARMED: u64 = 1;

const CODE_BITS: u32 = 20;
const CODE_MASK: u64 = (1 << CODE_BITS) - 1;
const CLOCK_MASK: u64 = u64::MAX >> CODE_BITS;

/// The code of a cap that no run can fill, 2^64 - 1. Codes 0 and 1 are free for the marks above.
const NO_CAP: u64 = 2;
/// The code of a cap that is kept elsewhere.
const ELSEWHERE: u64 = 3;
/// The code of a cap of 0 pages.
const FIRST: u64 = 4;

/// A cap as 20 bits say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapCode(u64);

impl CapCode {
    /// The code of a cap in bytes: exact for whole pages below 2^20 - 4 of them and for 2^64 - 1, any
    /// other must be kept [elsewhere](Self::is_elsewhere).
    #[must_use]
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "BPF: a call would cost more than the body")]
    pub const fn of(cap: u64, page_shift: u64) -> Self {
        let pages = cap >> (page_shift & 63);
        if cap & ((1 << (page_shift & 63)) - 1) == 0 && pages <= CODE_MASK - FIRST {
            Self(FIRST + pages)
        } else if cap == u64::MAX {
            Self(NO_CAP)
        } else {
            Self(ELSEWHERE)
        }
    }

    /// Whether the cap did not fit and is kept elsewhere.
    #[must_use]
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "BPF: a call would cost more than the body")]
    pub const fn is_elsewhere(self) -> bool {
        self.0 == ELSEWHERE
    }

    /// The cap in bytes; 2^64 - 1 for none, and for one that is kept elsewhere.
    #[must_use]
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "BPF: a call would cost more than the body")]
    pub const fn bytes(self, page_shift: u64) -> u64 {
        if self.0 >= FIRST { (self.0 - FIRST) << page_shift } else { u64::MAX }
    }

    /// Whether a run of `run` bytes fills the cap; `false` for one that is kept elsewhere.
    #[must_use]
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "BPF: a call would cost more than the body")]
    pub const fn is_filled_by(self, run: u64, page_shift: u64) -> bool {
        self.0 >= FIRST && (self.0 - FIRST) << page_shift == run
    }
}

/// The cookie of a call with this clock reading (ns) and cap.
#[must_use]
#[inline(always)]
#[allow(clippy::inline_always, reason = "BPF: a call would cost more than the body")]
pub const fn pack(clock: u64, cap: CapCode) -> u64 {
    clock << CODE_BITS | cap.0
}

/// The cap in a cookie of [`pack`].
#[must_use]
#[inline(always)]
#[allow(clippy::inline_always, reason = "BPF: a call would cost more than the body")]
pub const fn cap_of(cookie: u64) -> CapCode {
    CapCode(cookie & CODE_MASK)
}

/// ns from a cookie of [`pack`] or [`pack_place`] to `now`; `None` when the clock stepped back. 44 bits of clock leave
/// room for calls of 2.4 hours: a longer one looks like a step back.
#[must_use]
#[inline(always)]
#[allow(clippy::inline_always, reason = "BPF: a call would cost more than the body")]
pub const fn duration(cookie: u64, now: u64) -> Option<u64> {
    let duration = now.wrapping_sub(cookie >> CODE_BITS) & CLOCK_MASK;
    if duration > CLOCK_MASK / 2 { None } else { Some(duration) }
}

/// The cookie of a kprobe session's call with this clock reading (ns): `place` (below 2^19) says what is known of
/// it beyond, `counted` whether it is counted.
#[must_use]
#[inline(always)]
#[allow(clippy::inline_always, reason = "BPF: a call would cost more than the body")]
pub const fn pack_place(clock: u64, place: u64, counted: bool) -> u64 {
    clock << CODE_BITS | place << 1 | counted as u64
}

/// The place in a cookie of [`pack_place`].
#[must_use]
#[inline(always)]
#[allow(clippy::inline_always, reason = "BPF: a call would cost more than the body")]
pub const fn place_of(cookie: u64) -> u64 {
    (cookie & CODE_MASK) >> 1
}

/// Whether a call with a cookie of [`pack_place`] is counted.
#[must_use]
#[inline(always)]
#[allow(clippy::inline_always, reason = "BPF: a call would cost more than the body")]
pub const fn is_counted(cookie: u64) -> bool {
    cookie & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn marks_are_no_cookies() {
        for cap in [0, 1, 4096, u64::MAX] {
            assert!(pack(0, CapCode::of(cap, 12)) > UNARMED);
        }
        const { assert!(UNSEEN < UNARMED) };
    }

    #[test]
    fn caps_are_exact_or_elsewhere() {
        let most = (CODE_MASK - FIRST) << 12;
        for cap in [0, 4096, 2 << 20, most] {
            let code = CapCode::of(cap, 12);
            assert!(!code.is_elsewhere() && code.is_filled_by(cap, 12), "{cap}");
            assert_eq!(code.bytes(12), cap);
            assert!(!code.is_filled_by(cap + 1, 12) && !code.is_filled_by(cap + 4096, 12), "{cap}");
        }
        for cap in [1, 4095, 10_000, most + 4096, u64::MAX - 1] {
            assert!(CapCode::of(cap, 12).is_elsewhere(), "{cap}");
            assert!(!CapCode::of(cap, 12).is_filled_by(cap, 12), "{cap}");
        }
        let none = CapCode::of(u64::MAX, 12);
        assert_eq!(none.bytes(12), u64::MAX);
        assert!(!none.is_elsewhere() && !none.is_filled_by(u64::MAX, 12));
    }

    #[test]
    fn the_clock_may_wrap_and_step_back() {
        let cookie = |clock| pack(clock, CapCode::of(4096, 12));
        let wrap = 1 << 44;
        assert_eq!(duration(cookie(wrap - 3), wrap + 4), Some(7));
        assert_eq!(duration(cookie(wrap + 4), wrap - 3), None);
        assert_eq!(duration(cookie(5), 5), Some(0));
    }

    proptest! {
        #[test]
        fn cookies_round_trip(clock in 0u64..1 << 63, took in 0u64..1 << 43, pages in 0u64..1 << 19) {
            let cookie = pack(clock, CapCode::of(pages << 12, 12));
            prop_assert_eq!(duration(cookie, clock + took), Some(took));
            prop_assert_eq!(cap_of(cookie), CapCode::of(pages << 12, 12));
        }

        #[test]
        fn places_round_trip(
            clock in 0u64..1 << 63,
            took in 0u64..1 << 43,
            place in 0u64..1 << 19,
            counted: bool,
        ) {
            let cookie = pack_place(clock, place, counted);
            prop_assert_eq!(duration(cookie, clock + took), Some(took));
            prop_assert_eq!((place_of(cookie), is_counted(cookie)), (place, counted));
        }
    }
}
