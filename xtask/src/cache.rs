//! The cache: folders named by the content of what they were made from, finished or absent.
//!
//! `ROOT/KIND/KEY`. An entry is made in a sibling and renamed when it is complete, under a lock of its
//! kind, so an interrupted or a second xtask never sees half of one. Refuses to know what entries hold.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{env, fmt};

use anyhow::{Context, Result, anyhow};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::ui;

/// Entries not used for this long are removed when another of their kind is made.
const KEEP: Duration = Duration::from_hours(14 * 24);
const PARTIAL: &str = ".partial";

/// What an entry was made from.
#[derive(Default, Clone)]
pub(crate) struct Key(Sha256);

impl Key {
    /// Adds one input. Label and length go in too, so no two lists of inputs can look the same.
    pub(crate) fn with(mut self, label: &str, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.update(format!("{label}\0{}\0", bytes.len()));
        self.0.update(bytes);
        self
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.clone().finalize()[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[derive(Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$IOVASCOPE_CACHE`, else `$XDG_CACHE_HOME/iovascope`, else `~/.cache/iovascope`.
    pub(crate) fn open() -> Result<Self> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = set("IOVASCOPE_CACHE")
            .or_else(|| Some(set("XDG_CACHE_HOME")?.join("iovascope")))
            .or_else(|| Some(set("HOME")?.join(".cache/iovascope")))
            .ok_or_else(|| anyhow!("no place for the cache: set HOME or IOVASCOPE_CACHE"))?;
        Self::at(&root)
    }

    fn at(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("cannot make the cache {}", root.display()))?;
        let root = root.canonicalize().with_context(|| format!("cannot find {}", root.display()))?;
        Ok(Self { root })
    }

    /// A folder for state that is not an entry.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let dir = self.root.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(dir)
    }

    /// Where the log of a step goes.
    pub(crate) fn log(&self, step: &str) -> PathBuf {
        self.root.join("logs").join(format!("{step}.log"))
    }

    /// The entry, if it is complete.
    pub(crate) fn get(&self, kind: &str, key: &Key) -> Option<PathBuf> {
        let path = self.root.join(kind).join(key.to_string());
        path.is_dir().then(|| {
            touch(&path);
            path
        })
    }

    /// The entry, made by `fill` in the folder it is given if it is not there yet.
    pub(crate) fn entry(
        &self,
        kind: &str,
        key: &Key,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        if let Some(found) = self.get(kind, key) {
            return Ok(found);
        }
        let _lock = self.lock(kind)?;
        if let Some(found) = self.get(kind, key) {
            return Ok(found);
        }
        let dir = self.folder(kind)?;
        prune(&dir);
        let partial = dir.join(format!("{key}{PARTIAL}"));
        fs::create_dir(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
        fill(&partial)?;
        let path = dir.join(key.to_string());
        fs::rename(&partial, &path).with_context(|| format!("cannot finish {}", path.display()))?;
        Ok(path)
    }

    /// A lock between all checkouts that use the cache.
    pub(crate) fn lock(&self, name: &str) -> Result<File> {
        lock(&self.folder("locks")?, name)
    }
}

/// A lock of a name in a folder. Held until dropped; waits for another xtask that has it.
pub(crate) fn lock(folder: &Path, name: &str) -> Result<File> {
    let path = folder.join(name);
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        ui::say(format!("[{name}] another xtask is at it; waiting"));
        flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// The time of the last use is the folder's own; failing to note it only brings its removal closer.
fn touch(path: &Path) {
    if let Ok(dir) = File::open(path) {
        let _ = dir.set_times(FileTimes::new().set_modified(SystemTime::now()));
    }
}

/// The caller holds the kind's lock, so whatever is partial is dead. A folder that cannot be removed now
/// is tried again next time.
fn prune(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        let dead = path.extension() == Some(OsStr::new(&PARTIAL[1..]));
        if dead || age.is_some_and(|age| age > KEEP) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn scratch() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        (dir, cache)
    }

    #[test]
    fn an_entry_is_made_once() {
        let (_dir, cache) = scratch();
        let key = Key::default().with("a", "1");
        let made = cache.entry("kind", &key, |dir| Ok(fs::write(dir.join("f"), "x")?)).unwrap();
        let again = cache.entry("kind", &key, |_| bail!("made twice")).unwrap();
        assert_eq!((made.clone(), "x"), (again, fs::read_to_string(made.join("f")).unwrap().as_str()));
    }

    #[test]
    fn a_failed_entry_is_absent_and_can_be_made_again() {
        let (_dir, cache) = scratch();
        let key = Key::default();
        let failed = cache.entry("kind", &key, |dir| {
            fs::write(dir.join("half"), "")?;
            bail!("no")
        });
        assert!(failed.is_err() && cache.get("kind", &key).is_none());
        let made = cache.entry("kind", &key, |_| Ok(())).unwrap();
        assert!(!made.join("half").exists());
    }

    #[test]
    fn an_entry_that_nobody_used_goes_when_another_is_made() {
        let (_dir, cache) = scratch();
        let [old, used, new] = ["old", "used", "new"].map(|n| Key::default().with("n", n));
        let paths = [&old, &used].map(|key| cache.entry("kind", key, |_| Ok(())).unwrap());
        for path in &paths {
            let times = FileTimes::new().set_modified(SystemTime::now() - 2 * KEEP);
            File::open(path).unwrap().set_times(times).unwrap();
        }
        assert!(cache.get("kind", &used).is_some());
        cache.entry("kind", &new, |_| Ok(())).unwrap();
        assert!(!paths[0].exists() && paths[1].exists());
    }

    #[test]
    fn inputs_cannot_run_into_each_other() {
        let key =
            |parts: &[(&str, &str)]| parts.iter().fold(Key::default(), |k, (l, v)| k.with(l, v)).to_string();
        assert_ne!(key(&[("a", "bc")]), key(&[("ab", "c")]));
        assert_ne!(key(&[("a", "b"), ("c", "d")]), key(&[("a", "bc"), ("", "d")]));
        assert_eq!(key(&[]).len(), 16);
    }
}
