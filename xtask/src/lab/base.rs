//! The base: Debian's files for the guest, and the kernel's sources of what Debian leaves out.
//!
//! Packages are unpacked, not installed: no maintainer script runs, no right is needed, and all cores work.
//! What the scripts would have made, and the guest needs, is listed here.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, anyhow};

use super::chroot;
use super::release::Release;
use super::tree::Tree;
use crate::cache::{Cache, Key};
use crate::debian::{Apt, Deb, Mirror};
use crate::ui::Step;
use crate::{tool, workspace};

/// Changes when what is done to the packages does.
const RECIPE: &str = "unpacked 1";

/// Parts of packages that a guest has no use for.
const LEFT_OUT: [&str; 4] =
    ["./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./usr/share/bash-completion"];

/// What the kernel's sources are taken for, relative to their root.
const SOURCES: [&str; 5] = [
    "drivers/iommu/iommufd",
    "drivers/iommu/iommu-priv.h",
    "drivers/iommu/iommu-pages.h",
    "drivers/vfio",
    "lib/interval_tree.c",
];

/// Files that maintainer scripts would have made.
const FILES: [(&str, &str); 5] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost lab\n::1 localhost\n"),
    ("etc/hostname", "lab\n"),
    ("root/.bashrc", "PS1='lab \\w \\$ '\n"),
];
const LINKS: [(&str, &str); 2] = [("usr/bin/awk", "gawk"), ("etc/mtab", "../proc/self/mounts")];
/// Mount points, because the share is read-only where an overlay is not above it.
const FOLDERS: [&str; 5] = ["lab/build", "dev", "proc", "sys", "root"];

/// A complete base.
pub(crate) struct Base {
    dir: PathBuf,
    pub(super) release: Release,
    pub(super) key: Key,
}

impl Base {
    /// The guest's root.
    pub(super) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// The kernel sources of [`SOURCES`].
    pub(super) fn sources(&self) -> PathBuf {
        self.dir.join("sources")
    }

    /// The guest's folder of kernel modules, from its root.
    fn kernel_dir(&self) -> PathBuf {
        Path::new("usr/lib/modules").join(&self.release.kernel)
    }

    /// Its kernel's files.
    pub(super) fn tree(&self) -> Tree {
        let modules = self.root().join(self.kernel_dir());
        let in_guest = Some(format!("/{}", self.kernel_dir().display()));
        Tree { image: modules.join("vmlinuz"), modules, in_guest, share: None }
    }
}

/// The base of the kept release, or of the newest where none is kept or `update` is asked for.
pub(super) fn ensure(cache: &Cache, mirror: &Mirror, update: bool) -> Result<Base> {
    let tools = tools()?;
    if let Some(release) = Release::kept(cache).filter(|_| !update) {
        let key = key(&release, &tools);
        if let Some(dir) = cache.get("base", &key) {
            return Ok(Base { dir, release, key });
        }
    }
    let _lock = cache.lock("apt")?;
    let apt = Apt::open(cache, mirror)?;
    apt.update()?;
    let kept = Release::kept(cache).filter(|kept| !update && apt.plan(&kept.packages()).is_ok());
    let release = kept.map_or_else(|| Release::find(cache, &apt), Ok)?;
    let key = key(&release, &tools);
    let dir = cache.entry("base", &key, |dir| fill(cache, &apt, &release, &tools, dir))?;
    Ok(Base { dir, release, key })
}

fn key(release: &Release, tools: &[String]) -> Key {
    Key::default()
        .with("recipe", RECIPE)
        .with("kernel", &release.kernel)
        .with("version", &release.version)
        .with("tools", tools.join(" "))
}

