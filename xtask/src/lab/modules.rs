//! A variant's kernel modules: Debian's own sources, patched, built against the stock kernel's headers.
//!
//! Only modules are built, so a variant costs seconds, and all variants share one kernel binary. No core
//! structure changes its layout with the options used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow};

use super::base::Base;
use super::chroot;
use super::flavour::Flavour;
use super::variant::{Recipe, Variant};
use crate::cache::Cache;
use crate::tool;
use crate::ui::Step;

/// Changes when what this file does to the sources does.
const RECIPE: &str = "modules 1";

/// Folders that become modules.
const KBUILD: &str = "obj-m += drivers/iommu/iommufd/ drivers/vfio/\n";
/// Debian builds no user of the span iterator, so the kernel lacks it; iommufd brings its own.
const SPAN_OBJECT: &str = "\niommufd-y += interval_tree_span.o\n";
const SPAN_OPTION: &str = "#ifdef CONFIG_INTERVAL_TREE_SPAN_ITER\n";

/// The folder of a variant's `.ko` files; empty for the stock kernel.
pub(super) fn ensure(
    cache: &Cache,
    base: &Base,
    flavour: Option<&Flavour>,
    variant: &Variant,
) -> Result<PathBuf> {
    let mut key = base.key.clone().with("recipe", RECIPE);
    if let Some(flavour) = flavour {
        key = key.with("kernel", &flavour.kernel);
    }
    let Some(recipe) = &variant.modules else {
        return cache.entry("modules", &key.with("stock", ""), |_| Ok(()));
    };
    let patches = recipe.patches()?;
    for (name, content) in &patches {
        key = key.with(name, content);
    }
    key = key.with("make", recipe.make.join(" ")).with("defines", recipe.defines.join(" "));
    cache.entry("modules", &key, |dir| build(cache, base, flavour, variant, recipe, &patches, dir))
}

fn build(
    cache: &Cache,
    base: &Base,
    flavour: Option<&Flavour>,
    variant: &Variant,
    recipe: &Recipe,
    patches: &[(&str, Vec<u8>)],
    dir: &Path,
) -> Result<()> {
    let step = Step::begin("modules", format!("building iommufd and VFIO, variant {}", variant.name));
    let work = dir.join("build");
    let log = cache.log(&format!("modules-{}", variant.name));
    copy(&base.sources(), &work, &log)?;
    fs::create_dir(work.join("tmp")).context("cannot make a folder for temporary files")?;
    for (name, content) in patches {
        apply(base, &work, name, content, &log)?;
    }
    add_span_iterator(&work)?;
    fs::write(work.join("Kbuild"), KBUILD).context("cannot write Kbuild")?;
    let mut make = chroot::command(&base.root(), Some(&work), "/usr/bin/make");
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let defines: Vec<String> = recipe.defines.iter().map(|define| format!("-D{define}")).collect();
    make.arg(format!("-j{jobs}"));
    if let Some(flavour) = flavour {
        copy(&flavour.headers(), &work.join("headers"), &log)?;
        let headers = format!("{}/headers", chroot::WORK);
        // Debian's Makefile names the place where the package would put them.
        make.args(["-C", &headers]).arg(format!("KBUILD_OUTPUT={headers}"));
    } else {
        make.args(["-C", &format!("/lib/modules/{}/build", base.release.kernel)]);
    }
    make.arg(format!("M={}", chroot::WORK))
        .args(&recipe.make)
        .arg(format!("KCFLAGS={}", defines.join(" ")))
        .arg("modules");
    tool::logged(&mut make, &log).with_context(|| format!("cannot build the modules of {}", variant.name))?;
    collect(&work, dir)?;
    fs::remove_dir_all(&work).context("cannot remove the build's folder")?;
    step.done();
    Ok(())
}

fn copy(from: &Path, to: &Path, log: &Path) -> Result<()> {
    tool::logged(Command::new("cp").arg("-r").args([from, to]), log)
}

fn apply(base: &Base, work: &Path, name: &str, content: &[u8], log: &Path) -> Result<()> {
    fs::write(work.join("patch"), content).with_context(|| format!("cannot write {name}"))?;
    let mut patch = chroot::command(&base.root(), Some(work), "/usr/bin/patch");
    patch.args(["--strip=1", "--fuzz=0", "--directory", chroot::WORK, "--input", "patch"]);
    tool::logged(&mut patch, log)
        .with_context(|| format!("lab/patches/{name} does not fit the sources of {}", base.release.version))
}

/// Cuts the iterator out of `lib/interval_tree.c` and makes it a part of iommufd. It is not exported: vmlinux
/// may have the same names one day.
fn add_span_iterator(work: &Path) -> Result<()> {
    let library = work.join("lib/interval_tree.c");
    let text = fs::read_to_string(&library).with_context(|| format!("cannot read {}", library.display()))?;
    let part =
        span_iterator(&text).ok_or_else(|| anyhow!("lib/interval_tree.c has no span iterator to take"))?;
    let folder = work.join("drivers/iommu/iommufd");
    fs::write(folder.join("interval_tree_span.c"), part).context("cannot write interval_tree_span.c")?;
    let makefile = folder.join("Makefile");
    let rules =
        fs::read_to_string(&makefile).with_context(|| format!("cannot read {}", makefile.display()))?;
    fs::write(&makefile, rules + SPAN_OBJECT).with_context(|| format!("cannot write {}", makefile.display()))
}

fn span_iterator(library: &str) -> Option<String> {
    let (_, rest) = library.split_once(SPAN_OPTION)?;
    let (part, _) = rest.split_once("#endif")?;
    let lines = part.lines().filter(|line| !line.starts_with("EXPORT_SYMBOL"));
    let head = "// SPDX-License-Identifier: GPL-2.0\n#include <linux/interval_tree.h>\n";
    Some(lines.fold(head.to_owned(), |text, line| text + line + "\n"))
}

/// Moves every `.ko` below `from` to `to`.
fn collect(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", from.display()))?.path();
        if path.is_dir() {
            collect(&path, to)?;
        } else if path.extension().is_some_and(|extension| extension == "ko") {
            let name = path.file_name().unwrap_or_default();
            fs::rename(&path, to.join(name)).with_context(|| format!("cannot move {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_iterator_is_cut_out_without_its_exports() {
        let library = "int a;\n#ifdef CONFIG_INTERVAL_TREE_SPAN_ITER\nvoid f(void)\n{\n}\nEXPORT_SYMBOL_GPL(f);\n#endif\n";
        let part = span_iterator(library).unwrap();
        assert!(part.ends_with("interval_tree.h>\nvoid f(void)\n{\n}\n"), "{part}");
        assert_eq!(span_iterator("int a;\n"), None);
    }
}
