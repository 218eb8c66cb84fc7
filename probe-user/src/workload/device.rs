//! Finding a no-IOMMU VFIO device, and saying what is missing where there is none.
//!
//! Only looks: never loads a module, sets a parameter or binds a driver. Binding vfio-pci resets the
//! device and taints the kernel, so that stays the user's decision.

use std::fs;
use std::path::{Path, PathBuf};

use crate::exit::CannotRun;

use super::rights::{Capabilities, Capability};

/// How VFIO names the nodes of no-IOMMU devices (`vfio_main.c`, Linux 7.3).
const NODE_PREFIX: &str = "noiommu-vfio";

/// State of `enable_unsafe_noiommu_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsafeMode {
    On,
    Off,
    /// The vfio module has no such parameter: `CONFIG_VFIO_NOIOMMU` is off.
    Unavailable,
    /// The vfio module itself is not there.
    NoVfio,
}

/// What a driver finds on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    pub iommufd_node: bool,
    pub unsafe_mode: UnsafeMode,
    /// `/dev/vfio/devices` exists.
    pub cdev_folder: bool,
    /// Nodes of no-IOMMU devices, lowest number first.
    pub devices: Vec<PathBuf>,
    /// How many cdevs are behind a real IOMMU, where GET_PA does not apply.
    pub behind_iommu: usize,
}

/// Look at `/dev` and `/sys` under `root`.
pub fn find(root: &Path) -> Findings {
    let folder = root.join("dev/vfio/devices");
    let names: Vec<String> = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let mut numbered: Vec<(u32, &String)> =
        names.iter().filter_map(|name| Some((name.strip_prefix(NODE_PREFIX)?.parse().ok()?, name))).collect();
    numbered.sort_unstable();
    Findings {
        iommufd_node: root.join("dev/iommu").exists(),
        unsafe_mode: unsafe_mode(root),
        cdev_folder: folder.is_dir(),
        devices: numbered.into_iter().map(|(_, name)| folder.join(name)).collect(),
        behind_iommu: names.iter().filter(|name| name.starts_with("vfio")).count(),
    }
}

/// Whether the PCI device behind a VFIO node may write memory (`PCI_COMMAND_MASTER`); `None` where its
/// configuration space cannot be read.
pub fn bus_master(root: &Path, node: &Path) -> Option<bool> {
    /// Offset of the command word, and the bit (`include/uapi/linux/pci_regs.h`).
    const COMMAND: usize = 4;
    const MASTER: u8 = 1 << 2;
    let class = root.join("sys/class/vfio-dev").join(node.file_name()?);
    let config = fs::read(class.join("device/config")).ok()?;
    Some(config.get(COMMAND)? & MASTER != 0)
}

fn unsafe_mode(root: &Path) -> UnsafeMode {
    let module = root.join("sys/module/vfio");
    match fs::read_to_string(module.join("parameters/enable_unsafe_noiommu_mode")) {
        Ok(text) if matches!(text.trim(), "Y" | "1") => UnsafeMode::On,
        Ok(_) => UnsafeMode::Off,
        Err(_) if module.is_dir() => UnsafeMode::Unavailable,
        Err(_) => UnsafeMode::NoVfio,
    }
}

/// The device to drive: `wanted`, or the first one found; the first obstacle otherwise.
pub fn choose(root: &Path, wanted: Option<&Path>) -> Result<PathBuf, CannotRun> {
    let findings = find(root);
    if !findings.iommufd_node {
        return Err(cannot(
            "there is no /dev/iommu: the kernel's iommufd is not loaded or not built",
            "`modprobe iommufd`; if there is no such module, a kernel >= 7.3 with CONFIG_IOMMUFD and \
             CONFIG_VFIO_NOIOMMU is needed (`iovascope doctor` says more)",
        ));
    }
    if let Ok(capabilities) = Capabilities::read(root)
        && !capabilities.has(Capability::SysRawio)
    {
        return Err(cannot(
            "CAP_SYS_RAWIO is missing: opening a no-IOMMU device and GET_PA both ask for it",
            "run as root, or give the process CAP_SYS_RAWIO",
        ));
    }
    match (wanted, findings.devices.first()) {
        (Some(path), _) if path.exists() => Ok(path.to_owned()),
        (Some(path), _) => Err(cannot(
            &format!("there is no {}", path.display()),
            "name a node that exists under /dev/vfio/devices, or leave --device out to have one found",
        )),
        (None, Some(path)) => Ok(path.clone()),
        (None, None) => Err(obstacle(&findings)),
    }
}

