//! Which Debian mirror to ask: the one that this host's apt uses, or the one that the user names.

use std::process::Command;

use anyhow::{Result, anyhow};

use crate::tool;

/// An option of every chore that may download.
#[derive(clap::Args, Debug, Clone, Default)]
pub(crate) struct Mirror {
    /// Debian mirror for downloads; default: the one that apt uses on this host.
    #[arg(long = "mirror", value_name = "URL", env = "IOVASCOPE_MIRROR", global = true)]
    url: Option<String>,
}

impl Mirror {
    /// The mirror's address, as a line of apt's sources has it.
    pub(crate) fn resolve(&self) -> Result<String> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let format = "$(SITE) $(ORIGIN) $(LABEL) $(CREATED_BY)";
        let targets = tool::output(Command::new("apt-get").args(["indextargets", "--format", format]))?;
        pick(&targets).ok_or_else(|| {
            anyhow!(
                "apt on this host knows no Debian mirror (never updated, or not Debian): run `apt-get update`, \
                 or name a mirror with --mirror URL or IOVASCOPE_MIRROR"
            )
        })
    }
}

/// The first main archive: the security archive calls itself by another label.
fn pick(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| line.strip_suffix(" Debian Debian Packages")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_picked() {
        let targets = "http://a/security Debian Debian-Security Packages\n\
                       http://b/other Other Other Packages\n\
                       http://c/debian Debian Debian DEP-11\n\
                       http://d/debian Debian Debian Packages\n";
        assert_eq!(pick(targets).as_deref(), Some("http://d/debian"));
        assert_eq!(pick("http://a/debian   Packages\n"), None);
    }
}
