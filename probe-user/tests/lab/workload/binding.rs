//! Binding a device for a run: what it changes comes back, whatever happens in between.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::number;
use crate::guest;

const DEVICES: &str = "/sys/bus/pci/devices";
const UNSAFE: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
/// What the kernel keeps for itself: times of power management, and a note that it takes away when the first
/// driver of a device's life binds (`device_links_driver_bound`, Linux 7.3).
const MOVING: [&str; 2] = ["power", "waiting_for_supplier"];

/// The test device that nothing is bound to.
fn free_device() -> String {
    let mut addresses: Vec<String> = fs::read_dir(DEVICES)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|address| {
            let of = |name: &str| fs::read_to_string(format!("{DEVICES}/{address}/{name}")).unwrap();
            (of("vendor").trim(), of("device").trim()) == ("0x1b36", "0x0005")
        })
        .collect();
    addresses.sort();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    addresses.pop().unwrap()
}

/// Everything that binding could leave changed: names, links, and contents.
fn snapshot(address: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    walk(Path::new(&format!("{DEVICES}/{address}")), &mut all);
    all.insert(UNSAFE.to_owned(), fs::read(UNSAFE).unwrap());
    for folder in
        ["/sys/bus/pci/drivers/vfio-pci", "/dev/vfio/devices", "/dev/vfio", "/sys/kernel/iommu_groups"]
    {
        all.insert(folder.to_owned(), names(Path::new(folder)).join("\n").into_bytes());
    }
    all
}

/// Byte for byte; only what differs is shown.
fn same(address: &str, before: &BTreeMap<String, Vec<u8>>, when: &str) {
    let now = snapshot(address);
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let differs: Vec<_> = keys.into_iter().filter(|key| before.get(*key) != now.get(*key)).collect();
    assert!(differs.is_empty(), "{when}: {differs:?} differ");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn walk(folder: &Path, all: &mut BTreeMap<String, Vec<u8>>) {
    for name in names(folder) {
        if MOVING.contains(&name.as_str()) {
            continue;
        }
        let path = folder.join(&name);
        let key = path.display().to_string();
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_symlink() {
            all.insert(key, fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes());
        } else if kind.is_dir() {
            all.insert(key, Vec::new());
            walk(&path, all);
        } else {
            // What cannot be read (write-only triggers, BARs) has a name at least.
            all.insert(key, fs::read(&path).unwrap_or_default());
        }
    }
}

fn unsafe_mode(value: &str) {
    fs::write(UNSAFE, value).unwrap();
}

fn journal() -> bool {
    Path::new("/run/iovascope/load.json").exists()
}

#[test]
fn a_run_binds_and_lets_go() {
    let address = free_device();
    unsafe_mode("0");
    let before = snapshot(&address);
    let result = super::load(&format!("--bind {address} --yes --size 1M --count 100 --verify"));
    assert_eq!(number(&result, "/verify/differences"), 0);
    assert_eq!(result["bus_master"], false);
    assert!(result["device"].as_str().unwrap().contains("noiommu-vfio"));
    same(&address, &before, "");
    assert!(!journal());
    unsafe_mode("1");
}

#[test]
fn killed_at_any_step_a_restore_puts_everything_back() {
    let address = free_device();
    unsafe_mode("0");
    let before = snapshot(&address);
    let log = guest::file("killed.strace");
    let mut kills = 0;
    let mut left = 0;
    // Every system call that changes a file or the device, one after the other, is the last one.
    for step in 1.. {
        assert!(step < 200, "it never ran to its end");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "trace=write,rename,unlink,mkdir,flock,ioctl", "-e"]);
        strace.arg(format!("inject=write,rename,unlink,mkdir,flock,ioctl:signal=KILL:when={step}"));
        strace.arg("-o").arg(&log);
        strace.args(["iovascope", "load", "--bind", &address, "--yes", "--size", "64k", "--count", "1"]);
        strace.stdout(Stdio::null()).stderr(Stdio::null());
        if strace.status().unwrap().success() {
            break;
        }
        kills += 1;
        left += u32::from(journal());
        guest::succeed(&mut guest::iovascope(&["load", "--restore"]));
        assert_eq!(
            snapshot(&address),
            before,
            "killed at step {step}: {}",
            fs::read_to_string(&log).unwrap()
        );
        assert!(!journal(), "killed at step {step}");
    }
    fs::write(
        guest::file("kills.txt"),
        format!("{kills} kills, {left} of them with something to put back\n"),
    )
    .unwrap();
    assert!(kills >= 15 && left >= 10, "{kills} kills, {left} with something to restore");
    unsafe_mode("1");
}

#[test]
fn signals_end_a_run_and_let_the_device_go() {
    let address = free_device();
    let before = snapshot(&address);
    for name in ["INT", "TERM", "HUP", "QUIT", "USR1", "ALRM"] {
        let mut command = guest::iovascope(&["load", "--json", "--progress", "ndjson", "--size", "1M"]);
        command.args(["--bind", &address, "--yes", "--duration", "1h"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        lines.next().expect("the driver ended early").unwrap();
        guest::succeed(Command::new("kill").args([format!("-{name}"), child.id().to_string()]));
        lines.for_each(drop);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "SIG{name}");
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(guest::job(&result)["ended"], "interrupted");
        same(&address, &before, name);
        assert!(!journal());
    }
}

#[test]
fn what_is_in_use_is_refused_and_nobody_is_surprised() {
    let refused = |arguments: &[&str], code: i32, why: &str| {
        let output = guest::iovascope(&["load", "--count", "1"]).args(arguments).output().unwrap();
        let said = guest::stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(why), "{arguments:?}: {said}");
    };
    let address = free_device();
    let before = snapshot(&address);
    let used = fs::read_dir("/sys/bus/pci/drivers/virtio-pci").unwrap();
    let used = used.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let used = used.filter(|name| name.starts_with("0000:")).min().unwrap();
    refused(&["--bind", &used, "--yes"], 3, "the driver virtio-pci has it");
    refused(&["--bind", &address], 2, "give --yes");
    refused(&["--size", "1T"], 3, "would be pinned");
    refused(&["--size", "2M", "--pin-limit", "1M"], 3, "would be pinned");
    refused(&["--memory", "hugetlb-1g", "--size", "2G"], 3, "hugepages-1048576kB");
    same(&address, &before, "");
    assert!(!journal());
}
