//! Debian's Prometheus with the OTLP receiver that Debian's own lacks.
//!
//! Debian's source still holds the receiver; one of its patches takes it out, because what it reads OTLP with was
//! not packaged then, and now is in a later release. So this is Debian's build with all of its patches but that one.
//! Service discovery stays out: it is most of the work, and no test discovers. Made in a root of its own, of
//! which only the program is kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::cache::{Cache, Key};
use crate::debian::{Apt, Mirror};
use crate::lab::{base, chroot};
use crate::tool;
use crate::ui::Step;

/// Changes when what is done to the source does.
const RECIPE: &str = "receiver 1";

/// The source, and its name for Go.
const SOURCE: (&str, &str) = ("prometheus", "github.com/prometheus/prometheus");
/// How the name of the patch ends that takes the receiver out.
const LEFT_OUT: &str = "-Disable-OTLP-Ingestion-endpoint.patch";
/// Go, the libraries that Debian builds Prometheus with, and one of what reads OTLP.
const PACKAGES: [&str; 4] = [
    "golang-go",
    "golang-github-prometheus-prometheus-dev",
    "golang-github-hashicorp-go-version-dev",
    "patch",
];
/// What reads OTLP: release, package, and the parts of it that are needed.
const READER: (&str, &str, [&str; 2]) =
    ("forky", "golang-opentelemetry-collector-dev", ["featuregate", "pdata"]);
/// Of these, what takes OTLP over gRPC, which needs a later gRPC; the receiver is handed HTTP's.
const GRPC: &str = "*/pmetricotlp/grpc.go";
/// Where Debian has libraries for Go.
const LIBRARIES: &str = "usr/share/gocode";

/// Names of attributes that the reader held when this Prometheus was written, by OpenTelemetry's conventions.
const CONVENTIONS: (&str, &str) = (
    "vendor/go.opentelemetry.io/collector/semconv/v1.6.1/names.go",
    "package semconv\n\nconst (\n\tAttributeServiceName = \"service.name\"\n\t\
     AttributeServiceNamespace = \"service.namespace\"\n\t\
     AttributeServiceInstanceID = \"service.instance.id\"\n)\n",
);
/// The list of service discoveries, none; those of files and HTTP are listed elsewhere.
const PLUGINS: (&str, &str) = ("plugins/plugins.go", "package plugins\n");

/// The program, built if it is not there.
pub(crate) fn ensure(cache: &Cache, mirror: &Mirror) -> Result<PathBuf> {
    let (release, reader, parts) = READER;
    let key = Key::default()
        .with("recipe", RECIPE)
        .with("source", SOURCE.0)
        .with("left out", LEFT_OUT)
        .with("packages", PACKAGES.join(" "))
        .with("reader", [&[release, reader], &parts[..]].concat().join(" "))
        .with("written", [CONVENTIONS.1, PLUGINS.1].concat());
    let program = |entry: PathBuf| entry.join("prometheus");
    if let Some(entry) = cache.get("receiver", &key) {
        return Ok(program(entry));
    }
    let _lock = cache.lock("apt")?;
    cache.entry("receiver", &key, |entry| fill(cache, mirror, entry)).map(program)
}

