//! A recorder in the background.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Stdio};
use std::time::{Duration, Instant};

use probe_model::sample::Counters;
use rustix::process::{Pid, Signal, kill_process};

use crate::guest;

/// A recorder whose words can be waited for.
pub(crate) struct Recorder {
    child: Child,
    said: BufReader<ChildStderr>,
    file: PathBuf,
}

impl Recorder {
    /// Start it; it counts when this returns.
    pub(crate) fn start(name: &str, options: &[&str]) -> Self {
        let file = guest::file(format!("{name}.iova"));
        let mut command = guest::iovascope(&["record", "-i", "100ms", "-o"]);
        let mut child = command.arg(&file).args(options).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        // The header is written when counting has begun.
        let deadline = Instant::now() + Duration::from_mins(1);
        while !guest::begun(&file) {
            assert!(Instant::now() < deadline, "the recorder did not begin");
        }
        Self { child, said, file }
    }

    /// Wait until it says something with `words` in it.
    pub(crate) fn says(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert_ne!(self.said.read_line(&mut line).unwrap(), 0, "it ended without saying {words:?}");
        }
    }

    /// End it in order: its exit status, and everything that it counted.
    pub(crate) fn end(mut self) -> (Option<i32>, Counters) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let status = self.child.wait().unwrap();
        (status.code(), guest::counters_of(&self.file))
    }
}

/// A test that fails does not leave its recorder behind to be seen by the next ones.
impl Drop for Recorder {
    fn drop(&mut self) {
        // One that has ended is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
