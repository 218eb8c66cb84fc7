//! Other people's tools that judge what iovascope writes: decoders, Prometheus, a browser. In a root of their
//! own, made as the lab's base is, in the cache; nothing is installed on this host.

pub(crate) mod receiver;

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{Cache, Key};
use crate::debian::{Apt, Mirror};
use crate::lab::{base, chroot};
use crate::tool;
use crate::ui::Step;

/// Changes when what is done to the packages does.
const RECIPE: &str = "judges 2";

/// From Debian.
const PACKAGES: [&str; 15] = [
    "bash",
    "ca-certificates",
    "chromium-headless-shell",
    "coreutils",
    "curl",
    "fonts-dejavu-core",
    "libhdrhistogram-java",
    "nodejs",
    "npm",
    "openjdk-21-jdk-headless",
    "openssl",
    "prometheus",
    "python3-pip",
    "systemd",
    "victoria-metrics",
];
/// From a later release of Debian's, in folders of their own: release, package, folder. Programs that need
/// no library but C's.
const LATER: [(&str, &str, &str); 1] = [("forky", "prometheus", "opt/prometheus-3")];
/// From Python's index.
const PYTHON: [&str; 3] = ["hdrhistogram==0.10.8", "pbr", "jsonschema"];
/// From npm.
const NODE: [&str; 1] = ["hdr-histogram-js@3.0.1"];

/// Files that maintainer scripts would have made.
const FILES: [(&str, &str); 3] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
];

/// The root, made if it is not there.
pub(crate) fn ensure(cache: &Cache, mirror: &Mirror) -> Result<PathBuf> {
    let later = LATER.map(|(suite, package, _)| format!("{suite}/{package}"));
    let key = [&PACKAGES[..], &PYTHON, &NODE]
        .iter()
        .fold(Key::default().with("recipe", RECIPE), |key, names| key.with("names", names.join(" ")))
        .with("later", later.join(" "));
    if let Some(root) = cache.get("judges", &key) {
        return Ok(root);
    }
    let _lock = cache.lock("apt")?;
    cache.entry("judges", &key, |root| fill(cache, mirror, root))
}

fn fill(cache: &Cache, mirror: &Mirror, root: &Path) -> Result<()> {
    let apt = Apt::open(cache, mirror)?;
    apt.update()?;
    let packages = PACKAGES.map(str::to_owned);
    let plan = apt.fetch("judges", &packages)?;
    let step = Step::begin("judges", "unpacking");
    base::merge_usr(root)?;
    base::unpack_in(cache, &apt, plan, root)?;
    for folder in ["dev", "proc", "sys", "root", "tmp", "etc", "lab/build"] {
        fs::create_dir_all(root.join(folder)).with_context(|| format!("cannot make {folder}"))?;
    }
    for (name, text) in FILES {
        fs::write(root.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    let java = root.join("usr/bin/java");
    symlink("/usr/lib/jvm/java-21-openjdk-amd64/bin/java", &java).context("cannot link java")?;
    for (suite, package, folder) in LATER {
        unpack_later(cache, mirror, suite, package, &root.join(folder))?;
    }
    step.done();
    let step = Step::begin("judges", "decoders from PyPI and npm");
    from_host(root)?;
    let pip =
        ["-m", "pip", "install", "--no-cache-dir", "--break-system-packages", "--target", "/opt/python"];
    tool::logged(with_network(root, "/usr/bin/python3").args(pip).args(PYTHON), &cache.log("judges-pip"))?;
    let npm = ["install", "--no-audit", "--no-fund", "--prefix", "/opt/node"];
    tool::logged(with_network(root, "/usr/bin/npm").args(npm).args(NODE), &cache.log("judges-npm"))?;
    apt.clean()?;
    step.done();
    Ok(())
}

/// One package of another release, without what it depends on.
fn unpack_later(cache: &Cache, mirror: &Mirror, suite: &str, package: &str, folder: &Path) -> Result<()> {
    let apt = Apt::of(cache, mirror, suite)?;
    apt.update()?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let deb = apt.download(package, folder)?;
    let mut unpack = Command::new("dpkg-deb");
    tool::logged(unpack.arg("--extract").arg(&deb).arg(folder), &cache.log("judges-later"))
        .with_context(|| format!("cannot unpack {}", deb.display()))?;
    fs::remove_file(&deb).with_context(|| format!("cannot remove {}", deb.display()))
}

/// What the network needs of this host: names and certificates.
fn from_host(root: &Path) -> Result<()> {
    for path in ["/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt"] {
        let to = root.join(&path[1..]);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        if Path::new(path).is_file() {
            fs::copy(path, &to).with_context(|| format!("cannot copy {path}"))?;
        }
    }
    Ok(())
}

/// A command in the root that finds the registries as this host's programs do.
fn with_network(root: &Path, program: &str) -> Command {
    let mut command = chroot::command(root, None, program);
    let certificates = "/etc/ssl/certs/ca-certificates.crt";
    command.env("HOME", "/root").env("TMPDIR", "/tmp");
    command.env("SSL_CERT_FILE", certificates).env("NODE_EXTRA_CA_CERTS", certificates);
    let of_registries = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.ends_with("_proxy")
            || ["pip_index", "pip_trusted", "npm_config_registry"].iter().any(|part| name.starts_with(part))
    };
    for (name, value) in env::vars().filter(|(name, _)| of_registries(name)) {
        command.env(name, value);
    }
    command
}

/// A command in the root, with `work` at [`chroot::WORK`].
pub(crate) fn command(root: &Path, work: &Path, program: &str) -> Command {
    let mut command = chroot::command(root, Some(work), program);
    command.env("HOME", chroot::WORK).env("TMPDIR", chroot::WORK);
    command.env("PYTHONPATH", "/opt/python").env("NODE_PATH", "/opt/node/node_modules");
    command
}
