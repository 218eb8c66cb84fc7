//! What holds on kernels from before GET_PA: the programs pass the verifier, and nothing is attached.

use std::fmt::Write as _;
use std::fs;

use iovascope::source::kernel::{LogLevel, trial};
use probe_common::site::{Backend, SITES};

use crate::guest;

/// The guest runs the kernel that the variant promises.
pub(crate) fn is_linux(version: &str) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    assert!(release.starts_with(&format!("{version}.")), "the guest runs Linux {release}");
}

/// Every program of the kprobe backend, with diagnostics and without.
pub(crate) fn the_verifier_takes_the_kprobe_programs() {
    let mut kept = String::new();
    for logs in [LogLevel::Off, LogLevel::Trace] {
        let taken =
            trial::kprobe_programs(logs).unwrap_or_else(|error| panic!("{logs:?}: {}", chain(&error)));
        assert_eq!(taken.len(), 2 * SITES.len());
        for taken in taken {
            let verified = taken.verified.expect("kernels since 5.16 tell");
            // A million is the most that a kernel looks at (BPF_COMPLEXITY_LIMIT_INSNS).
            assert!((10..100_000).contains(&verified), "{logs:?}: {taken:?}");
            writeln!(kept, "{logs:?} {}: {verified} instructions", taken.program).unwrap();
        }
    }
    fs::write(guest::file("verified.txt"), kept).unwrap();
    guest::nothing_left();
}

/// Each backend names what it misses.
pub(crate) fn no_backend_attaches() {
    for backend in Backend::ALL {
        let error = trial::attach(backend, None).expect_err("there is no such function");
        let said = chain(&error);
        // A kernel without sessions lacks their functions first; and Linux 6.12 has them for kprobe sessions, but
        // its verifier does not let a program read memory of no type.
        let session = match backend {
            Backend::Fsession => said.contains("bpf_session_"),
            Backend::KprobeSession => {
                ["bpf_session_", "bpf_rdonly_cast", "Linux 6.17"].iter().any(|words| said.contains(words))
            }
            Backend::Fentry | Backend::Kprobe => false,
        };
        let names = session || SITES.iter().any(|site| said.contains(site.symbol));
        assert!(names, "{}: {said}", backend.name());
        guest::nothing_left();
    }
}

/// `doctor` and `record` say what is missing, with the status for it.
pub(crate) fn what_is_missing_is_said() {
    for arguments in [&["doctor"][..], &["record", "-d", "1s", "-o", "/tmp/older.iova"]] {
        let output = guest::iovascope(arguments).output().unwrap();
        let said = guest::stdout(&output) + &guest::stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(said.contains("no iommufd") && said.contains("a kernel >= 7.3"), "{arguments:?}: {said}");
    }
    assert!(!std::path::Path::new("/tmp/older.iova").exists());
    guest::nothing_left();
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
