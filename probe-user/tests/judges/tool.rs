//! Running iovascope and the judges, and the recordings that they are given.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A recording made in the lab, by real calls on a real kernel.
pub(crate) const LAB: &[u8] = include_bytes!("../data/lab-format-1.iova");

/// Another one, by format 2: with attribution, lock waits, single calls and the programs' cost.
pub(crate) const LAB_2: &[u8] = include_bytes!("../data/lab-format-2.iova");

/// An empty folder of a test's own: a second look must not find what the first one left in a database.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new("/lab/build").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    folder
}

/// The lab's recording as a file in `folder`.
pub(crate) fn recording(folder: &Path) -> PathBuf {
    let path = folder.join("lab.iova");
    fs::write(&path, LAB).unwrap();
    path
}

/// The other one.
pub(crate) fn rich_recording(folder: &Path) -> PathBuf {
    let path = folder.join("lab-2.iova");
    fs::write(&path, LAB_2).unwrap();
    path
}

/// `iovascope` with arguments.
pub(crate) fn iovascope(arguments: &[&str]) -> Command {
    let mut command = Command::new("/lab/build/iovascope");
    command.args(arguments);
    command
}

/// Run to the end; it must succeed. What it printed.
pub(crate) fn stdout(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// An export as a file in `folder`.
pub(crate) fn export(folder: &Path, recording: &Path, format: &str, options: &[&str]) -> PathBuf {
    let path = folder.join(format!("export.{format}"));
    let _ = fs::remove_file(&path);
    stdout(iovascope(&["export", "-f", format, "-o"]).arg(&path).args(options).arg(recording));
    path
}
