//! Giving a PCI device to vfio-pci for the time of a run, and the machine its old state back.
//!
//! What was there before is written down before anything is changed ([`journal`]), so that a later
//! `load --restore` can undo what a killed run left. Never takes a device from a driver, never enables
//! DMA, and asks nothing: who may say yes is the command's matter. The kernel's taint stays until reboot.

mod journal;
mod refuse;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::exit::CannotRun;

use journal::{Before, Journal};

const DRIVER: &str = "vfio-pci";
const PARAMETER: &str = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(transparent)]
    CannotRun(CannotRun),
    #[error("{operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Journal { path: PathBuf, source: serde_json::Error },
}

/// A device that vfio-pci has for now.
#[derive(Debug)]
pub struct Bound {
    root: PathBuf,
    /// `None` once everything is as it was.
    journal: Option<Journal>,
    node: PathBuf,
}

/// What [`bind`] would change, in words, or why it refuses.
pub fn changes(root: &Path, address: &str) -> Result<Vec<String>, BindError> {
    let before = Before::look(root, address)?;
    refuse::check(root, &before)?;
    let mut changes = Vec::new();
    if !before.is_unsafe() {
        changes.push(format!("set /{PARAMETER} to 1: taints the kernel until reboot"));
    }
    changes.push(format!("bind {address}, which no driver has, to {DRIVER}: resets the device"));
    Ok(changes)
}

/// Bind the device at the PCI address. On an error everything is as it was.
pub fn bind(root: &Path, address: &str) -> Result<Bound, BindError> {
    let before = Before::look(root, address)?;
    refuse::check(root, &before)?;
    let journal = Journal::begin(root, before)?;
    let mut bound = Bound { root: root.to_owned(), journal: Some(journal), node: PathBuf::new() };
    match bound.take() {
        Ok(node) => {
            bound.node = node;
            Ok(bound)
        }
        Err(error) => {
            // The first error is the one to report; should the way back fail, the journal stays.
            let _ = bound.undo();
            Err(error)
        }
    }
}

/// Undo what a killed run left; what it was about, or `None` where there was nothing.
pub fn restore(root: &Path) -> Result<Option<String>, BindError> {
    let Some(journal) = Journal::left_behind(root)? else { return Ok(None) };
    let address = journal.before.address.clone();
    put_back(root, &journal.before)?;
    journal.end()?;
    Ok(Some(address))
}

impl Bound {
    /// The device's node.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// Put everything back. All descriptors of the device must be closed.
    pub fn undo(mut self) -> Result<(), BindError> {
        self.put_back()
    }

    fn put_back(&mut self) -> Result<(), BindError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        put_back(&self.root, &journal.before)?;
        self.journal.take().map_or(Ok(()), Journal::end)
    }

    fn take(&self) -> Result<PathBuf, BindError> {
        let Some(Journal { before, .. }) = &self.journal else { return Ok(PathBuf::new()) };
        if !before.is_unsafe() {
            write(&self.root.join(PARAMETER), "1")?;
        }
        let device = folder(&self.root, &before.address);
        write(&device.join("driver_override"), DRIVER)?;
        write(&self.root.join("sys/bus/pci/drivers_probe"), &before.address)?;
        node(&self.root, &before.address).ok_or_else(|| {
            BindError::CannotRun(CannotRun {
                what: format!("cannot bind {}", before.address),
                why: format!("{DRIVER} did not take it, or gave it no node without an IOMMU"),
                remedy: "look at `dmesg`; is the module vfio-pci loaded?".to_owned(),
            })
        })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Only where a panic is under way; should it fail, the journal stays for `--restore`.
        let _ = self.put_back();
    }
}

/// Each step only where it is needed, so that doing it twice does no harm.
fn put_back(root: &Path, before: &Before) -> Result<(), BindError> {
    let now = Before::look(root, &before.address)?;
    if now.driver != before.driver && now.driver.as_deref() == Some(DRIVER) {
        write(&root.join("sys/bus/pci/drivers").join(DRIVER).join("unbind"), &before.address)?;
    }
    if now.driver_override != before.driver_override {
        // An empty line takes the override away (`driver_set_override`, Linux 7.3).
        let value = if before.driver_override == "(null)" { "\n" } else { &before.driver_override };
        write(&folder(root, &before.address).join("driver_override"), value)?;
    }
    if now.unsafe_mode != before.unsafe_mode
        && let Some(value) = &before.unsafe_mode
    {
        write(&root.join(PARAMETER), value)?;
    }
    Ok(())
}

fn folder(root: &Path, address: &str) -> PathBuf {
    root.join("sys/bus/pci/devices").join(address)
}

/// The node of a bound device without an IOMMU.
fn node(root: &Path, address: &str) -> Option<PathBuf> {
    let names = fs::read_dir(folder(root, address).join("vfio-dev")).ok()?;
    names
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| name.starts_with("noiommu-"))
        .map(|name| root.join("dev/vfio/devices").join(name))
}

fn read(path: PathBuf) -> Result<String, BindError> {
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim_end_matches('\n').to_owned()),
        Err(source) => Err(BindError::Io { operation: "reading", path, source }),
    }
}

fn write(path: &Path, value: &str) -> Result<(), BindError> {
    fs::write(path, value).map_err(|source| BindError::Io {
        operation: "writing",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