fn fill(cache: &Cache, mirror: &Mirror, entry: &Path) -> Result<()> {
    let [root, work] = ["root", "work"].map(|name| entry.join(name));
    let source = work.join("go/src").join(SOURCE.1);
    for folder in [&root, &work.join("tmp"), &source] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    prepare(cache, mirror, &root, &work)?;
    let version = unpack(cache, &root, &work, &source)?;
    let step = Step::begin("receiver", format!("building Prometheus {version} with its OTLP receiver"));
    let mut go = chroot::command(&root, Some(&work), "/usr/bin/go");
    go.env("HOME", chroot::WORK).env("GOCACHE", format!("{}/cache", chroot::WORK));
    go.env("GOPATH", format!("{}/go:/{LIBRARIES}", chroot::WORK)).env("GO111MODULE", "off");
    go.env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local");
    go.args(["build", "-ldflags"])
        .arg(format!("-s -w -X github.com/prometheus/common/version.Version={version}"));
    go.args(["-o", &format!("{}/prometheus", chroot::WORK), &format!("{}/cmd/prometheus", SOURCE.1)]);
    tool::logged(&mut go, &cache.log("receiver-build"))
        .context("Prometheus does not build with its receiver")?;
    fs::rename(work.join("prometheus"), entry.join("prometheus")).context("cannot keep the program")?;
    for folder in [&root, &work] {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    step.done();
    Ok(())
}

/// Downloads all, and makes the root that the program is built in.
fn prepare(cache: &Cache, mirror: &Mirror, root: &Path, work: &Path) -> Result<()> {
    let apt = Apt::with_sources(cache, mirror)?;
    apt.update()?;
    let packages = PACKAGES.map(str::to_owned);
    let plan = apt.fetch("receiver", &packages)?;
    apt.source(SOURCE.0, work)?;
    let (release, reader, parts) = READER;
    let later = Apt::of(cache, mirror, release)?;
    later.update()?;
    let reader = later.download(reader, work)?;
    let step = Step::begin("receiver", "unpacking");
    base::merge_usr(root)?;
    base::unpack_in(cache, &apt, plan, root)?;
    apt.clean()?;
    for folder in ["dev", "proc", "tmp", "lab/build"] {
        fs::create_dir_all(root.join(folder)).with_context(|| format!("cannot make {folder}"))?;
    }
    let mut tar = Command::new("tar");
    tar.args(["-x", "--no-same-owner", "--exclude", GRPC, "-C"]).arg(root);
    tar.args(parts.map(|part| format!("./{LIBRARIES}/src/go.opentelemetry.io/collector/{part}")));
    let mut data = Command::new("dpkg-deb");
    tool::piped(data.arg("--fsys-tarfile").arg(&reader), &mut tar, &cache.log("receiver-reader"))
        .with_context(|| format!("cannot unpack {}", reader.display()))?;
    step.done();
    Ok(())
}

/// Unpacks and patches the source that lies in `work`; its version.
fn unpack(cache: &Cache, root: &Path, work: &Path, source: &Path) -> Result<String> {
    let log = cache.log("receiver-source");
    let files = fs::read_dir(work).with_context(|| format!("cannot list {}", work.display()))?;
    let names: Vec<_> = files.flatten().filter_map(|file| file.file_name().into_string().ok()).collect();
    let mut version = None;
    for (part, stripped) in [(".orig.tar.", 1), (".debian.tar.", 0)] {
        let name = names.iter().find(|name| name.contains(part));
        let name = name.ok_or_else(|| anyhow!("Debian's source of {} has no {part}xz", SOURCE.0))?;
        let mut tar = Command::new("tar");
        tar.args(["-x", "--no-same-owner", &format!("--strip-components={stripped}"), "-C"]).arg(source);
        tool::logged(tar.arg("-f").arg(work.join(name)), &log)
            .with_context(|| format!("cannot unpack {name}"))?;
        let before = name.split_once(part).and_then(|(before, _)| before.split_once('_'));
        version = version.or(before.map(|(_, version)| version.to_owned()));
    }
    let version = version.ok_or_else(|| anyhow!("Debian's source of {} names no version", SOURCE.0))?;
    let inside = format!("{}/go/src/{}", chroot::WORK, SOURCE.1);
    for name in patches(source)? {
        let mut patch = chroot::command(root, Some(work), "/usr/bin/patch");
        patch.args(["--strip=1", "--batch", "--directory", &inside]);
        patch.arg(format!("--input={inside}/debian/patches/{name}"));
        tool::logged(&mut patch, &log).with_context(|| format!("Debian's {name} does not apply"))?;
    }
    // Libraries that Debian has not packaged, where Go looks for them.
    fs::rename(source.join("debian/vendor"), source.join("vendor")).context("cannot move debian/vendor")?;
    for (name, text) in [CONVENTIONS, PLUGINS] {
        let path = source.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(version)
}

/// The names of Debian's patches in their order, but for the one.
fn patches(source: &Path) -> Result<Vec<String>> {
    let path = source.join("debian/patches/series");
    let series = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let all = || series.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    if !all().any(|name| name.ends_with(LEFT_OUT)) {
        return Err(anyhow!(
            "Debian's patches have no …{LEFT_OUT} any more: if its Prometheus has the receiver now, judge that one"
        ));
    }
    Ok(all().filter(|name| !name.ends_with(LEFT_OUT)).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_debians_patches_one_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let series = |text: &str| {
            fs::create_dir_all(dir.path().join("debian/patches")).unwrap();
            fs::write(dir.path().join("debian/patches/series"), text).unwrap();
            patches(dir.path())
        };
        let all = "# comment\n0001-a.patch\n0019-Disable-OTLP-Ingestion-endpoint.patch\n\n0020-b.patch\n";
        assert_eq!(series(all).unwrap(), ["0001-a.patch", "0020-b.patch"]);
        let error = series("0001-a.patch\n").unwrap_err().to_string();
        assert!(error.contains("any more"), "{error}");
    }
}
