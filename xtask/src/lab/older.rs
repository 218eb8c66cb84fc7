//! An older Debian kernel beside the base's: its image, and the modules that mounting the root takes.
//!
//! The guest's root stays the base's. Which kernel is the newest of its suite is asked once and then kept,
//! as with the base's own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use super::base::Base;
use super::tree::{self, Tree};
use super::variant::Debian;
use crate::cache::{Cache, Key};
use crate::debian::{Apt, Mirror};
use crate::ui::{self, Step};

/// Changes when what this file does to the package does.
const RECIPE: &str = "older 1";

/// The package that a suite's newest kernel is in.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Chosen {
    package: String,
    version: String,
}

/// The kernel's files, from the cache where they are.
pub(super) fn ensure(cache: &Cache, mirror: &Mirror, base: &Base, debian: &Debian) -> Result<Tree> {
    if let Some(chosen) = kept(cache, debian)
        && let Some(dir) = cache.get("kernel", &key(&chosen))
    {
        return files(&dir);
    }
    let _lock = cache.lock("apt")?;
    let apt = Apt::of(cache, mirror, &debian.suite)?;
    apt.update()?;
    let still_there = |chosen: &Chosen| apt.versions(&chosen.package).is_ok_and(|all| !all.is_empty());
    let chosen = kept(cache, debian).filter(still_there).map_or_else(|| find(cache, &apt, debian), Ok)?;
    let dir = cache.entry("kernel", &key(&chosen), |dir| fill(cache, &apt, base, &chosen, dir))?;
    files(&dir)
}

/// Makes the next [`ensure`] look for newer kernels.
pub(super) fn forget(cache: &Cache, debian: &Debian) -> Result<()> {
    let path = file(cache, debian)?;
    if path.exists() {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

fn key(chosen: &Chosen) -> Key {
    Key::default()
        .with("recipe", RECIPE)
        .with("taken", tree::TAKEN.join(" "))
        .with("package", &chosen.package)
        .with("version", &chosen.version)
}

fn file(cache: &Cache, debian: &Debian) -> Result<PathBuf> {
    Ok(cache.folder("lab")?.join(format!("kernel-{}.json", debian.suite)))
}

fn kept(cache: &Cache, debian: &Debian) -> Option<Chosen> {
    serde_json::from_str(&fs::read_to_string(file(cache, debian).ok()?).ok()?).ok()
}

fn find(cache: &Cache, apt: &Apt, debian: &Debian) -> Result<Chosen> {
    let package = apt.depends(&debian.package)?.into_iter().find(|name| name.starts_with("linux-image-"));
    let package =
        package.ok_or_else(|| anyhow!("{} of {} depends on no kernel", debian.package, debian.suite))?;
    let newest = apt.versions(&package)?.into_iter().next();
    let version = newest.ok_or_else(|| anyhow!("Debian's {} has no {package}", debian.suite))?;
    let chosen = Chosen { package, version };
    let text = serde_json::to_string_pretty(&chosen).context("cannot encode the choice of a kernel")?;
    let path = file(cache, debian)?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    ui::say(format!("[lab] {} ({}) of {}", chosen.package, chosen.version, debian.suite));
    Ok(chosen)
}

fn fill(cache: &Cache, apt: &Apt, base: &Base, chosen: &Chosen, dir: &Path) -> Result<()> {
    let step = Step::begin("kernel", format!("downloading and unpacking {}", chosen.package));
    let download = dir.join("download");
    fs::create_dir(&download).with_context(|| format!("cannot make {}", download.display()))?;
    let deb = apt.download(&format!("{}={}", chosen.package, chosen.version), &download)?;
    let log = cache.log("kernel");
    let mut wanted = tree::modules();
    wanted.extend([tree::LISTS, "./boot/vmlinuz-*"].map(str::to_owned));
    tree::unpack(&deb, dir, &wanted, &log)?;
    fs::remove_dir_all(&download).context("cannot remove the package")?;
    let release = only(&dir.join("lib/modules"))?;
    tree::index(base, dir, &release.file_name().unwrap_or_default().to_string_lossy(), &log)?;
    step.done();
    Ok(())
}

fn files(dir: &Path) -> Result<Tree> {
    Ok(Tree {
        image: only(&dir.join("boot"))?,
        modules: only(&dir.join("lib/modules"))?,
        in_guest: None,
        share: None,
    })
}

/// The only thing in a folder.
fn only(folder: &Path) -> Result<PathBuf> {
    let listed = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut found: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(anyhow!("{} does not hold exactly one thing", folder.display())),
    }
}
