//! Which backend is taken, and what is said where it is not the best one.

use std::process::Command;

use crate::guest;

#[test]
fn the_best_one_is_taken_without_a_word() {
    let path = guest::file("auto.iova");
    let recorder = guest::succeed(guest::iovascope(&["record", "-d", "50ms", "-o"]).arg(&path));
    let header = &guest::report(&path)["header"];
    assert_eq!((&header["backend"], &header["declined"]), (&"fsession".into(), &serde_json::json!([])));
    assert!(!guest::stderr(&recorder).contains("not by"), "{}", guest::stderr(&recorder));
}

/// Recording without `CAP_SYS_ADMIN`, which naming a module's BTF takes.
fn unprivileged(arguments: &[&str]) -> Command {
    // Debian's kernels want it for perf_event_open too, unless told otherwise.
    std::fs::write("/proc/sys/kernel/perf_event_paranoid", "2").unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", "iovascope", "record"]);
    command.args(arguments);
    command
}

#[test]
fn what_better_ones_lack_is_said_and_recorded() {
    let path = guest::file("declined.iova");
    let load = ["--", "iovascope", "load", "--size", "1M", "--count", "10", "-o", "/tmp/declined.json"];
    let said = guest::stderr(&guest::succeed(unprivileged(&["-o"]).arg(&path).args(load)));
    let report = guest::report(&path);
    assert_eq!(report["header"]["backend"], "kprobe-session");
    assert_eq!(guest::count(&guest::dispatched(&report), "IOAS_NOIOMMU_GET_PA", "ok"), 10);
    let declined = report["header"]["declined"].as_array().unwrap();
    assert_eq!(declined.len(), 2);
    for (declined, backend) in declined.iter().zip(["fsession", "fentry"]) {
        assert_eq!(declined["backend"], backend);
        let why = declined["why"].as_str().unwrap();
        assert!(why.contains("CAP_SYS_ADMIN"), "{why}");
        assert!(said.contains(&format!("by kprobe-session, not by {backend}: {why}")), "{said}");
    }
}

#[test]
fn one_that_cannot_be_had_is_refused_and_nothing_begun() {
    let path = guest::file("refused.iova");
    let output = unprivileged(&["--backend", "fsession", "-d", "50ms", "-o"]).arg(&path).output().unwrap();
    let said = guest::stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("cannot attach by fsession") && said.contains("CAP_SYS_ADMIN"), "{said}");
    assert!(!path.exists());
    guest::nothing_left();
}
