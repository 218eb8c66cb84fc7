//! `diff` of recordings in files: what it says, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::process::Command;

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/mixed.iova");

fn diff(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_iovascope")).arg("diff").args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_recording_given_twice_is_said_in_every_form_and_no_evidence() {
    let twice = format!("{RECORDING},{RECORDING}");
    for form in ["text", "json"] {
        let (status, said) = diff(&["--strict", "-f", form, &twice, &twice]);
        assert_eq!(status, Some(4), "{said}");
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("A's recording 2 is recording 1 again: it is counted once"), "{said}");
        let (status, said) = diff(&["-f", form, RECORDING, RECORDING]);
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("both sides are the same recordings"), "{said}");
    }
}
