//! The few Debian packages that this host itself needs. Installs them where it may, else says what to run.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use crate::cache::Cache;
use crate::tool;
use crate::ui::Step;

/// A package, and what shows that this host has it already, from whichever source.
struct Need {
    package: &'static str,
    proof: Proof,
}

enum Proof {
    Program(&'static str),
    File(&'static str),
}

const NEEDS: [Need; 4] = [
    Need { package: "qemu-system-x86", proof: Proof::Program("qemu-system-x86_64") },
    Need { package: "xz-utils", proof: Proof::Program("xz") },
    Need { package: "util-linux", proof: Proof::Program("setpriv") },
    Need {
        package: "debian-archive-keyring",
        proof: Proof::File("/usr/share/keyrings/debian-archive-keyring.gpg"),
    },
];

impl Need {
    fn met(&self) -> bool {
        match self.proof {
            Proof::Program(name) => tool::find(name).is_some(),
            Proof::File(path) => Path::new(path).is_file(),
        }
    }
}

/// Installs what is missing.
pub(crate) fn ensure(cache: &Cache) -> Result<()> {
    let missing = || NEEDS.iter().filter(|need| !need.met()).map(|need| need.package).collect::<Vec<_>>();
    if missing().is_empty() {
        return Ok(());
    }
    let _lock = cache.lock("host-packages")?;
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if tool::find("apt-get").is_none() {
        bail!(
            "this host has no apt-get, and lacks {}: install what provides them here \
             (the lab also needs apt and dpkg, which other distributions package)",
            packages.join(", ")
        );
    }
    if !geteuid().is_root() {
        bail!("these packages are missing, and only root may install them; run: sudo {by_hand}");
    }
    let step = Step::begin("host", format!("installing {}", packages.join(" ")));
    let apt = |arguments: &[&str], log: &str| {
        let mut command = Command::new("apt-get");
        command.args(["-o", "DPkg::Lock::Timeout=300"]).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        tool::logged(&mut command, &cache.log(log))
    };
    apt(&["update"], "host-update")?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&packages);
    apt(&install, "host-install").with_context(|| format!("cannot install packages; by hand: {by_hand}"))?;
    step.done();
    Ok(())
}
