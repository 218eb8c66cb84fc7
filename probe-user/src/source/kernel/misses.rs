//! Calls that the kernel did not show to our programs, by the kernel's own counters.
//!
//! `missed:` in the fdinfo of a perf-event or kprobe-multi link, and `recursion_misses:` in the fdinfo of a program
//! (kernel/bpf/syscall.c, Linux 7.3). Both count always; reading them on our own descriptors needs no
//! right.

use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::SourceError;

/// Misses of one site since its programs were attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Misses {
    /// Entries.
    pub(super) entry: u64,
    /// Returns for which the kernel had no room.
    pub(super) exit: u64,
    /// Returns that found the return program running on their CPU.
    pub(super) exit_recursion: u64,
    /// Entries or returns that found the program of both running on their CPU.
    pub(super) either: u64,
    /// Entries or returns of a kprobe session: one at the entry hides the call's return too.
    pub(super) call: u64,
}

impl Misses {
    /// Misses between `older` and `self`, of all kinds.
    pub(super) fn distance(&self, older: &Self) -> u64 {
        self.entry.saturating_sub(older.entry)
            + self.exit.saturating_sub(older.exit)
            + self.exit_recursion.saturating_sub(older.exit_recursion)
            + self.either.saturating_sub(older.either)
            + self.call.saturating_sub(older.call)
    }

    /// Misses of all kinds.
    pub(super) fn sum(&self) -> u64 {
        self.distance(&Self::default())
    }

    /// The misses of a recording whose counting of new calls ended with `self` and whose last ones are `now`,
    /// when `due` counted calls had not come back. What was missed in between and hit none of those hit calls
    /// that were not to be counted.
    pub(super) fn closed_by(self, now: Self, due: u64) -> Self {
        let until = |last: u64, now: u64| last + now.saturating_sub(last).min(due);
        Self {
            entry: self.entry,
            exit: self.exit,
            exit_recursion: until(self.exit_recursion, now.exit_recursion),
            call: until(self.call, now.call),
            ..now
        }
    }
}

/// A program's runs and their time by the kernel's statistics, 0 while these are off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RunTime {
    pub(super) runs: u64,
    pub(super) nanos: u64,
}

impl RunTime {
    fn of(fdinfo: &str) -> Option<Self> {
        Some(Self { runs: value(fdinfo, "run_cnt")?, nanos: value(fdinfo, "run_time_ns")? })
    }
}

/// The run time of a program of ours.
pub(super) fn run_time(program: BorrowedFd<'_>) -> Result<RunTime, SourceError> {
    let (path, text) = fdinfo_of(program)?;
    RunTime::of(&text).ok_or(SourceError::NoRunTime { path })
}

fn fdinfo_of(descriptor: BorrowedFd<'_>) -> Result<(PathBuf, String), SourceError> {
    let path = PathBuf::from(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd()));
    match fs::read_to_string(&path) {
        Ok(text) => Ok((path, text)),
        Err(source) => Err(SourceError::File { path, source }),
    }
}

/// Calls that a kprobe-multi link of ours missed.
pub(super) fn link_missed(link: BorrowedFd<'_>, site: &'static str) -> Result<u64, SourceError> {
    let (_, text) = fdinfo_of(link)?;
    value(&text, "missed").ok_or(SourceError::NoMissCounter { site, field: "missed" })
}

/// The recursion misses of a program of ours.
pub(super) fn recursion_misses(program: BorrowedFd<'_>, site: &'static str) -> Result<u64, SourceError> {
    const FIELD: &str = "recursion_misses";
    let (_, text) = fdinfo_of(program)?;
    value(&text, FIELD).ok_or(SourceError::NoMissCounter { site, field: FIELD })
}

/// The texts of `/proc/self/fdinfo` that speak of BPF.
pub(super) struct FdInfo(Vec<String>);

impl FdInfo {
    pub(super) fn of_this_process() -> Result<Self, SourceError> {
        let path = Path::new("/proc/self/fdinfo");
        let failed = |source: io::Error| SourceError::File { path: path.to_owned(), source };
        let mut texts = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            // A descriptor may be closed meanwhile, the one of this listing among them.
            if let Ok(text) = fs::read_to_string(entry.map_err(failed)?.path())
                && text.contains("prog_id:")
            {
                texts.push(text);
            }
        }
        Ok(Self(texts))
    }

    /// Of a perf-event link by its id.
    pub(super) fn missed(&self, link: u32, site: &'static str) -> Result<u64, SourceError> {
        self.counter(("link_id", link), "missed", site)
    }

    /// Of a program by its id.
    pub(super) fn recursion_misses(&self, program: u32, site: &'static str) -> Result<u64, SourceError> {
        self.counter(("prog_id", program), "recursion_misses", site)
    }

    /// Runs and run time of a program by its id.
    pub(super) fn run_time(&self, program: u32, site: &'static str) -> Result<RunTime, SourceError> {
        let of_program = |text: &&String| value(text, "prog_id") == Some(u64::from(program));
        self.0
            .iter()
            .filter(of_program)
            .find_map(|text| RunTime::of(text))
            .ok_or(SourceError::NoMissCounter { site, field: "run_time_ns" })
    }

    fn counter(
        &self,
        (key, id): (&str, u32),
        field: &'static str,
        site: &'static str,
    ) -> Result<u64, SourceError> {
        self.0
            .iter()
            .filter(|text| value(text, key) == Some(u64::from(id)))
            .find_map(|text| value(text, field))
            .ok_or(SourceError::NoMissCounter { site, field })
    }
}

/// The number after `key:` at the beginning of a line.
fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "pos:\t0\nlink_type:\tperf\nlink_id:\t7\nprog_tag:\t00\nprog_id:\t12\n\
                        name:\tiopt_get_phys\noffset:\t0x0\nmissed:\t48\naddr:\t0x0\nevent_type:\tkretprobe\n";
    const PROGRAM: &str = "pos:\t0\nprog_type:\t2\nprog_id:\t12\nrun_cnt:\t0\nrecursion_misses:\t3\n";

    #[test]
    fn counters_are_found_by_id() {
        let info = FdInfo(vec![LINK.to_owned(), PROGRAM.to_owned()]);
        assert_eq!(info.counter(("link_id", 7), "missed", "get_phys").unwrap(), 48);
        assert_eq!(info.counter(("prog_id", 12), "recursion_misses", "get_phys").unwrap(), 3);
        assert!(info.counter(("link_id", 8), "missed", "get_phys").is_err());
    }

    #[test]
    fn a_kernel_without_the_counter_is_an_error_and_not_a_zero() {
        let info = FdInfo(vec![LINK.replace("missed:\t48\n", "")]);
        assert!(matches!(
            info.counter(("link_id", 7), "missed", "get_phys"),
            Err(SourceError::NoMissCounter { field: "missed", .. })
        ));
    }
}
