//! Where reports, comparisons and exports go: a disk that is full, a reader that left, a file that is there.
//! Needs no kernel but this one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};

use iovascope::export::FORMATS;
use rustix::pipe::pipe;

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/mixed.iova");

/// Every way to say something of a recording on stdout, and the two that can write a file.
fn commands() -> Vec<Vec<String>> {
    let words = |line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let reports =
        ["text", "markdown", "json", "html"].map(|form| words(format!("report -f {form} {RECORDING}")));
    let diffs = ["text", "json"].map(|form| words(format!("diff -f {form} {RECORDING} {RECORDING}")));
    let exports = FORMATS.iter().map(|format| words(format!("export -f {} {RECORDING}", format.name)));
    reports.into_iter().chain(diffs).chain(exports).collect()
}

fn run(arguments: &[String], stdout: Stdio) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iovascope"));
    let child = command.args(arguments).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    (output, said)
}

#[test]
fn a_full_disk_is_an_error_that_says_so() {
    for arguments in commands() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (output, said) = run(&arguments, full.into());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("No space left") && said.contains("cannot"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_reader_that_left_has_seen_enough() {
    for arguments in commands() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let (output, said) = run(&arguments, writer.into());
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn files_are_new_and_never_behind_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let [there, link, victim, gone] =
        ["there", "link", "victim", "no/folder"].map(|name| folder.path().join(name));
    fs::write(&there, "precious").unwrap();
    symlink(&victim, &link).unwrap();
    for arguments in commands().into_iter().filter(|arguments| arguments[0] != "diff") {
        for (path, why) in [(&there, "File exists"), (&link, "File exists"), (&gone, "No such file")] {
            let path = path.display().to_string();
            let with = [&arguments[..], &["-o".to_owned(), path.clone()]].concat();
            let (output, said) = run(&with, Stdio::piped());
            assert_eq!(output.status.code(), Some(1), "{with:?}: {said}");
            assert!(said.contains(&path) && said.contains(why), "{with:?}: {said}");
        }
    }
    assert_eq!(fs::read(&there).unwrap(), b"precious");
    assert!(!victim.exists());
}

#[test]
fn the_page_is_the_same_from_both_commands() {
    let page = |command: &str| {
        let arguments: Vec<_> = [command, "-f", "html", RECORDING].map(str::to_owned).into();
        let (output, said) = run(&arguments, Stdio::piped());
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let report = page("report");
    assert!(report.contains("<svg") && report == page("export"));
}
