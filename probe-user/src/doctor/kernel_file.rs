//! `doctor --kernel FILE`: will the kernel in this file do? From its symbols, its BTF and its config,
//! as far as the file has them. What a stripped file cannot tell is said to be unknowable.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use memchr::memmem;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};
use serde::Serialize;

use super::config::{Config, Setting};
use super::symbols::{DISPATCH, GET_PHYS};
use super::unpack::{MOST_BYTES, UnpackError, unpack};
use crate::btf::Btf;

/// Name and version of the JSON shape.
const SCHEMA: &str = "iovascope.doctor-kernel/1";
/// Text taken from the file and shown is cut here.
const MOST_SHOWN: usize = 120;

#[derive(Debug, thiserror::Error)]
pub enum KernelFileError {
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no kernel", path.display())]
    Unpack { path: PathBuf, source: UnpackError },
    #[error("{}: not a whole ELF file", path.display())]
    Elf { path: PathBuf, source: object::Error },
    #[error("{} is larger than 2 GiB", path.display())]
    TooLarge { path: PathBuf },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "name")]
pub enum Kind {
    /// A whole kernel.
    Vmlinux,
    Module(String),
}

/// Whether a function is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    InSymbols,
    InBtf,
    /// The symbols, or BTF where there are none, do not have it.
    No,
    /// Neither symbols nor BTF are in the file.
    Unknowable,
}

/// The judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    WillDo,
    /// iommufd is there, and `iopt_get_phys` is not.
    NoGetPa,
    /// A whole kernel without iommufd in it: it may have it as a module.
    NotBuiltIn,
    /// Its config says that iommufd was not built.
    NotBuilt,
    /// A module, but another one.
    OtherModule,
    Unknowable,
}

#[derive(Debug, Clone, Serialize)]
pub struct KernelReport {
    pub schema: &'static str,
    pub file: String,
    /// What was around the ELF file, outermost first.
    pub layers: Vec<&'static str>,
    #[serde(flatten)]
    pub kind: Kind,
    pub release: Option<String>,
    pub dispatch: Found,
    pub get_phys: Found,
    pub btf: bool,
    /// `None`: cannot be known from this file.
    pub fsession: Option<bool>,
    /// `CONFIG_IOMMUFD` and `CONFIG_IOMMUFD_NOIOMMU`, where the config is in the file.
    pub config: Option<[&'static str; 2]>,
    pub judgement: Judgement,
}

/// Read and judge `path`.
pub fn examine(path: &Path) -> Result<KernelReport, KernelFileError> {
    let read = |source| KernelFileError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(read)?.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(KernelFileError::TooLarge { path: path.to_owned() });
    }
    examine_bytes(path, bytes)
}

/// Judge what stands in the file at `path`.
pub fn examine_bytes(path: &Path, bytes: Vec<u8>) -> Result<KernelReport, KernelFileError> {
    let unpacked =
        unpack(bytes).map_err(|source| KernelFileError::Unpack { path: path.to_owned(), source })?;
    let elf = object::File::parse(&*unpacked.elf)
        .map_err(|source| KernelFileError::Elf { path: path.to_owned(), source })?;
    Ok(report(path.display().to_string(), &unpacked.elf, &elf, unpacked.layers))
}

