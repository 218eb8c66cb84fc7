//! systemd reads the unit in `packaging/`, and counts how much it could do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::tool;

/// Tenths of systemd's exposure, 0 to 100, of which a unit with nothing restricted has 96. What is left is
/// root with the four capabilities that counting takes, one device, and a socket.
const EXPOSURE: &str = "30";

/// The unit, with the program where it is here.
fn unit(folder: &Path, change: fn(String) -> String) -> PathBuf {
    let text = fs::read_to_string("/lab/build/packaging/iovascope.service").unwrap();
    assert!(text.contains("/usr/bin/iovascope "), "{text}");
    let path = folder.join("iovascope.service");
    fs::write(&path, change(text.replace("/usr/bin/iovascope ", "/lab/build/iovascope "))).unwrap();
    path
}

fn analyze(arguments: &[&str], unit: &Path) -> (Output, String) {
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).output().unwrap();
    let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    (output, said)
}

#[test]
fn systemd_finds_nothing_to_say_of_the_unit() {
    let folder = tool::folder("unit");
    let verify = ["verify", "--man=no", "--recursive-errors=no"];
    let (output, said) = analyze(&verify, &unit(&folder, |text| text));
    assert!(output.status.success() && !said.contains("iovascope"), "{said}");
    // It can say no.
    for change in [
        |text: String| text.replace("ProtectHome=yes", "ProtectHouse=yes"),
        |text: String| text.replace("/lab/build/iovascope ", "/lab/build/no-such-program "),
        |text: String| text.replace("SystemCallFilter=@system-service", "SystemCallFilter=@no-such-set"),
    ] {
        let (_, said) = analyze(&verify, &unit(&folder, change));
        assert!(said.contains("iovascope.service"), "{said}");
    }
}

#[test]
fn the_unit_has_few_rights() {
    let folder = tool::folder("unit-rights");
    let security = ["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE];
    let (output, said) = analyze(&security, &unit(&folder, |text| text));
    assert!(output.status.success(), "{said}");
    let (output, said) =
        analyze(&security, &unit(&folder, |text| text.replace("CapabilityBoundingSet=", "# ")));
    assert!(!output.status.success(), "{said}");
}
