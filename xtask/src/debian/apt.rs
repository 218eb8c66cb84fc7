//! A private apt: its own sources, lists and downloads, in the cache. The host's packages are never touched,
//! and no right beyond the user's is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::Mirror;
use crate::cache::Cache;
use crate::tool;
use crate::ui::Step;

/// The release the guest is made of.
const SUITE: &str = "trixie";
/// It carries the kernel.
const BACKPORTS: &str = "trixie-backports";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

pub(crate) struct Apt {
    dir: PathBuf,
    log: PathBuf,
    suite: String,
}

/// One package of a plan.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Deb {
    /// File name in [`Apt::archives`].
    pub(crate) file: String,
    /// Bytes to download.
    pub(crate) size: u64,
}

impl Apt {
    /// Of the guest's release, with backports.
    pub(crate) fn open(cache: &Cache, mirror: &Mirror) -> Result<Self> {
        Self::at(cache, mirror, cache.folder("apt")?, SUITE, &format!("{SUITE} {BACKPORTS}"), "deb")
    }

    /// Of the guest's release alone, with what its packages are built from.
    pub(crate) fn with_sources(cache: &Cache, mirror: &Mirror) -> Result<Self> {
        Self::at(cache, mirror, cache.folder("apt-sources")?, SUITE, SUITE, "deb deb-src")
    }

    /// Of one suite alone.
    pub(crate) fn of(cache: &Cache, mirror: &Mirror, suite: &str) -> Result<Self> {
        Self::at(cache, mirror, cache.folder(&format!("apt-{suite}"))?, suite, suite, "deb")
    }

    fn at(
        cache: &Cache,
        mirror: &Mirror,
        dir: PathBuf,
        suite: &str,
        suites: &str,
        types: &str,
    ) -> Result<Self> {
        for part in ["sources", "state/lists/partial", "cache/archives/partial", "cache/nothing/partial"] {
            fs::create_dir_all(dir.join(part)).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let sources = format!(
            "Types: {types}\nURIs: {}\nSuites: {suites}\nComponents: main\nArchitectures: amd64\n\
             Targets: Packages Sources\nSigned-By: {KEYRING}\n",
            mirror.resolve()?
        );
        let write = |name: &str, text: &str| {
            fs::write(dir.join(name), text)
                .with_context(|| format!("cannot write {name} in {}", dir.display()))
        };
        write("sources/lab.sources", &sources)?;
        // An empty list of installed packages: plans then hold everything a root needs.
        write("state/status", "")?;
        Ok(Self { log: cache.log("apt"), dir, suite: suite.to_owned() })
    }

    /// Fetches the package lists.
    pub(crate) fn update(&self) -> Result<()> {
        tool::logged(self.command("apt-get").arg("update"), &self.log)
            .context("cannot fetch Debian's package lists")
    }

    /// Names of packages that start with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = tool::output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Versions of `package`, newest first.
    pub(crate) fn versions(&self, package: &str) -> Result<Vec<String>> {
        let table = tool::output(self.command("apt-cache").args(["madison", package]))?;
        Ok(table.lines().filter_map(|row| Some(row.split('|').nth(1)?.trim().to_owned())).collect())
    }

    /// What `package` depends on directly.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = tool::output(self.command("apt-cache").args(["depends", "--important", package]))?;
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(names.map(str::to_owned).collect())
    }

    /// What installing `packages` on an empty system takes.
    pub(crate) fn plan(&self, packages: &[String]) -> Result<Vec<Deb>> {
        // apt names what it would download: not what a run that was stopped has left in the archives.
        let nothing = self.dir.join("cache/nothing");
        let mut command = self.command("apt-get");
        command.args(["-o", &format!("Dir::Cache::archives={}", nothing.display())]);
        command.args(["install", "--quiet=2", "--print-uris", "--no-install-recommends"]).args(packages);
        let text = tool::output(&mut command)?;
        let plan = text.lines().map(parse).collect::<Option<Vec<_>>>();
        plan.filter(|plan| !plan.is_empty()).ok_or_else(|| anyhow!("apt's plan is not understood: {text}"))
    }

    /// Downloads what installing `packages` on an empty system takes into [`Self::archives`], verified against the
    /// signed lists: a step for `whom`.
    pub(crate) fn fetch(&self, whom: &str, packages: &[String]) -> Result<Vec<Deb>> {
        let plan = self
            .plan(packages)
            .with_context(|| format!("Debian's index cannot satisfy the packages of: {whom}"))?;
        let mib = plan.iter().map(|deb| deb.size).sum::<u64>() >> 20;
        let step = Step::begin(whom, format!("downloading {} packages, {mib} MiB", plan.len()));
        let mut command = self.command("apt-get");
        command.args(["install", "--yes", "--download-only", "--no-install-recommends"]).args(packages);
        tool::logged(&mut command, &self.log).context("cannot download packages")?;
        step.done();
        Ok(plan)
    }

    /// Downloads one package's file into `dir`.
    pub(crate) fn download(&self, package: &str, dir: &Path) -> Result<PathBuf> {
        let mut command = self.command("apt-get");
        tool::logged(command.args(["download", package]).current_dir(dir), &self.log)?;
        let files = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
        let file = files.flatten().map(|f| f.path()).find(|p| p.extension().is_some_and(|e| e == "deb"));
        match file {
            Some(file) => Ok(file),
            None => bail!("apt-get download {package} left no file"),
        }
    }

    /// Downloads what `package` is built from into `dir`, verified as well; unpacks nothing.
    pub(crate) fn source(&self, package: &str, dir: &Path) -> Result<()> {
        let mut command = self.command("apt-get");
        command.args(["source", "--download-only", package]).current_dir(dir);
        tool::logged(&mut command, &self.log)
            .with_context(|| format!("cannot download the source of {package}"))
    }

    pub(crate) fn archives(&self) -> PathBuf {
        self.dir.join("cache/archives")
    }

    /// Removes what was downloaded.
    pub(crate) fn clean(&self) -> Result<()> {
        tool::output(self.command("apt-get").arg("clean")).map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let own = |part: &str| self.dir.join(part).display().to_string();
        for (option, value) in [
            ("Dir::Etc::sourcelist", "/dev/null".to_owned()),
            ("Dir::Etc::sourceparts", own("sources")),
            ("Dir::Etc::preferences", "/dev/null".to_owned()),
            ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
            ("Dir::State", own("state")),
            ("Dir::State::status", own("state/status")),
            ("Dir::Cache", own("cache")),
            ("Dir::Log", own("state")),
            ("APT::Architecture", "amd64".to_owned()),
            ("APT::Default-Release", self.suite.clone()),
            // Without it, a download into a home folder warns that the user _apt cannot enter it.
            ("APT::Sandbox::User", "root".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::Retries", "3".to_owned()),
        ] {
            command.args(["-o", &format!("{option}={value}")]);
        }
        command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

/// A line of `--print-uris`: `'URI' FILE SIZE HASH`.
fn parse(line: &str) -> Option<Deb> {
    let mut fields = line.split_whitespace().skip(1);
    Some(Deb { file: fields.next()?.to_owned(), size: fields.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_plan() {
        let line = "'http://m/pool/l/lib_1%3a2_amd64.deb' lib_1%3a2_amd64.deb 166780612 SHA256:70";
        assert_eq!(parse(line), Some(Deb { file: "lib_1%3a2_amd64.deb".into(), size: 166_780_612 }));
        assert_eq!(parse("E: nothing"), None);
    }
}
