//! `cargo xtask test`: every test there is, the lab's included, counted to one closing line.
//!
//! A skip is a number in that line and never a pass; inside the lab it is a failure. What failed and passed when it was
//! run again is named above it.

mod run;
mod suite;
mod tally;

use std::fs::{self, File};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use self::tally::Tally;
use crate::debian::Mirror;
use crate::{Chore, cache, setup, ui, workspace};

/// Run the tests: formatting and lints, unit tests, the lab's own, and iovascope on real kernels.
///
/// Sets up what is missing first. Closes with a line `N passed, N failed, N skipped`.
#[derive(Args)]
pub(crate) struct Test {
    /// Parts to run; default: all but `long`.
    #[arg(value_name = "PART")]
    parts: Vec<Part>,
    /// Only tests of the lab's guests whose names hold this.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    #[command(flatten)]
    mirror: Mirror,
}

/// A part of the tests, in the order in which they run: what fails fast comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// rustfmt and clippy, on the host's code and on the BPF side's.
    Lint,
    /// Tests that need no kernel but this host's.
    Unit,
    /// Other people's decoders, Prometheus and a browser on what iovascope writes.
    Judges,
    /// The lab's promises: statuses, streams, verdicts.
    Lab,
    /// iovascope in guests, on every variant of the kernel.
    Guest,
    /// The same claims over longer times and more repeats, in guests. Two hours; runs only when named.
    Long,
}

impl Part {
    const ALL: [Self; 6] = [Self::Lint, Self::Unit, Self::Judges, Self::Lab, Self::Guest, Self::Long];

    /// What `test lab` means: all that boots. Nothing but its name means `long`.
    fn chosen(parts: &[Self]) -> Vec<Self> {
        let wanted = |part: &Self| {
            let meant = parts.is_empty() || (*part == Self::Guest && parts.contains(&Self::Lab));
            parts.contains(part) || (meant && *part != Self::Long)
        };
        Self::ALL.into_iter().filter(wanted).collect()
    }

    fn variants(self) -> &'static [&'static str] {
        match self {
            Self::Lint | Self::Unit | Self::Judges => &[],
            Self::Lab | Self::Guest | Self::Long => &suite::VARIANTS,
        }
    }
}

impl Chore for Test {
    fn run(self) -> Result<ExitCode> {
        let parts = Part::chosen(&self.parts);
        let guests = [Part::Guest, Part::Long];
        if self.filter.is_some() && !parts.iter().any(|part| guests.contains(part)) {
            bail!("--filter chooses among the guest's tests, which are not to run");
        }
        let variants = parts.iter().map(|part| part.variants()).max_by_key(|names| names.len());
        setup::ensure(&self.mirror, variants.unwrap_or_default())?;
        let _lock = lock()?;
        let mut all = Tally::default();
        for part in parts {
            for mut suite in suite::of(part, &self.mirror, self.filter.as_deref())? {
                ui::say(format!("\n[test] {}", suite.name));
                let tally = suite.run()?;
                ui::say(format!("[test] {}: {tally}", suite.name));
                all.add(tally);
            }
        }
        ui::say("");
        for name in &all.unsteady {
            ui::say(format!("unsteady: {name} failed, and passed when it was run again"));
        }
        for name in &all.failures {
            ui::say(format!("failed: {name}"));
        }
        ui::answer(all.to_string());
        Ok(if all.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// What guests leave in `out/test` is one run's at a time.
fn lock() -> Result<File> {
    let folder = workspace::root().join("out");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    cache::lock(&folder, "test.lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lab_means_all_that_boots() {
        assert_eq!(Part::chosen(&[]), Part::ALL[..5]);
        assert_eq!(Part::chosen(&[Part::Long]), [Part::Long]);
        assert_eq!(Part::chosen(&[Part::Lab]), [Part::Lab, Part::Guest]);
        assert_eq!(Part::chosen(&[Part::Guest, Part::Lint]), [Part::Lint, Part::Guest]);
    }
}
