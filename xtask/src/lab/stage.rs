//! Makes what a guest of some variant needs, once, from the cache where possible.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow, bail};

use super::base::{self, Base};
use super::flavour::{self, Flavour};
use super::tree::Tree;
use super::variant::Variant;
use super::{depends, initramfs, modules, older, variant};
use crate::build;
use crate::cache::Cache;
use crate::debian::{self, Mirror};

/// The lab's parts, found or made as they are asked for.
pub(crate) struct Stage<'a> {
    pub(super) cache: &'a Cache,
    mirror: &'a Mirror,
    base: Mutex<Option<Arc<Base>>>,
}

/// A kernel ready to boot.
pub(crate) struct Kernel {
    pub(super) variant: Variant,
    pub(super) image: PathBuf,
    pub(super) initramfs: PathBuf,
    /// Debian's files.
    pub(super) root: PathBuf,
    /// The variant's own modules.
    pub(super) modules: PathBuf,
    /// Guest paths of modules to load.
    pub(super) load: Vec<String>,
    /// Further read-only folders that the guest needs for that, by name.
    pub(super) shares: Vec<(String, PathBuf)>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(cache: &'a Cache, mirror: &'a Mirror) -> Self {
        Self { cache, mirror, base: Mutex::new(None) }
    }

    /// Settles on the newest release, and makes its base; older kernels are looked for again when they are
    /// asked for.
    pub(super) fn update(&self) -> Result<()> {
        for name in variant::names()? {
            if let Some(debian) = &Variant::load(&name)?.debian {
                older::forget(self.cache, debian)?;
            }
        }
        self.base_with(true).map(drop)
    }

    /// Everything of one variant that is not built from this workspace's Rust.
    pub(crate) fn variant(&self, name: &str) -> Result<(Variant, PathBuf)> {
        let variant = Variant::load(name)?;
        let base = self.base_with(false)?;
        let flavour = self.flavour(&base, &variant)?;
        let modules = modules::ensure(self.cache, &base, flavour.as_ref(), &variant)?;
        self.tree(&base, &variant)?;
        Ok((variant, modules))
    }

    /// Everything of one variant.
    pub(super) fn kernel(&self, name: &str) -> Result<Kernel> {
        let (variant, modules) = self.variant(name)?;
        let base = self.base_with(false)?;
        let tree = self.tree(&base, &variant)?;
        let dependencies = depends::Dependencies::read(&tree)?;
        let initramfs = initramfs::ensure(self.cache, &tree, &dependencies, &build::guest_init()?)?;
        let mut load = Vec::new();
        for module in &variant.load {
            if modules.join(format!("{module}.ko")).is_file() {
                load.push(format!("{}/{module}.ko", lab_init::path::MODULES));
            } else {
                let folder = tree.in_guest.as_ref();
                let folder = folder
                    .ok_or_else(|| anyhow!("an older kernel's guest has no module {module} to load"))?;
                load.extend(dependencies.order(module)?.iter().map(|path| format!("{folder}/{path}")));
            }
        }
        let shares = tree.share.into_iter().collect();
        Ok(Kernel { image: tree.image, root: base.root(), initramfs, modules, load, shares, variant })
    }

    fn tree(&self, base: &Base, variant: &Variant) -> Result<Tree> {
        match (&variant.debian, self.flavour(base, variant)?) {
            (Some(debian), _) => older::ensure(self.cache, self.mirror, base, debian),
            (None, Some(flavour)) => Ok(flavour.tree()),
            (None, None) => Ok(base.tree()),
        }
    }

    fn flavour(&self, base: &Base, variant: &Variant) -> Result<Option<Flavour>> {
        let ensure = |flavour: &String| flavour::ensure(self.cache, self.mirror, base, flavour);
        variant.flavour.as_ref().map(ensure).transpose()
    }

    fn base_with(&self, update: bool) -> Result<Arc<Base>> {
        let mut held = self.base.lock().map_err(|_| anyhow!("making the lab's base panicked"))?;
        if let Some(base) = held.as_ref().filter(|_| !update) {
            return Ok(Arc::clone(base));
        }
        if !cfg!(target_arch = "x86_64") {
            bail!("the lab boots x86-64 guests that run this host's own binaries: it needs an x86-64 host");
        }
        debian::ensure_host_packages(self.cache)?;
        let base = Arc::new(base::ensure(self.cache, self.mirror, update)?);
        *held = Some(Arc::clone(&base));
        Ok(base)
    }
}
