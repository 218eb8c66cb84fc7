//! The base's kernel as Debian builds it otherwise (`PREEMPT_RT`, for one): its image, the modules that a guest's boot
//! and devices take, and the headers to build against. The same version and sources; the guest's root stays the base's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::base::Base;
use super::tree::{self, Tree};
use crate::cache::{Cache, Key};
use crate::debian::{Apt, Mirror};
use crate::ui::Step;

/// Changes when what this file does to the packages does.
const RECIPE: &str = "flavour 1";

/// The share's name in the guest.
const SHARE: &str = "kernel";
/// The headers' folder in the entry.
const HEADERS: &str = "headers";

/// A flavour's files.
pub(super) struct Flavour {
    dir: PathBuf,
    /// As `uname -r` says it.
    pub(super) kernel: String,
}

/// The files of the base's kernel in `flavour`, from the cache where they are.
pub(super) fn ensure(cache: &Cache, mirror: &Mirror, base: &Base, flavour: &str) -> Result<Flavour> {
    let kernel = base.release.of_flavour(flavour)?;
    let key = Key::default()
        .with("recipe", RECIPE)
        .with("taken", tree::TAKEN.join(" "))
        .with("kernel", &kernel)
        .with("version", &base.release.version);
    if let Some(dir) = cache.get("kernel", &key) {
        return Ok(Flavour { dir, kernel });
    }
    let _lock = cache.lock("apt")?;
    let apt = Apt::open(cache, mirror)?;
    apt.update()?;
    let dir = cache.entry("kernel", &key, |dir| fill(cache, &apt, base, &kernel, dir))?;
    Ok(Flavour { dir, kernel })
}

impl Flavour {
    /// What is booted, and the modules beside it.
    pub(super) fn tree(&self) -> Tree {
        let modules = self.dir.join("lib/modules").join(&self.kernel);
        Tree {
            image: modules.join("vmlinuz"),
            in_guest: Some(format!("{}/{SHARE}", lab_init::path::SHARES)),
            share: Some((SHARE.to_owned(), modules.clone())),
            modules,
        }
    }

    /// What modules are built against, for a place beside the sources that they are built from.
    pub(super) fn headers(&self) -> PathBuf {
        self.dir.join(HEADERS)
    }
}

fn fill(cache: &Cache, apt: &Apt, base: &Base, kernel: &str, dir: &Path) -> Result<()> {
    let step = Step::begin("kernel", format!("downloading and unpacking {kernel}"));
    let log = cache.log("kernel");
    let headers = format!("./usr/src/linux-headers-{kernel}");
    let parts = [
        ("base", vec![tree::LISTS.to_owned()]),
        ("binary", vec!["*/vmlinuz".to_owned()]),
        ("modules", tree::modules()),
        ("headers", vec![headers.clone()]),
    ];
    for (part, wanted) in parts {
        let download = dir.join("download");
        fs::create_dir(&download).with_context(|| format!("cannot make {}", download.display()))?;
        let package = format!("linux-{part}-{kernel}={}", base.release.version);
        let deb = apt.download(&package, &download).with_context(|| {
            format!(
                "cannot have {package}: where the mirror has a newer kernel, `cargo xtask lab build --update`"
            )
        })?;
        tree::unpack(&deb, dir, &wanted, &log)?;
        fs::remove_dir_all(&download).context("cannot remove the package")?;
    }
    let place = dir.join(HEADERS);
    fs::rename(dir.join(&headers), &place).with_context(|| format!("cannot move {headers}"))?;
    fs::remove_dir_all(dir.join("usr")).context("cannot remove the folder of the headers")?;
    relink(&place)?;
    tree::index(base, dir, kernel, &log)?;
    step.done();
    Ok(())
}

/// The headers' links to what all flavours share (`../../lib/linux-kbuild-…`) made independent of their place.
fn relink(headers: &Path) -> Result<()> {
    for entry in fs::read_dir(headers).with_context(|| format!("cannot list {}", headers.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", headers.display()))?.path();
        if !path.is_symlink() {
            continue;
        }
        let target = fs::read_link(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let inner = target.strip_prefix("../..").map_err(|_| {
            anyhow!("{} leads to {}, which is not a part of /usr", path.display(), target.display())
        })?;
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        symlink(Path::new("/usr").join(inner), &path)
            .with_context(|| format!("cannot link {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_headers_lead_into_usr_from_anywhere() {
        let dir = std::env::temp_dir().join(format!("iovascope-headers-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        symlink("../../lib/linux-kbuild-7.3.4/scripts", dir.join("scripts")).unwrap();
        fs::write(dir.join("Makefile"), "").unwrap();
        relink(&dir).unwrap();
        let led = fs::read_link(dir.join("scripts")).unwrap();
        symlink("/elsewhere", dir.join("tools")).unwrap();
        let refused = relink(&dir);
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(led, Path::new("/usr/lib/linux-kbuild-7.3.4/scripts"));
        assert!(refused.is_err());
    }
}
