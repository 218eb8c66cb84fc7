//! Debian's Linux 6.1: no iommufd, an older verifier.

use crate::older;

#[test]
fn the_verifier_takes_the_kprobe_programs() {
    older::is_linux("6.1");
    older::the_verifier_takes_the_kprobe_programs();
}

#[test]
fn no_backend_attaches() {
    older::no_backend_attaches();
}

#[test]
fn what_is_missing_is_said() {
    older::what_is_missing_is_said();
}
