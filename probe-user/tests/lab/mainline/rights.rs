//! What a process may not do: doctor finds out by trying, recorders end with status 3 and say what to do.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::guest;

/// Both ways to ask, each under `wrap`.
fn asked(wrap: &[&str]) -> [(Output, String); 2] {
    [&["iovascope", "doctor"][..], &["iovascope", "record", "-d", "50ms", "-o", "/tmp/rights.iova"]].map(
        |ask| {
            let mut words = wrap.iter().chain(ask);
            let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
            let said = guest::stdout(&output) + &guest::stderr(&output);
            (output, said)
        },
    )
}

/// Neither can, and both say `why` and `remedy`, and nothing of the kernel's own words alone.
#[track_caller]
fn refused(wrap: &[&str], why: &str, remedy: &str) {
    for (output, said) in asked(wrap) {
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(why) && said.contains(remedy) && said.contains("what to do:"), "{said}");
        assert!(!said.contains("record: yes"), "{said}");
    }
    assert!(!PathBuf::from("/tmp/rights.iova").exists());
    guest::nothing_left();
}

#[test]
fn doctor_tried_what_it_says_works() {
    let said = guest::stdout(&guest::succeed(&mut guest::iovascope(&["doctor"])));
    assert!(said.contains("record: yes, by fsession, fentry, kprobe-session, kprobe"), "{said}");
    for backend in ["fsession", "fentry", "kprobe-session", "kprobe"] {
        let line = said.lines().find(|line| line.contains(&format!("tried {backend} "))).expect(&said);
        assert!(line.starts_with("ok ") && line.contains("taken off"), "{line}");
    }
    guest::nothing_left();
}

#[test]
fn roots_of_user_namespaces_are_told_so() {
    // With /dev/iommu open to them: it is tracing that they may not.
    refused(&["unshare", "--user", "--map-root-user"], "user namespace", "outside of the container");
}

#[test]
fn a_filter_of_system_calls_is_named() {
    // struct sock_filter: load the number; bpf(2) gives EPERM, everything else goes on.
    #[allow(clippy::cast_possible_truncation, reason = "a system call's number")]
    const BPF: u32 = libc::SYS_bpf as u32;
    let program: [(u16, u8, u8, u32); 4] =
        [(0x20, 0, 0, 0), (0x15, 0, 1, BPF), (0x06, 0, 0, 0x0005_0001), (0x06, 0, 0, 0x7fff_0000)];
    let mut bytes = Vec::new();
    for (code, yes, no, k) in program {
        bytes.extend(code.to_ne_bytes());
        bytes.extend([yes, no]);
        bytes.extend(k.to_ne_bytes());
    }
    let filter = "/tmp/no-bpf.filter";
    fs::write(filter, bytes).unwrap();
    refused(&["setpriv", "--seccomp-filter", filter], "seccomp", "seccomp=unconfined");
}

#[test]
fn without_sysfs_it_is_sysfs_that_is_missing() {
    let hidden = "mount -t tmpfs none /sys && exec \"$@\"";
    refused(&["unshare", "--mount", "sh", "-ec", hidden, "sh"], "no /sys", "mount -t sysfs");
}
