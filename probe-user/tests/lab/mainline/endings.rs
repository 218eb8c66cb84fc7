//! How a recording ends when it cannot be written any more: nothing that was promised is lost, the rest is
//! counted, and nothing is left behind.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::guest;

/// Records 3,000 calls, every ms, at `path`; what `shell` does first happens in the same process.
fn record(shell: &str, path: &str) -> std::process::Output {
    let script = format!(
        "{shell}; exec iovascope record -i 1ms -o {path} -- iovascope load --size 1M --count 3000 --json -o {path}.json"
    );
    Command::new("sh").args(["-c", &script]).output().unwrap()
}

fn ends_early(output: &std::process::Output, path: &str, why: &str) {
    let said = guest::stderr(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("can be read") && said.contains("are not") && said.contains(why), "{said}");
    let report = guest::report(std::path::Path::new(path));
    assert!(report["unclean"].is_string() && report["windows"].as_u64().unwrap() > 0, "{report}");
    // What it says is lost, and what it holds, are all calls of the driver's and of its set-up.
    let held = report["balance"]["get_phys"]["calls"].as_u64().unwrap();
    assert!(held < 3000, "{report}");
    guest::nothing_left();
}

#[test]
fn a_full_disk() {
    let disk = "/tmp/full";
    fs::create_dir_all(disk).unwrap();
    guest::succeed(Command::new("mount").args(["-t", "tmpfs", "-o", "size=8k", "none", disk]));
    let path = format!("{disk}/a.iova");
    // The driver's own result goes elsewhere: the disk is small.
    let script = format!(
        "exec iovascope record -i 1ms -o {path} -- iovascope load --size 1M --count 3000 --json -o /tmp/full.json"
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    ends_early(&output, &path, "No space left");
    // The user's command ran to its end all the same.
    assert!(fs::read_to_string("/tmp/full.json").unwrap().contains("3000"));
    guest::succeed(Command::new("umount").arg(disk));
}

#[test]
fn a_file_that_may_not_grow() {
    let path = "/tmp/limited.iova";
    ends_early(&record("ulimit -f 4", path), path, "File too large");
}

#[test]
fn a_reader_that_leaves() {
    let mut recorder = guest::iovascope(&["record", "-i", "1ms", "-o", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(recorder.stdout.take());
    let output = recorder.wait_with_output().unwrap();
    let said = guest::stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    guest::nothing_left();
}

#[test]
fn a_target_that_cannot_be_written() {
    let folder = "/tmp/read-only";
    fs::create_dir_all(folder).unwrap();
    guest::succeed(Command::new("mount").args(["-t", "tmpfs", "-o", "ro", "none", folder]));
    symlink("/tmp/behind-the-link", "/tmp/is-a-link").unwrap();
    for (path, why) in [
        (format!("{folder}/a.iova"), "Read-only"),
        ("/tmp/is-a-link".to_owned(), "File exists"),
        ("/tmp/no/such/folder.iova".to_owned(), "No such file"),
        ("/tmp".to_owned(), "File exists"),
        ("/dev/full".to_owned(), "File exists"),
    ] {
        let output = guest::iovascope(&["record", "-d", "10ms", "-o"]).arg(&path).output().unwrap();
        let said = guest::stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{path}: {said}");
        assert!(said.contains(&path) && said.contains(why), "{path}: {said}");
    }
    assert!(!fs::exists("/tmp/behind-the-link").unwrap());
    guest::succeed(Command::new("umount").arg(folder));
    guest::nothing_left();
}

#[test]
fn marks_and_clocks_are_recorded() {
    let path = guest::file("marked.iova");
    let script = "kill -USR1 $PPID; sleep 0.3";
    guest::succeed(
        guest::iovascope(&["record", "-q", "--tag", "setting=a", "-o"])
            .arg(&path)
            .args(["--", "sh", "-c", script]),
    );
    let report = guest::report(&path);
    assert_eq!(report["marks"][0]["text"], "SIGUSR1", "{report}");
    assert_eq!(report["header"]["tags"]["setting"], "a");
    assert_eq!(
        (&report["suspended"], report["header"]["host"]["boot_id"].as_str().map(str::len)),
        (&0.into(), Some(36))
    );
}
