//! The newest bpftrace beside the guest's own: Debian unstable's, with the libraries that it needs, as a folder that
//! guests see. Nothing of it is installed; its programs run by its own loader (`lab/bench/newest.sh`).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::cache::{Cache, Key};
use crate::debian::{Apt, Mirror};
use crate::lab::base;
use crate::ui::{self, Step};

/// Changes when what is done to the packages does.
const RECIPE: &str = "newest 1";
const SUITE: &str = "sid";
const PACKAGE: &str = "bpftrace";
/// The share's name: `lab/bench/newest.sh` knows it.
pub(super) const SHARE: &str = "newest";

/// The folder, of the version that unstable has now; where it cannot be had, nothing, and that is said.
pub(super) fn find(mirror: &Mirror) -> Option<PathBuf> {
    match ensure(mirror) {
        Ok(folder) => Some(folder),
        Err(error) => {
            ui::say(format!(
                "[bench] the newest bpftrace cannot be had, its arms are left out and no document is written: {error:#}"
            ));
            None
        }
    }
}

fn ensure(mirror: &Mirror) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let _lock = cache.lock("apt")?;
    let apt = Apt::of(&cache, mirror, SUITE)?;
    apt.update()?;
    let version = apt.versions(PACKAGE)?.into_iter().next();
    let version = version.ok_or_else(|| anyhow!("Debian's {SUITE} has no {PACKAGE}"))?;
    let key = Key::default().with("recipe", RECIPE).with(PACKAGE, &version);
    cache.entry("bpftrace", &key, |root| fill(&cache, &apt, &version, root))
}

fn fill(cache: &Cache, apt: &Apt, version: &str, root: &Path) -> Result<()> {
    let plan = apt.fetch("newest bpftrace", &[format!("{PACKAGE}={version}")])?;
    let step = Step::begin("newest bpftrace", "unpacking");
    base::merge_usr(root)?;
    base::unpack_in(cache, apt, plan, root)?;
    let program = root.join("usr/bin").join(PACKAGE);
    fs::metadata(&program).with_context(|| format!("the packages have no {}", program.display()))?;
    apt.clean()?;
    step.done();
    Ok(())
}

/// What a guest is started with to see it.
pub(super) fn share(folder: &Path) -> OsString {
    let mut share = OsString::from(format!("{SHARE}="));
    share.push(folder);
    share
}