fn report(file: String, bytes: &[u8], elf: &object::File<'_>, layers: Vec<&'static str>) -> KernelReport {
    let modinfo = section(elf, ".modinfo");
    let name = modinfo.as_deref().and_then(|info| modinfo_field(info, "name"));
    let kind = name.map_or(Kind::Vmlinux, Kind::Module);
    let release = match (&kind, &modinfo) {
        (Kind::Module(_), Some(info)) => modinfo_field(info, "vermagic"),
        _ => banner(bytes),
    };
    let btf_bytes = section(elf, ".BTF");
    let btf = btf_bytes.as_deref().and_then(|bytes| Btf::parse(bytes).ok());
    let [dispatch, get_phys] = functions(elf, btf.as_ref(), &kind);
    let config = embedded_config(bytes);
    KernelReport {
        schema: SCHEMA,
        file,
        layers,
        judgement: judge(&kind, dispatch, get_phys, config.as_ref()),
        release: release.map(|text| text.split(' ').next().unwrap_or_default().to_owned()),
        dispatch,
        get_phys,
        btf: btf.is_some(),
        // The enumerator is in vmlinux's BTF; a module's says nothing about it.
        fsession: match kind {
            Kind::Vmlinux => btf.map(|btf| btf.has_string("BPF_TRACE_FSESSION")),
            Kind::Module(_) => None,
        },
        config: config.map(|config| ["IOMMUFD", "IOMMUFD_NOIOMMU"].map(|name| setting(config.setting(name)))),
        kind,
    }
}

fn setting(setting: Setting) -> &'static str {
    match setting {
        Setting::BuiltIn => "y",
        Setting::Module => "m",
        Setting::Off => "n",
    }
}

fn section(elf: &object::File<'_>, name: &str) -> Option<Vec<u8>> {
    let data = elf.section_by_name(name)?.uncompressed_data().ok()?;
    (!data.is_empty()).then(|| data.into_owned())
}

/// Where each function is. Symbols outrank BTF: pahole leaves functions out that the compiler changed.
fn functions(elf: &object::File<'_>, btf: Option<&Btf<'_>>, kind: &Kind) -> [Found; 2] {
    let wanted = [DISPATCH, GET_PHYS];
    let mut has_functions = false;
    let mut in_symbols: BTreeSet<&str> = BTreeSet::new();
    for symbol in elf.symbols().filter(|symbol| symbol.is_definition() && symbol.kind() == SymbolKind::Text) {
        has_functions = true;
        in_symbols.extend(wanted.iter().filter(|wanted| symbol.name() == Ok(**wanted)));
    }
    // A module's BTF counts its strings on from a vmlinux that is not at hand.
    let in_btf = match kind {
        Kind::Vmlinux => btf.and_then(|btf| btf.functions(None, &wanted).ok()),
        Kind::Module(_) => None,
    };
    wanted.map(|name| match &in_btf {
        _ if in_symbols.contains(name) => Found::InSymbols,
        Some(found) if found.contains_key(name) => Found::InBtf,
        None if !has_functions => Found::Unknowable,
        _ => Found::No,
    })
}

fn judge(kind: &Kind, dispatch: Found, get_phys: Found, config: Option<&Config>) -> Judgement {
    let there = |found| matches!(found, Found::InSymbols | Found::InBtf);
    if let Kind::Module(name) = kind
        && name != "iommufd"
    {
        return Judgement::OtherModule;
    }
    if there(dispatch) && there(get_phys) {
        return Judgement::WillDo;
    }
    if there(dispatch) {
        return Judgement::NoGetPa;
    }
    match config.map(|config| config.setting("IOMMUFD")) {
        Some(Setting::Off) => Judgement::NotBuilt,
        Some(Setting::Module) => Judgement::NotBuiltIn,
        _ if dispatch == Found::Unknowable => Judgement::Unknowable,
        _ => Judgement::NotBuiltIn,
    }
}

/// `name=value` strings, each ended by a NUL.
fn modinfo_field(modinfo: &[u8], name: &str) -> Option<String> {
    modinfo.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(printable(value))
    })
}

/// What follows "Linux version " in the kernel's banner.
fn banner(bytes: &[u8]) -> Option<String> {
    const BANNER: &[u8] = b"Linux version ";
    memmem::find_iter(bytes, BANNER)
        .filter_map(|at| bytes.get(at + BANNER.len()..))
        // The format string of another message starts alike.
        .find(|text| text.first().is_some_and(u8::is_ascii_digit))
        .map(|text| printable(text.split(|byte| matches!(byte, 0 | b'\n')).next().unwrap_or_default()))
}

