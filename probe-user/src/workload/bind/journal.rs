//! What was before: looked up, and kept in `/run/iovascope` while it is not so.
//!
//! The file appears complete or not at all, before the first change; while its writer lives, it is locked.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::exit::CannotRun;

use super::{BindError, PARAMETER, folder, read};

const FOLDER: &str = "run/iovascope";
const FILE: &str = "load.json";

/// The state of the machine as far as a binding changes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Before {
    /// As sysfs writes it: `0000:00:05.0`.
    pub(super) address: String,
    pub(super) driver: Option<String>,
    /// `(null)` for none.
    pub(super) driver_override: String,
    /// `Y` or `N`; `None` where vfio has no such parameter.
    pub(super) unsafe_mode: Option<String>,
}

impl Before {
    pub(super) fn look(root: &Path, address: &str) -> Result<Self, BindError> {
        let device = folder(root, address);
        // The address becomes part of paths.
        let plain = address.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte));
        if !plain || address.is_empty() || address.contains("..") || !device.is_dir() {
            return Err(BindError::CannotRun(CannotRun {
                what: format!("cannot bind {address}"),
                why: "there is no such PCI device".to_owned(),
                remedy: "name one as `lspci -D` does: 0000:00:05.0".to_owned(),
            }));
        }
        let driver = fs::read_link(device.join("driver")).ok();
        Ok(Self {
            address: address.to_owned(),
            driver: driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())),
            driver_override: read(device.join("driver_override"))?,
            unsafe_mode: read(root.join(PARAMETER)).ok(),
        })
    }

    pub(super) fn is_unsafe(&self) -> bool {
        matches!(self.unsafe_mode.as_deref(), Some("Y" | "1"))
    }
}

/// A state that is to come back.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) before: Before,
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Journal {
    /// Write down what is, before the first change.
    pub(super) fn begin(root: &Path, before: Before) -> Result<Self, BindError> {
        let folder = private_folder(root)?;
        let (path, draft) = (folder.join(FILE), folder.join(format!("{FILE}.new")));
        let io = |operation| {
            let path = path.clone();
            move |source| BindError::Io { operation, path, source }
        };
        if path.exists() {
            return Err(pending(&path));
        }
        // Only a killed writer leaves one, before it changed anything.
        let _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .map_err(io("creating"))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| io("locking")(errno.into()))?;
        let text = serde_json::to_vec(&before).map_err(io::Error::other).map_err(io("writing"))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(io("writing"))?;
        fs::rename(&draft, &path).map_err(io("creating"))?;
        Ok(Self { before, path, _file: file })
    }

    /// The one that a killed run left.
    pub(super) fn left_behind(root: &Path) -> Result<Option<Self>, BindError> {
        let path = root.join(FOLDER).join(FILE);
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(BindError::Io { operation: "opening", path, source }),
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(BindError::CannotRun(CannotRun {
                what: "cannot restore".to_owned(),
                why: format!("the run that wrote {} is still alive", path.display()),
                remedy: "end it: it restores by itself".to_owned(),
            }));
        }
        let text = io::read_to_string(&file).map_err(|source| BindError::Io {
            operation: "reading",
            path: path.clone(),
            source,
        })?;
        let before = serde_json::from_str(&text)
            .map_err(|source| BindError::Journal { path: path.clone(), source })?;
        Ok(Some(Self { before, path, _file: file }))
    }

    /// Everything is as it was.
    pub(super) fn end(self) -> Result<(), BindError> {
        let path = self.path;
        fs::remove_file(&path).map_err(|source| BindError::Io { operation: "removing", path, source })
    }
}

fn pending(path: &Path) -> BindError {
    BindError::CannotRun(CannotRun {
        what: "cannot bind a device".to_owned(),
        why: format!("{} says that an earlier run was killed, or is still alive", path.display()),
        remedy: "`iovascope load --restore`, then again".to_owned(),
    })
}

/// A folder that nobody else can write to.
fn private_folder(root: &Path) -> Result<PathBuf, BindError> {
    let path = root.join(FOLDER);
    let io = |operation| {
        let path = path.clone();
        move |source| BindError::Io { operation, path, source }
    };
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io("creating")(error)),
        _ => {}
    }
    let found = fs::symlink_metadata(&path).map_err(io("looking at"))?;
    let ours =
        found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if !ours {
        let strange = io::Error::other("it is no folder of this user's alone");
        return Err(io("trusting")(strange));
    }
    Ok(path)
}