/// Why there is no no-IOMMU device.
fn obstacle(findings: &Findings) -> CannotRun {
    const BIND: &str = "bind a device that nothing uses (this resets it): \
        `echo vfio-pci > /sys/bus/pci/devices/ADDRESS/driver_override; \
        echo ADDRESS > /sys/bus/pci/drivers_probe`";
    match (findings.unsafe_mode, findings.cdev_folder) {
        (UnsafeMode::NoVfio, _) => cannot(
            "the vfio module is not loaded",
            "`modprobe vfio-pci`; then `iovascope doctor` says what is next",
        ),
        (UnsafeMode::Unavailable, _) => cannot(
            "this kernel's vfio has no no-IOMMU mode (CONFIG_VFIO_NOIOMMU is off)",
            "a kernel with CONFIG_VFIO_NOIOMMU and CONFIG_VFIO_DEVICE_CDEV",
        ),
        (UnsafeMode::Off, _) => cannot(
            "vfio's unsafe no-IOMMU mode is off",
            "`echo 1 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode` (taints the kernel until reboot), \
             then bind a device to vfio-pci",
        ),
        (UnsafeMode::On, _) if findings.behind_iommu > 0 => cannot(
            &format!(
                "the {} device(s) in /dev/vfio/devices are behind an IOMMU, where GET_PA does not apply",
                findings.behind_iommu
            ),
            &format!("{BIND}, and choose one without an IOMMU"),
        ),
        (UnsafeMode::On, false) => cannot(
            "there is no /dev/vfio/devices: no device is bound to vfio-pci, or CONFIG_VFIO_DEVICE_CDEV is off",
            BIND,
        ),
        (UnsafeMode::On, true) => cannot("no device is bound to vfio-pci", BIND),
    }
}

fn cannot(why: &str, remedy: &str) -> CannotRun {
    CannotRun {
        what: "cannot drive GET_PA on this machine".to_owned(),
        why: why.to_owned(),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up file tree: the test's input, not a machine.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("has one")).expect("create");
            fs::write(path, content).expect("write");
        }
        root
    }

    const IOMMU: (&str, &str) = ("dev/iommu", "");
    const MODE: &str = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

    #[test]
    fn the_lowest_number_is_taken() {
        let root = tree(&[
            IOMMU,
            (MODE, "Y\n"),
            ("dev/vfio/devices/noiommu-vfio10", ""),
            ("dev/vfio/devices/noiommu-vfio9", ""),
            ("dev/vfio/devices/vfio3", ""),
        ]);
        let findings = find(root.path());
        assert_eq!((findings.devices.len(), findings.behind_iommu), (2, 1));
        let chosen = choose(root.path(), None).expect("found");
        assert!(chosen.ends_with("dev/vfio/devices/noiommu-vfio9"));
    }

    #[test]
    fn each_obstacle_has_its_own_words() {
        for (files, why) in [
            (vec![], "no /dev/iommu"),
            (vec![IOMMU], "vfio module is not loaded"),
            (vec![IOMMU, ("sys/module/vfio/refcnt", "0")], "CONFIG_VFIO_NOIOMMU is off"),
            (vec![IOMMU, (MODE, "N\n")], "mode is off"),
            (vec![IOMMU, (MODE, "Y\n")], "no /dev/vfio/devices"),
            (vec![IOMMU, (MODE, "Y\n"), ("dev/vfio/devices/vfio0", "")], "behind an IOMMU"),
            (vec![IOMMU, ("proc/self/status", "CapEff:\t0000000000000000\n")], "CAP_SYS_RAWIO"),
        ] {
            let error = choose(tree(&files).path(), None).expect_err(why);
            assert!(error.why.contains(why), "{why}: {error}");
            assert!(!error.remedy.is_empty());
        }
    }

    #[test]
    fn a_wanted_device_must_exist() {
        let root = tree(&[IOMMU, (MODE, "Y\n")]);
        let error = choose(root.path(), Some(Path::new("/nonexistent/vfio"))).expect_err("absent");
        assert!(error.why.contains("/nonexistent/vfio"), "{error}");
    }
}
