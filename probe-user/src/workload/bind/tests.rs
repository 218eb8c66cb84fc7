use std::os::unix::fs::symlink;

use super::*;

const ADDRESS: &str = "0000:00:05.0";

/// A made-up machine: the test's input. Writing to it binds nothing.
fn machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    let device = folder(root.path(), ADDRESS);
    for folder in [&device, &root.path().join("sys/module/vfio/parameters"), &root.path().join("run")] {
        fs::create_dir_all(folder).expect("create");
    }
    for (name, content) in [("driver_override", "(null)\n"), ("class", "0x00ff00\n")] {
        fs::write(device.join(name), content).expect("write");
    }
    fs::write(root.path().join(PARAMETER), "N\n").expect("write");
    root
}

fn why(root: &Path) -> String {
    match changes(root, ADDRESS).expect_err("refused") {
        BindError::CannotRun(cannot) => cannot.why,
        other => panic!("{other}"),
    }
}

fn give_driver(root: &Path, address: &str, name: &str) {
    fs::create_dir_all(folder(root, address)).expect("create");
    symlink(format!("../../../bus/pci/drivers/{name}"), folder(root, address).join("driver")).expect("link");
}

#[test]
fn what_will_be_changed_is_said() {
    let root = machine();
    let said = changes(root.path(), ADDRESS).expect("free");
    assert!(said[0].contains("unsafe") && said[1].contains(ADDRESS), "{said:?}");
    fs::write(root.path().join(PARAMETER), "Y\n").expect("write");
    assert_eq!(changes(root.path(), ADDRESS).expect("free").len(), 1);
}

#[test]
fn a_device_in_use_is_refused() {
    let root = machine();
    give_driver(root.path(), "0000:00:05.1", "e1000");
    assert!(why(root.path()).contains("sibling 0000:00:05.1"));
    give_driver(root.path(), ADDRESS, "e1000");
    assert!(why(root.path()).contains("driver e1000 has it"));
}

#[test]
fn a_device_that_might_be_used_is_refused() {
    let file = |name: &str, content: &str| {
        let root = machine();
        fs::write(folder(root.path(), ADDRESS).join(name), content).expect("write");
        why(root.path())
    };
    assert!(file("class", "0x030000\n").contains("a display"));
    assert!(file("class", "0x060400\n").contains("a bridge"));
    assert!(file("driver_override", "uio_pci_generic\n").contains("plans"));
    assert!(file("iommu_group", "").contains("behind an IOMMU"));
    let root = machine();
    fs::remove_file(root.path().join(PARAMETER)).expect("remove");
    assert!(why(root.path()).contains("vfio module"));
}

#[test]
fn an_address_is_an_address() {
    let root = machine();
    for address in ["../../..", "0000:00:06.0", "", "a/b"] {
        let error = changes(root.path(), address).expect_err(address).to_string();
        assert!(error.contains("no such PCI device"), "{address}: {error}");
    }
}

#[test]
fn where_binding_fails_everything_is_put_back() {
    let root = machine();
    let probe = root.path().join("sys/bus/pci/drivers_probe");
    fs::write(&probe, "").expect("write");
    let error = bind(root.path(), ADDRESS).expect_err("a made-up machine binds nothing");
    assert!(error.to_string().contains("did not take it"), "{error}");
    assert_eq!(fs::read_to_string(&probe).expect("read"), ADDRESS);
    assert_eq!(read(root.path().join(PARAMETER)).expect("read"), "N");
    assert!(restore(root.path()).expect("nothing to do").is_none());
}

#[test]
fn a_journal_that_is_left_is_worked_off_once_and_blocks_until_then() {
    let root = machine();
    let journal =
        Journal::begin(root.path(), Before::look(root.path(), ADDRESS).expect("there")).expect("new");
    assert!(restore(root.path()).expect_err("its writer is alive").to_string().contains("alive"));
    drop(journal);
    fs::write(root.path().join(PARAMETER), "Y\n").expect("write");
    let error = bind(root.path(), ADDRESS).expect_err("pending").to_string();
    assert!(error.contains("--restore"), "{error}");
    assert_eq!(restore(root.path()).expect("restores").as_deref(), Some(ADDRESS));
    assert_eq!(read(root.path().join(PARAMETER)).expect("read"), "N");
    assert!(restore(root.path()).expect("nothing left").is_none());
}

#[test]
fn a_folder_of_others_is_not_trusted() {
    let root = machine();
    let elsewhere = tempfile::tempdir().expect("a folder");
    symlink(elsewhere.path(), root.path().join("run/iovascope")).expect("link");
    let before = Before::look(root.path(), ADDRESS).expect("there");
    assert!(Journal::begin(root.path(), before).is_err());
    assert_eq!(fs::read_dir(elsewhere.path()).expect("list").count(), 0);
}
