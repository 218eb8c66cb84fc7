//! A kernel's build options, where its file can be had.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::GzDecoder;

use super::host::Host;

/// An unpacked config is 300 KiB; more than this is not one.
const MOST_BYTES: u64 = 16 << 20;

/// `CONFIG_` options that are set; an absent one is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub source: String,
    options: BTreeMap<String, String>,
}

/// How an option is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    BuiltIn,
    Module,
    Off,
}

impl Config {
    /// The running kernel's config, from where distributions put it.
    pub fn of(host: &Host, release: &str) -> Option<Self> {
        if let Some(config) =
            host.bytes("proc/config.gz").ok().and_then(|bytes| Self::unpack("/proc/config.gz", &bytes))
        {
            return Some(config);
        }
        [format!("boot/config-{release}"), format!("lib/modules/{release}/config")]
            .into_iter()
            .find_map(|path| host.text(&path).ok().map(|text| Self::parse(format!("/{path}"), &text)))
    }

    /// A gzipped config.
    pub fn unpack(source: &str, gzip: &[u8]) -> Option<Self> {
        let mut text = String::new();
        GzDecoder::new(gzip).take(MOST_BYTES).read_to_string(&mut text).ok()?;
        Some(Self::parse(source.to_owned(), &text))
    }

    fn parse(source: String, text: &str) -> Self {
        let options = text
            .lines()
            .filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self { source, options }
    }

    /// `name` without `CONFIG_`.
    pub fn setting(&self, name: &str) -> Setting {
        match self.options.get(name).map(String::as_str) {
            Some("y") => Setting::BuiltIn,
            Some("m") => Setting::Module,
            _ => Setting::Off,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_on_a_module_or_off() {
        let text = "CONFIG_IOMMUFD=m\nCONFIG_BPF=y\n# CONFIG_VFIO_NOIOMMU is not set\nCONFIG_HZ=250\n";
        let config = Config::parse("here".to_owned(), text);
        assert_eq!(config.setting("IOMMUFD"), Setting::Module);
        assert_eq!(config.setting("BPF"), Setting::BuiltIn);
        assert_eq!(config.setting("VFIO_NOIOMMU"), Setting::Off);
        assert_eq!(config.setting("HZ"), Setting::Off);
    }
}
