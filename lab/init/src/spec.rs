//! What one run of the lab asks of its guest, and the text that carries it.
//!
//! The text is a sequence of `key TAB value NUL`. Neither a key nor an argument of a program can hold a
//! NUL, so nothing is escaped.

use std::fmt;

/// How the command is connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Standard input empty, output and error over their own ports.
    #[default]
    Run,
    /// On a terminal: the virtio console.
    Shell {
        /// Size of the host's terminal, in characters.
        rows: u16,
        /// Size of the host's terminal, in characters.
        columns: u16,
    },
}

/// One run, as the guest's PID 1 reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// The kernel variant's name, for `LAB_VARIANT`.
    pub variant: String,
    /// How the command is connected.
    pub mode: Mode,
    /// The command and its arguments; never empty.
    pub arguments: Vec<String>,
    /// `NAME=value` for the command, beside those the lab sets itself.
    pub environment: Vec<String>,
    /// Guest paths of kernel modules, in loading order.
    pub modules: Vec<String>,
    /// Whether to bind the PCI test device to vfio-pci in no-IOMMU mode.
    pub noiommu_device: bool,
    /// Nodes that must exist when the variant is ready.
    pub present: Vec<String>,
    /// Nodes that must not exist when the variant is ready.
    pub absent: Vec<String>,
    /// Names of read-only shares, in the order of their tags.
    pub shares: Vec<String>,
}

/// A text that is not a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the run's spec is malformed at {:?}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl Spec {
    /// The text form.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let mut put = |key: &str, value: &str| {
            text.push_str(key);
            text.push('\t');
            text.push_str(value);
            text.push('\0');
        };
        put("variant", &self.variant);
        if let Mode::Shell { rows, columns } = self.mode {
            put("shell", &format!("{rows} {columns}"));
        }
        if self.noiommu_device {
            put("noiommu-device", "");
        }
        for (key, values) in [
            ("argument", &self.arguments),
            ("environment", &self.environment),
            ("module", &self.modules),
            ("present", &self.present),
            ("absent", &self.absent),
            ("share", &self.shares),
        ] {
            for value in values {
                put(key, value);
            }
        }
        text
    }

    /// Reads the text form; a spec without a command is malformed.
    pub fn decode(text: &str) -> Result<Self, Malformed> {
        let mut spec = Self::default();
        for field in text.split_terminator('\0') {
            let malformed = || Malformed(field.to_owned());
            let (key, value) = field.split_once('\t').ok_or_else(malformed)?;
            let list = match key {
                "argument" => &mut spec.arguments,
                "environment" => &mut spec.environment,
                "module" => &mut spec.modules,
                "present" => &mut spec.present,
                "absent" => &mut spec.absent,
                "share" => &mut spec.shares,
                "variant" => {
                    value.clone_into(&mut spec.variant);
                    continue;
                }
                "noiommu-device" => {
                    spec.noiommu_device = true;
                    continue;
                }
                "shell" => {
                    spec.mode = shell(value).ok_or_else(malformed)?;
                    continue;
                }
                _ => return Err(malformed()),
            };
            list.push(value.to_owned());
        }
        if spec.arguments.is_empty() {
            return Err(Malformed("(no command)".to_owned()));
        }
        Ok(spec)
    }
}

fn shell(value: &str) -> Option<Mode> {
    let (rows, columns) = value.split_once(' ')?;
    Some(Mode::Shell { rows: rows.parse().ok()?, columns: columns.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_survives_the_journey() {
        let spec = Spec {
            variant: "v5".into(),
            mode: Mode::Shell { rows: 40, columns: 120 },
            arguments: vec!["sh".into(), "-c".into(), "echo\t\"a\nb\"".into(), String::new()],
            environment: vec!["A=b=c".into()],
            modules: vec!["/lab/modules/iommufd.ko".into()],
            noiommu_device: true,
            present: vec!["/dev/iommu".into()],
            absent: vec!["/dev/none".into()],
            shares: vec!["golden".into()],
        };
        assert_eq!(Spec::decode(&spec.encode()), Ok(spec));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "variant\tx\0", "argument", "argument\ttrue\0what\tx\0", "argument\ttrue\0shell\t4\0"]
        {
            assert!(Spec::decode(text).is_err(), "{text:?}");
        }
    }
}
