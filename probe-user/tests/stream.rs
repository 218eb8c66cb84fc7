//! A recording on stdin: who writes it is told when nobody reads any more. Needs no kernel but this one, and
//! util-linux's `script` for a terminal.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// Far longer than anything here takes: reaching it is a failure.
const DEADLINE: Duration = Duration::from_mins(1);

#[test]
fn a_damaged_stream_is_closed_while_the_dashboard_stays() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let program = env!("CARGO_BIN_EXE_iovascope");
    let inside = format!("stty rows 30 cols 120; exec {program} replay - < {}", pipe.display());
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--command", &inside, "/dev/null"])
        .env("TERM", "xterm-256color")
        .env("HOME", folder.path())
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_STATE_HOME")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stream = File::options().write(true).open(&pipe).unwrap();
    let whole = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/mixed.iova")).unwrap();
    // Three whole frames (docs/recording.md), then what can be none.
    let frame = |begin: usize| {
        begin + 12 + u32::from_le_bytes(whole[begin + 4..begin + 8].try_into().unwrap()) as usize
    };
    let mut damaged = whole[..frame(frame(frame(8)))].to_vec();
    damaged.extend([0xff; 64]);
    stream.write_all(&damaged).unwrap();
    let timeout = Timespec::try_from(DEADLINE).unwrap();
    // A pipe without a reader is an error to its writer; asking for nothing else waits for that alone.
    let mut closed = [PollFd::new(&stream, PollFlags::empty())];
    assert_eq!(poll(&mut closed, Some(&timeout)).unwrap(), 1, "the stream is still open");
    assert!(closed[0].revents().contains(PollFlags::ERR));
    // The dashboard is still there, and takes keys from its terminal.
    terminal.stdin.take().unwrap().write_all(b"q").unwrap();
    assert!(terminal.wait().unwrap().success());
}
