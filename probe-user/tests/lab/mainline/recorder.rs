//! The recorder's manners: ends, leftovers, diagnostics, refusals.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command};

use iovascope::recording::Reader;
use serde_json::Value;

use crate::guest;

/// A recorder without an end of its own, once it has written its first window.
fn recording(name: &str) -> Child {
    let path = guest::file(name);
    let mut recorder = guest::iovascope(&["record", "-i", "10ms", "-o"]).arg(&path).spawn().unwrap();
    while !has_a_window(&path) {
        assert!(recorder.try_wait().unwrap().is_none(), "the recorder ended early");
        std::thread::yield_now();
    }
    recorder
}

/// Whether a window can be read from a file that is being written.
fn has_a_window(path: &Path) -> bool {
    let reader = fs::File::open(path).ok().and_then(|file| Reader::begin(file, "growing".to_owned()).ok());
    reader.is_some_and(|mut reader| matches!(reader.next_window(), Ok(Some(_))))
}

fn signal(child: &Child, name: &str) {
    guest::succeed(Command::new("kill").args([format!("-{name}"), child.id().to_string()]));
}

#[test]
fn signals_end_it_in_order() {
    for name in ["INT", "TERM", "HUP"] {
        let file = format!("signal-{name}.iova");
        let mut recorder = recording(&file);
        signal(&recorder, name);
        assert_eq!(recorder.wait().unwrap().code(), Some(0), "SIG{name}");
        let report = guest::report(&guest::file(&file));
        assert_eq!((&report["unclean"], &report["end"]["reason"]), (&Value::Null, &"signal".into()));
        guest::nothing_left();
    }
}

#[test]
fn killed_it_leaves_nothing_but_a_readable_recording() {
    let mut recorder = recording("killed.iova");
    signal(&recorder, "KILL");
    recorder.wait().unwrap();
    guest::nothing_left();
    let path = guest::file("killed.iova");
    let report = guest::report(&path);
    assert!(report["unclean"].is_string() && report["windows"].as_u64().unwrap() > 0, "{report}");
    let strict = guest::iovascope(&["report", "--strict"]).arg(&path).output().unwrap();
    assert_eq!(strict.status.code(), Some(4));
}

#[test]
fn diagnostics_cost_nothing_when_off() {
    let programs = |options: &[&str], name: &str| -> (Value, String) {
        let mut command = guest::iovascope(&["record", "-o"]);
        command.arg(guest::file(name)).args(options);
        command.args(["--", "sh", "-c", "bpftool -j prog show; iovascope load --size 1M --count 3 >&2"]);
        let output = guest::succeed(&mut command);
        (serde_json::from_slice(&output.stdout).unwrap(), guest::stderr(&output))
    };
    let size = |programs: &Value, name: &str| {
        let ours = programs.as_array().unwrap().iter().find(|program| program["name"] == name);
        ours.unwrap()["bytes_xlated"].as_u64().unwrap()
    };
    let (off, quiet) = programs(&["--backend", "kprobe"], "logs-off.iova");
    let (on, verbose) = programs(&["--backend", "kprobe", "--verbose"], "logs-on.iova");
    assert!(verbose.contains("trace dispatch row 21 result 0 in "), "{verbose}");
    assert!(verbose.contains("trace get_phys run 4096 stop 0 in "), "{verbose}");
    assert!(!quiet.contains("trace "), "{quiet}");
    for program in ["dispatch_return", "get_phys_return"] {
        let (off, on) = (size(&off, program), size(&on, program));
        // A reserve, a formatted record and a submit; with the level off the verifier removes all of it.
        assert!(off + 400 < on, "{program}: {off} bytes off, {on} bytes on");
    }
}

#[test]
fn files_are_new_private_and_never_behind_a_link() {
    let path = guest::file("private.iova");
    let record = || guest::iovascope(&["record", "-d", "50ms", "-o"]).arg(&path).output().unwrap();
    assert!(record().status.success());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&path).unwrap();
    let again = record();
    assert_eq!(again.status.code(), Some(1));
    assert!(guest::stderr(&again).contains("File exists"), "{}", guest::stderr(&again));
    assert_eq!(fs::read(&path).unwrap(), before);
    fs::remove_file(&path).unwrap();
    let victim = std::env::temp_dir().join("victim");
    let link = std::env::temp_dir().join("link.iova");
    symlink(&victim, &link).unwrap();
    let through = guest::iovascope(&["record", "-d", "50ms", "-o"]).arg(&link).output().unwrap();
    assert_eq!(through.status.code(), Some(1));
    assert!(!victim.exists());
    guest::nothing_left();
}

#[test]
fn a_stream_reports_as_a_file_does() {
    let mut recorder =
        guest::iovascope(&["record", "-o", "-", "--", "iovascope", "load", "--size", "1M", "--count", "10"]);
    recorder.arg("-o").arg(guest::file("stream.load.json"));
    let output = guest::succeed(&mut recorder);
    let path = guest::file("stream.iova");
    fs::write(&path, &output.stdout).unwrap();
    assert_eq!(guest::count(&guest::dispatched(&guest::report(&path)), "IOAS_NOIOMMU_GET_PA", "ok"), 10);
}

#[test]
fn the_commands_failure_is_told() {
    let output = guest::iovascope(&["record", "-o"])
        .arg(guest::file("failing.iova"))
        .args(["--", "sh", "-c", "exit 7"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(guest::stderr(&output).contains("exit status: 7"), "{}", guest::stderr(&output));
    assert_eq!(guest::report(&guest::file("failing.iova"))["unclean"], Value::Null);
}

#[test]
fn doctor_finds_this_kernel_able() {
    let output = guest::succeed(&mut guest::iovascope(&["doctor", "--json"]));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["record"]["able"], &found["load"]["able"]), (&true.into(), &true.into()), "{found}");
}

#[test]
fn doctor_reads_this_kernels_module() {
    let module = "/lab/modules/iommufd.ko";
    let output = guest::iovascope(&["doctor", "--kernel", module]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", guest::stdout(&output), guest::stderr(&output));
}
