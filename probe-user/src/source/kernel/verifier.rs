//! What the verifier says of a program that it refuses: into a file of its own, which the error names.
//!
//! It is hundreds of lines that only who builds the programs can read, so no terminal gets them.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aya::programs::ProgramError;

use super::SourceError;

/// Files of one name that are left alone before it is given up.
const MOST: u32 = 100;

/// Why the kernel refused a program.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("{error}")]
    Silent { error: io::Error },
    #[error("{error}; the verifier's log is in {}", path.display())]
    Kept { error: io::Error, path: PathBuf },
    #[error("{error}; the verifier's log could not be kept: {why}")]
    Lost { error: io::Error, why: io::Error },
}

impl Refused {
    /// An error of loading a program, and what the verifier said of it.
    pub(super) fn new(program: &str, error: io::Error, log: &str) -> Self {
        if log.trim().is_empty() {
            return Self::Silent { error };
        }
        match keep(&std::env::temp_dir(), program, log) {
            Ok(path) => Self::Kept { error, path },
            Err(why) => Self::Lost { error, why },
        }
    }

    /// The error number, where it is the kernel's.
    pub(super) fn errno(&self) -> Option<i32> {
        let (Self::Silent { error } | Self::Kept { error, .. } | Self::Lost { error, .. }) = self;
        error.raw_os_error()
    }
}

/// The error of a program that aya loads.
pub(super) fn refused(program: &'static str) -> impl Fn(ProgramError) -> SourceError {
    move |error| {
        let source: Box<dyn std::error::Error + Send + Sync> = match error {
            ProgramError::LoadError { io_error, verifier_log } => {
                Box::new(Refused::new(program, io_error, &verifier_log.to_string()))
            }
            other => Box::new(other),
        };
        SourceError::Program { program, source }
    }
}

/// A new file for its owner alone, never through a link.
fn keep(folder: &Path, program: &str, log: &str) -> io::Result<PathBuf> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let process = std::process::id();
    let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
    for number in 0..MOST {
        let path = folder.join(format!("iovascope-verifier-{program}-{process}-{number}.log"));
        let mut options = OpenOptions::new();
        match options.write(true).create_new(true).mode(0o600).custom_flags(no_follow).open(&path) {
            Ok(mut file) => return file.write_all(log.as_bytes()).map(|()| path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
            Err(error) => return Err(error),
        }
    }
    Err(taken)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_log_goes_into_a_new_file_of_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [0, 1].map(|_| keep(folder.path(), "get_phys_both", "line\nverdict\n").unwrap());
        assert_ne!(paths[0], paths[1]);
        for path in paths {
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "line\nverdict\n");
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(keep(Path::new("/nowhere"), "get_phys_both", "line").is_err());
    }

    #[test]
    fn a_refusal_without_a_log_names_no_file() {
        let refused = Refused::new("get_phys_both", io::Error::from_raw_os_error(1), "\n");
        assert_eq!(refused.errno(), Some(1));
        assert!(!refused.to_string().contains("log"), "{refused}");
    }
}
