//! A run's own folder in the cache, gone when the run is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cache::Cache;

/// A run that was killed leaves its folder; no run lasts this long.
const STALE: Duration = Duration::from_hours(24);

static COUNT: AtomicU32 = AtomicU32::new(0);

pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(cache: &Cache) -> Result<Self> {
        let runs = cache.folder("runs")?;
        for entry in fs::read_dir(&runs).into_iter().flatten().flatten() {
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age > STALE) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let dir = runs.join(format!("{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        // A folder of the same name is a killed run's, whose number came round again.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self(dir))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