/// The config that `CONFIG_IKCONFIG` puts between two marks (`kernel/configs.c`).
fn embedded_config(bytes: &[u8]) -> Option<Config> {
    const MARK: &[u8] = b"IKCFG_ST";
    memmem::find_iter(bytes, MARK)
        .filter_map(|at| bytes.get(at + MARK.len()..))
        .find(|rest| rest.starts_with(b"\x1f\x8b"))
        .and_then(|gzip| Config::unpack("in the file", gzip))
}

/// Text from a file that anyone may have made: no control characters, no escape sequences.
fn printable(bytes: &[u8]) -> String {
    let shown = bytes.iter().take(MOST_SHOWN);
    shown.map(|byte| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' }).collect()
}

impl KernelReport {
    /// For a person.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let what = match &self.kind {
            // Nothing in it says that it is one.
            Kind::Vmlinux if self.release.is_none() && !self.btf => "an ELF file".to_owned(),
            Kind::Vmlinux => "a kernel".to_owned(),
            Kind::Module(name) => format!("the module {name}"),
        };
        let layers: Vec<String> = self.layers.iter().map(|layer| format!(" in {layer}")).rev().collect();
        writeln!(out, "{}: {what}{}", self.file, layers.concat())?;
        writeln!(out, "release             {}", self.release.as_deref().unwrap_or("not in the file"))?;
        for (name, found) in [(DISPATCH, self.dispatch), (GET_PHYS, self.get_phys)] {
            writeln!(out, "{name:<20}{}", found.describe())?;
        }
        writeln!(out, "BTF                 {}", if self.btf { "yes" } else { "none in the file" })?;
        let fsession = match self.fsession {
            Some(true) => "yes",
            Some(false) => "no: fentry or kprobe will be used",
            None => "cannot be known from this file",
        };
        writeln!(out, "fsession            {fsession}")?;
        if let Some([iommufd, noiommu]) = self.config {
            writeln!(out, "config              IOMMUFD={iommufd} IOMMUFD_NOIOMMU={noiommu}")?;
        }
        // The functions are the same in every version; only the running kernel can be asked which.
        writeln!(out, "GET_PA version      cannot be known from a file")?;
        writeln!(out, "\n{}", self.judgement.describe())
    }
}

impl Found {
    fn describe(self) -> &'static str {
        match self {
            Self::InSymbols => "found in the symbol table",
            Self::InBtf => "found in BTF",
            Self::No => "not found",
            Self::Unknowable => "cannot be known from this file: it is stripped and has no BTF",
        }
    }
}

impl Judgement {
    fn describe(self) -> &'static str {
        match self {
            Self::WillDo => "will do: both probed functions are there",
            Self::NoGetPa => {
                "will not do: iommufd is there without iopt_get_phys, so CONFIG_IOMMUFD_NOIOMMU is off or the \
                 kernel is older than 7.3\n  what to do: a kernel >= 7.3 with CONFIG_VFIO_NOIOMMU and \
                 CONFIG_VFIO_DEVICE_CDEV"
            }
            Self::NotBuiltIn => {
                "will not do by itself: iommufd is not built in\n  what to do: look at its module, \
                 `iovascope doctor --kernel /lib/modules/RELEASE/kernel/drivers/iommu/iommufd/iommufd.ko`"
            }
            Self::NotBuilt => {
                "will not do: CONFIG_IOMMUFD is off\n  what to do: a kernel >= 7.3 with CONFIG_IOMMUFD, \
                 CONFIG_VFIO_NOIOMMU and CONFIG_VFIO_DEVICE_CDEV"
            }
            Self::OtherModule => {
                "will not do: another module\n  what to do: look at iommufd.ko of this kernel"
            }
            Self::Unknowable => {
                "cannot be known from this file\n  what to do: look at the unstripped vmlinux, or run \
                 `iovascope doctor` on the kernel itself"
            }
        }
    }
}

#[cfg(test)]
mod tests;
