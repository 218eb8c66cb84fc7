//! The no-IOMMU device of a variant: QEMU's PCI test device, bound to vfio-pci.
//!
//! It has no driver, no DMA and no interrupt of its own, so nothing but the binding is under test.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Failure;

/// QEMU's `pci-testdev`, as sysfs spells vendor and device.
const VENDOR: &str = "0x1b36";
const DEVICE: &str = "0x0005";

/// Binds the test device. Whether its node appeared is for [`check_nodes`] to say.
pub(crate) fn prepare() -> Result<(), Failure> {
    write("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "1")?;
    let device = find()?;
    write(device.join("driver_override"), "vfio-pci")?;
    let address = device.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    write("/sys/bus/pci/drivers_probe", &address)
}

/// Fails unless every node of `present` exists and none of `absent` does.
pub(crate) fn check_nodes(present: &[String], absent: &[String]) -> Result<(), Failure> {
    for (nodes, wanted) in [(present, true), (absent, false)] {
        for node in nodes {
            if Path::new(node).exists() != wanted {
                let state = if wanted { "did not appear" } else { "must not exist, but does" };
                return Err(format!("{node} {state}: this kernel variant is not what it says it is"));
            }
        }
    }
    Ok(())
}

fn find() -> Result<PathBuf, Failure> {
    let devices = "/sys/bus/pci/devices";
    let entries = fs::read_dir(devices).map_err(|e| format!("list {devices}: {e}"))?;
    let holds = |path: &Path, want: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == want);
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|dir| holds(&dir.join("vendor"), VENDOR) && holds(&dir.join("device"), DEVICE))
        // The variant may have a second one, which stays free.
        .min()
        .ok_or_else(|| format!("no PCI device {VENDOR}:{DEVICE}: QEMU was started without pci-testdev"))
}

fn write(path: impl AsRef<Path>, value: &str) -> Result<(), Failure> {
    let path = path.as_ref();
    fs::write(path, value).map_err(|e| format!("write {value:?} to {}: {e}", path.display()))
}
