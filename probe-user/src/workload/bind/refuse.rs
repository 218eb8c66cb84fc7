//! Devices that are not to be touched: those that something uses, or might.

use std::fs;
use std::path::Path;

use crate::exit::CannotRun;

use super::journal::Before;
use super::{BindError, DRIVER, folder, read};

/// PCI base classes that are never bound: firmware and the kernel use them without a driver.
const CLASSES: [(u64, &str); 2] = [(0x03, "a display"), (0x06, "a bridge")];

pub(super) fn check(root: &Path, before: &Before) -> Result<(), BindError> {
    match reason(root, before)? {
        None => Ok(()),
        Some((why, remedy)) => Err(BindError::CannotRun(CannotRun {
            what: format!("refusing to bind {}", before.address),
            why,
            remedy: remedy.to_owned(),
        })),
    }
}

/// Why it is refused, and what to do instead.
fn reason(root: &Path, before: &Before) -> Result<Option<(String, &'static str)>, BindError> {
    const OTHER: &str = "choose a device that nothing uses, such as QEMU's pci-testdev or edu";
    let device = folder(root, &before.address);
    Ok(match before.driver.as_deref() {
        Some(DRIVER) => {
            Some((format!("{DRIVER} has it already"), "drive it as it is: --device, or leave --bind out"))
        }
        Some(driver) => Some((format!("it is in use: the driver {driver} has it"), OTHER)),
        None if before.unsafe_mode.is_none() => Some((
            "the vfio module is not loaded, or has no no-IOMMU mode".to_owned(),
            "`modprobe vfio-pci`; `iovascope doctor` says more",
        )),
        None if device.join("iommu_group").exists() => {
            Some(("it is behind an IOMMU, where GET_PA does not apply".to_owned(), OTHER))
        }
        None if before.driver_override != "(null)" => Some((
            format!("its driver_override is {}: somebody has plans for it", before.driver_override),
            OTHER,
        )),
        None => class(&device)?.or(sibling(root, &before.address)).map(|why| (why, OTHER)),
    })
}

fn class(device: &Path) -> Result<Option<String>, BindError> {
    let text = read(device.join("class"))?;
    let class = u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(0) >> 16;
    let known = CLASSES.iter().find(|(base, _)| *base == class);
    Ok(known.map(|(_, name)| format!("it is {name}")))
}

/// A function of the same device that has a driver: a reset may hit it too.
fn sibling(root: &Path, address: &str) -> Option<String> {
    let (slot, _) = address.rsplit_once('.')?;
    let entries = fs::read_dir(root.join("sys/bus/pci/devices")).ok()?;
    let used = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        let ours = name != address && name.rsplit_once('.').is_some_and(|(other, _)| other == slot);
        (ours && fs::read_link(entry.path().join("driver")).is_ok()).then_some(name)
    });
    used.min().map(|name| format!("its sibling {name} is in use, and a reset may hit both"))
}
