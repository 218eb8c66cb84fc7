//! What a module of Debian's kernel needs before it: `modules.dep`, as depmod wrote it.

use std::collections::{HashMap, HashSet};
use std::fs;

use anyhow::{Context, Result, anyhow};

use super::tree::Tree;

pub(super) struct Dependencies {
    /// Paths of modules, relative to the kernel's folder of modules, by module name.
    orders: HashMap<String, Vec<String>>,
    /// Names of what would be modules, were it not part of the kernel.
    built_in: HashSet<String>,
}

impl Dependencies {
    pub(super) fn read(tree: &Tree) -> Result<Self> {
        let read = |name: &str| {
            let path = tree.modules.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Self::parse(&read("modules.dep")?, &read("modules.builtin")?))
    }

    /// A line is `module: dependency…`, where the last dependency has to be loaded first.
    fn parse(text: &str, built_in: &str) -> Self {
        let rows = text.lines().filter_map(|line| {
            let (module, needs) = line.split_once(':')?;
            let mut order: Vec<String> = needs.split_whitespace().rev().map(str::to_owned).collect();
            order.push(module.to_owned());
            Some((name(module), order))
        });
        Self { orders: rows.collect(), built_in: built_in.lines().map(name).collect() }
    }

    /// The module's file and those it needs, in loading order; none where it is built in.
    pub(super) fn order(&self, module: &str) -> Result<&[String]> {
        let order = self.orders.get(module).map(Vec::as_slice);
        let built_in = || self.built_in.contains(module).then_some(&[][..]);
        order.or_else(built_in).ok_or_else(|| anyhow!("Debian's kernel has no module {module}"))
    }
}

/// `kernel/fs/9p/9p.ko.xz` to `9p`.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_first() {
        let text = "kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz\n\
                    kernel/fs/netfs/netfs.ko.xz:\n";
        let all = Dependencies::parse(text, "kernel/drivers/virtio/virtio_pci.ko\n");
        let want = ["kernel/fs/netfs/netfs.ko.xz", "kernel/net/9p/9pnet.ko.xz", "kernel/fs/9p/9p.ko.xz"];
        assert_eq!(all.order("9p").unwrap(), want);
        assert_eq!(all.order("netfs").unwrap(), ["kernel/fs/netfs/netfs.ko.xz"]);
        assert!(all.order("virtio_pci").unwrap().is_empty());
        assert!(all.order("nothing").is_err());
    }
}
