//! Kernel variants: data in `lab/variants/NAME.json`, read here and nowhere else.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

use crate::workspace;

/// One kernel that the lab can boot.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variant {
    /// The file's stem.
    #[serde(skip)]
    pub(crate) name: String,
    /// What tests on it prove.
    pub(crate) proves: String,
    /// An older kernel of Debian's, for which nothing is built; none: the base's.
    #[serde(default)]
    pub(crate) debian: Option<Debian>,
    /// The flavour in which Debian builds the base's kernel, such as `rt-amd64`; none: the plain one.
    #[serde(default)]
    pub(crate) flavour: Option<String>,
    /// CPUs of the machine, of which only as many as are asked for come online; none: no more than these.
    #[serde(default)]
    pub(crate) possible_cpus: Option<u32>,
    /// The guest's memory where none is asked for, as QEMU's -m takes it; none: 2G.
    #[serde(default)]
    pub(crate) memory: Option<String>,
    /// Always deterministic: one CPU, and one guest nanosecond per executed instruction.
    #[serde(default)]
    pub(crate) icount: bool,
    /// Kernel parameters that it needs.
    #[serde(default)]
    pub(crate) parameters: String,
    /// A second PCI test device, which nothing is bound to.
    #[serde(default)]
    pub(crate) free_device: bool,
    /// How its modules are built; none: Debian's kernel as it is.
    pub(crate) modules: Option<Recipe>,
    /// Modules to load, in order, by file name without `.ko`.
    pub(crate) load: Vec<String>,
    /// Whether the guest binds a device in no-IOMMU mode.
    pub(crate) noiommu_device: bool,
    /// Device nodes that must exist then.
    pub(crate) present: Vec<String>,
    /// Device nodes that must not exist then.
    pub(crate) absent: Vec<String>,
}

/// Where an older kernel is from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Debian {
    /// The release that has it.
    pub(crate) suite: String,
    /// The package that depends on the release's newest kernel.
    pub(crate) package: String,
}

/// How a variant's modules differ from Debian's sources and configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recipe {
    /// Files in `lab/patches/`, applied in order.
    pub(crate) patches: Vec<String>,
    /// Options that choose what make builds.
    pub(crate) make: Vec<String>,
    /// The same options as the C sources see them.
    pub(crate) defines: Vec<String>,
}

impl Variant {
    pub(crate) fn load(name: &str) -> Result<Self> {
        if !names()?.iter().any(|known| known == name) {
            let known = names()?.join(", ");
            return Err(anyhow!("the lab has no kernel variant {name:?}; there are: {known}"));
        }
        let path = folder().join(format!("{name}.json"));
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut variant: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is no kernel variant", path.display()))?;
        name.clone_into(&mut variant.name);
        Ok(variant)
    }
}

impl Recipe {
    /// Names and contents of the patches.
    pub(crate) fn patches(&self) -> Result<Vec<(&str, Vec<u8>)>> {
        let dir = workspace::root().join("lab/patches");
        let read =
            |name: &String| fs::read(dir.join(name)).with_context(|| format!("cannot read patch {name}"));
        self.patches.iter().map(|name| Ok((name.as_str(), read(name)?))).collect()
    }
}

/// All variants, sorted.
pub(crate) fn names() -> Result<Vec<String>> {
    let dir = folder();
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn folder() -> PathBuf {
    workspace::root().join("lab/variants")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_is_readable_and_its_patches_exist() {
        let names = names().unwrap();
        assert!(names.iter().any(|name| name == "mainline"), "{names:?}");
        for name in names {
            let variant = Variant::load(&name).unwrap();
            assert!(!variant.proves.is_empty(), "{name}");
            if let Some(recipe) = &variant.modules {
                recipe.patches().unwrap();
            }
        }
    }

    #[test]
    fn an_unknown_variant_names_the_known_ones() {
        let error = Variant::load("v4").unwrap_err().to_string();
        assert!(error.contains("mainline") && error.contains("v5"), "{error}");
    }
}
