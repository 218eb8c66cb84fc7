//! The initramfs: PID 1, and the modules without which it cannot reach its root.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cpio::newc::{self, Builder};

use super::depends::Dependencies;
use super::tree::Tree;
use crate::cache::{Cache, Key};

/// What talking to the host and mounting the root take, where it is not built in; what these need comes
/// with them.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"];

struct Item {
    name: String,
    /// Kind and permissions, as stat(2) has them.
    mode: u32,
    content: Vec<u8>,
}

impl Item {
    fn folder(name: &str) -> Self {
        Self { name: name.to_owned(), mode: 0o040_755, content: Vec::new() }
    }

    fn file(name: String, permissions: u32, content: Vec<u8>) -> Self {
        Self { name, mode: 0o100_000 | permissions, content }
    }
}

/// The archive's path.
pub(super) fn ensure(
    cache: &Cache,
    tree: &Tree,
    dependencies: &Dependencies,
    init: &Path,
) -> Result<PathBuf> {
    let items = items(tree, dependencies, init)?;
    let key = items.iter().fold(Key::default(), |key, item| key.with(&item.name, &item.content));
    let entry = cache.entry("initramfs", &key, |dir| {
        let path = dir.join("initramfs.cpio");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        write(&items, BufWriter::new(file)).with_context(|| format!("cannot write {}", path.display()))
    })?;
    Ok(entry.join("initramfs.cpio"))
}

fn items(tree: &Tree, dependencies: &Dependencies, init: &Path) -> Result<Vec<Item>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let root = lab_init::path::BOOT_MODULES.trim_start_matches('/');
    let mut items: Vec<Item> = ["dev", "proc", "sys", root].into_iter().map(Item::folder).collect();
    items.push(Item::file("init".to_owned(), 0o755, read(init)?));
    let mut order: Vec<&str> = Vec::new();
    for module in MODULES {
        for path in dependencies.order(module)? {
            let name = path.rsplit('/').next().unwrap_or(path);
            if !order.contains(&name) {
                order.push(name);
                let content = read(&tree.modules.join(path))?;
                items.push(Item::file(format!("{root}/{name}"), 0o644, content));
            }
        }
    }
    items.push(Item::file(format!("{root}/order"), 0o644, (order.join("\n") + "\n").into_bytes()));
    Ok(items)
}

fn write(items: &[Item], mut to: impl Write) -> Result<()> {
    for (inode, item) in (1..).zip(items) {
        let head = Builder::new(&item.name).ino(inode).mode(item.mode);
        let mut entry = head.write(to, u32::try_from(item.content.len())?);
        entry.write_all(&item.content)?;
        to = entry.finish()?;
    }
    newc::trailer(to)?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_can_be_read_back() {
        let items = [Item::folder("dev"), Item::file("init".into(), 0o755, b"\x7fELF".to_vec())];
        let mut bytes = Vec::new();
        write(&items, &mut bytes).unwrap();
        let reader = newc::Reader::new(bytes.as_slice()).unwrap();
        assert_eq!((reader.entry().name(), reader.entry().mode()), ("dev", 0o040_755));
        let reader = newc::Reader::new(reader.finish().unwrap()).unwrap();
        assert_eq!((reader.entry().name(), reader.entry().mode()), ("init", 0o100_755));
        assert_eq!(reader.entry().file_size(), 4);
    }
}
