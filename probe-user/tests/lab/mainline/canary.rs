//! Dead probes are noticed within an interval, and are never taken for an idle machine.

use std::fs;
use std::process::Command;

use probe_model::canary::Pulse;

use crate::background::Recorder;
use crate::guest;

const KPROBES: &str = "/sys/kernel/debug/kprobes/enabled";

#[test]
fn a_quiet_machine_is_known_to_be_quiet() {
    for backend in ["fsession", "fentry", "kprobe-session", "kprobe"] {
        let file = guest::file(format!("quiet-{backend}.iova"));
        let record = ["record", "-i", "50ms", "-d", "300ms", "--strict", "--backend", backend, "-o"];
        guest::succeed(guest::iovascope(&record).arg(&file));
        let counters = guest::counters_of(&file);
        assert!(counters.canary.sent >= 2, "{backend}: {:?}", counters.canary);
        assert_eq!(counters.canary.pulse(), Pulse::Alive, "{backend}");
        // Its calls are in no figure.
        assert!(counters.dispatch.is_empty() && counters.get_phys.is_none(), "{backend}");
        assert!(counters.attribution.is_empty(), "{backend}: {:?}", counters.attribution);
        for flow in counters.flow.values() {
            assert_eq!((flow.balance().calls, flow.canary), (0, counters.canary.sent), "{backend}");
        }
    }
}

#[test]
fn kprobes_switched_off_are_a_gap() {
    let mut recorder = Recorder::start("switched-off", &["--backend", "kprobe", "--strict"]);
    fs::write(KPROBES, "0").unwrap();
    recorder.says("the probes see nothing");
    // Calls go on, and nobody sees them.
    let mut load = guest::iovascope(&["load", "--size", "1M", "--count", "100", "-o", "/tmp/unseen.json"]);
    guest::succeed(&mut load);
    fs::write(KPROBES, "1").unwrap();
    recorder.says("alive again");
    let (status, counters) = recorder.end();
    assert_eq!(status, Some(4));
    assert_eq!(counters.canary.pulse(), Pulse::Dark);
    assert!(
        counters.canary.unseen.contains_key("dispatch") && counters.canary.unseen.contains_key("get_phys")
    );
    assert!(counters.canary.dark > 0 && counters.get_phys.is_none());
    fs::remove_file("/tmp/unseen.json").unwrap();
}

/// It is no kprobe: the function graph tracer calls it.
#[test]
fn kprobes_switched_off_do_not_touch_a_kprobe_session() {
    let recorder = Recorder::start("switched-off-session", &["--backend", "kprobe-session", "--strict"]);
    fs::write(KPROBES, "0").unwrap();
    let mut load = guest::iovascope(&["load", "--size", "1M", "--count", "100", "-o", "/tmp/seen.json"]);
    guest::succeed(&mut load);
    fs::write(KPROBES, "1").unwrap();
    let (status, counters) = recorder.end();
    assert_eq!((status, counters.canary.pulse()), (Some(0), Pulse::Alive));
    assert_eq!(counters.get_phys.unwrap().count(), 100);
    fs::remove_file("/tmp/seen.json").unwrap();
}

/// The modules that the variant loads, by their names in /proc/modules, users first.
const MODULES: [&str; 5] = ["vfio_pci", "vfio_pci_core", "vfio_iommu_type1", "vfio", "iommufd"];

#[test]
fn a_module_unloaded_and_loaded_again_is_a_gap() {
    let device = bound_device();
    let mut recorder = Recorder::start("unloaded", &["--backend", "kprobe", "--unpinned", "--strict"]);
    fs::write("/sys/bus/pci/drivers/vfio-pci/unbind", &device).unwrap();
    for module in MODULES {
        guest::succeed(Command::new("rmmod").arg(module));
    }
    recorder.says("the probes see nothing");
    load(MODULES.iter().rev(), &device);
    // The probes went with the module: the device is back, and they still see nothing.
    let (status, counters) = recorder.end();
    assert_eq!(status, Some(4));
    assert_eq!(counters.canary.pulse(), Pulse::Dark);
    assert!(counters.canary.failed > 0 && counters.canary.dark > 0, "{:?}", counters.canary);
    guest::nothing_left();
}

/// The kernel holds the module of functions that a link of several kprobes is on.
#[test]
fn a_module_under_a_kprobe_session_stays() {
    let device = bound_device();
    let options = ["--backend", "kprobe-session", "--unpinned", "--strict"];
    let recorder = Recorder::start("stays", &options);
    fs::write("/sys/bus/pci/drivers/vfio-pci/unbind", &device).unwrap();
    let [users @ .., iommufd] = &MODULES;
    for module in users {
        guest::succeed(Command::new("rmmod").arg(module));
    }
    assert!(!Command::new("rmmod").arg(iommufd).output().unwrap().status.success());
    load(users.iter().rev(), &device);
    let (status, counters) = recorder.end();
    assert_eq!((status, counters.canary.pulse()), (Some(0), Pulse::Alive));
    guest::nothing_left();
}

/// Load modules, and give the device back to vfio-pci.
fn load<'a>(modules: impl Iterator<Item = &'a &'static str>, device: &str) {
    for module in modules {
        guest::succeed(Command::new("insmod").arg(module_file(module)));
    }
    fs::write("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "1").unwrap();
    fs::write("/sys/bus/pci/drivers_probe", device).unwrap();
    assert_eq!(bound_device(), device);
}

#[test]
fn a_pinned_module_cannot_be_unloaded() {
    let recorder = Recorder::start("pinned", &["--backend", "kprobe"]);
    // The device's own descriptor is closed: what holds the module is the recorder.
    let mut holders = String::new();
    while !holders.contains("iommufd") {
        holders = fs::read_to_string("/proc/modules").unwrap();
    }
    let refused = Command::new("rmmod").arg("iommufd").output().unwrap();
    assert!(!refused.status.success());
    let (status, counters) = recorder.end();
    assert_eq!(status, Some(0));
    assert_ne!(counters.canary.pulse(), Pulse::Dark);
}

/// The PCI address of the device that vfio-pci drives.
fn bound_device() -> String {
    fs::read_dir("/sys/bus/pci/drivers/vfio-pci")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.contains(':'))
        .expect("a device bound to vfio-pci")
}

/// The file of a module of this variant.
fn module_file(module: &str) -> String {
    let folder = "/lab/modules";
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let file = fs::read_dir(folder)
        .unwrap()
        .map(|entry| name(entry.unwrap()))
        .find(|file| file.split('.').next().unwrap().replace('-', "_") == module);
    format!("{folder}/{}", file.unwrap_or_else(|| panic!("no {module} in {folder}")))
}