/// `lab/packages.txt`: one package a line, `#` to the line's end is a comment.
fn tools() -> Result<Vec<String>> {
    let path = workspace::root().join("lab/packages.txt");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let names = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    Ok(names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn fill(cache: &Cache, apt: &Apt, release: &Release, tools: &[String], dir: &Path) -> Result<()> {
    let packages: Vec<String> = release.packages().into_iter().chain(tools.iter().cloned()).collect();
    let plan = apt.fetch("base", &packages)?;
    let step = Step::begin("base", "unpacking");
    let root = dir.join("root");
    fs::create_dir(&root).with_context(|| format!("cannot make {}", root.display()))?;
    merge_usr(&root)?;
    unpack_all(cache, apt, plan, &root, &|deb, log| {
        let sources = deb.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&release.source));
        sources.then(|| unpack_sources(deb, release, dir, log))
    })?;
    finish(&root)?;
    let mut depmod = chroot::command(&root, None, "/usr/sbin/depmod");
    tool::logged(depmod.arg(&release.kernel), &cache.log("depmod"))?;
    apt.clean()?;
    step.done();
    Ok(())
}

/// The links of Debian's merged /usr.
pub(crate) fn merge_usr(root: &Path) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        let merged = Path::new("usr").join(name);
        fs::create_dir_all(root.join(&merged))
            .with_context(|| format!("cannot make {}", merged.display()))?;
        symlink(&merged, root.join(name)).with_context(|| format!("cannot link {name}"))?;
    }
    Ok(())
}

/// Unpacks a plan into `root` on all cores.
pub(crate) fn unpack_in(cache: &Cache, apt: &Apt, plan: Vec<Deb>, root: &Path) -> Result<()> {
    unpack_all(cache, apt, plan, root, &|_, _| None)
}

/// What is unpacked otherwise than into the root.
type Special<'a> = dyn Fn(&Path, &Path) -> Option<Result<()>> + Sync + 'a;

/// Unpacks a plan on all cores, the longest jobs first.
fn unpack_all(
    cache: &Cache,
    apt: &Apt,
    mut plan: Vec<Deb>,
    root: &Path,
    special: &Special<'_>,
) -> Result<()> {
    plan.sort_by_key(|deb| deb.size);
    let queue = Mutex::new(plan);
    let work = |worker: usize| -> Result<()> {
        let log = cache.log(&format!("unpack-{worker}"));
        loop {
            let next = queue.lock().map_err(|_| anyhow!("another unpacking thread panicked"))?.pop();
            let Some(deb) = next else { return Ok(()) };
            let file = apt.archives().join(&deb.file);
            match special(&file, &log) {
                Some(done) => done?,
                None => unpack(&file, root, &log)?,
            }
        }
    };
    let work = &work;
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let running: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        running.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("unpacking panicked"))?)
    })
}

fn unpack(deb: &Path, root: &Path, log: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["-x", "--no-same-owner", "--keep-directory-symlink", "-C"]).arg(root);
    tar.args(LEFT_OUT.map(|path| format!("--exclude={path}")));
    tool::piped(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(deb), &mut tar, log)
        .with_context(|| format!("cannot unpack {}", deb.display()))
}

/// The package holds one tar.xz of 1.6 GiB, of which little is wanted.
fn unpack_sources(deb: &Path, release: &Release, dir: &Path, log: &Path) -> Result<()> {
    let inner = format!("./usr/src/{}.tar.xz", release.source);
    let mut tar = Command::new("tar");
    tar.args(["-x", "--no-same-owner", "-C"]).arg(dir).arg(&inner);
    tool::piped(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(deb), &mut tar, log)?;
    let archive = dir.join(&inner);
    let sources = dir.join("sources");
    fs::create_dir(&sources).with_context(|| format!("cannot make {}", sources.display()))?;
    let mut tar = Command::new("tar");
    tar.args(["-x", "--no-same-owner", "--strip-components=1", "-C"]).arg(&sources);
    tar.args(SOURCES.map(|path| format!("{}/{path}", release.source)));
    let mut xz = Command::new("xz");
    xz.args(["--decompress", "--stdout", "--threads=0"]).arg(&archive);
    tool::piped(&mut xz, &mut tar, log).context("cannot unpack the kernel's sources")?;
    fs::remove_dir_all(dir.join("usr")).context("cannot remove the sources' archive")
}

fn finish(root: &Path) -> Result<()> {
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder)).with_context(|| format!("cannot make {folder}"))?;
    }
    for (name, text) in FILES {
        fs::write(root.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    for (name, target) in LINKS {
        let link = root.join(name);
        if !link.is_symlink() {
            symlink(target, link).with_context(|| format!("cannot link {name}"))?;
        }
    }
    Ok(())
}
