//! Servers that end with their test: iovascope's own, and those of other people.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::tool;

/// Ends with the test.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The body of an answer with status 200.
pub(crate) fn get(url: &str) -> Option<String> {
    ureq::get(url).call().ok()?.body_mut().read_to_string().ok()
}

/// Asks until there is an answer.
pub(crate) fn until<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not while there was patience: {what}");
        std::thread::yield_now();
    }
}

/// `iovascope serve` of a recording; where its metrics are.
pub(crate) fn serve(recording: &Path, options: &[&str]) -> (Process, String) {
    let mut command = tool::iovascope(&["serve", "--listen", "127.0.0.1:0", "--processes", "5"]);
    let mut child = command.args(options).arg(recording).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    let url = said.trim().rsplit(' ').next().unwrap().to_owned();
    assert!(url.ends_with("/metrics"), "{said}");
    (Process(child), url)
}

/// The address and port in `http://ADDRESS:PORT/metrics`.
pub(crate) fn address(url: &str) -> &str {
    url.split("//").nth(1).and_then(|rest| rest.strip_suffix("/metrics")).unwrap()
}

/// Start a server that chooses its port itself; its address, which it logs after these words of one line.
pub(crate) fn start(command: &mut Command, folder: &Path, after: [&str; 2]) -> (Process, String) {
    let path = folder.join("log");
    let log = fs::File::create(&path).unwrap();
    let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let process = Process(child);
    let address = until(&format!("{command:?} says where it listens"), || {
        let text = fs::read_to_string(&path).unwrap();
        // A line is written whole or not yet.
        let line = text.split_once(after[0])?.1.split_once('\n')?.0;
        let address = line.split_once(after[1])?.1;
        Some(address.split([' ', '/']).next()?.to_owned())
    });
    (process, address)
}
