//! `serve` that counts: what a scraper is told is what the driver did, and a recording is made of the same
//! probes.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::guest::{self, Counts};

/// The best; what every backend counts is tested with `record`, by the same source.
const BACKEND: &str = "fsession";

/// A server that counts.
struct Server {
    child: Child,
    said: BufReader<ChildStderr>,
    url: String,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        let mut command = guest::iovascope(&["serve", "--listen", "127.0.0.1:0"]);
        let mut child = command.args(options).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let url = line.trim().rsplit(' ').next().unwrap().to_owned();
        assert!(url.ends_with("/metrics"), "{line}");
        let server = Self { child, said, url };
        // The endpoint is there before the probes are.
        server.until("it counts", |text| text.contains("\niovascope_complete 1\n"));
        server
    }

    fn scrape(&self) -> String {
        ureq::get(&self.url).call().unwrap().body_mut().read_to_string().unwrap()
    }

    /// Scrapes until there is what is waited for.
    fn until(&self, what: &str, is_it: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + Duration::from_mins(2);
        loop {
            let text = self.scrape();
            if is_it(&text) {
                break;
            }
            assert!(Instant::now() < deadline, "not while there was patience: {what}\n{text}");
        }
    }

    /// Ends it as systemd does; its exit status and what it said.
    fn end(mut self) -> (Option<i32>, String) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

/// A server that is left behind would count beside the next test, and call.
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls by command and outcome, as metrics tell them.
fn scraped(text: &str) -> Counts {
    let mut counts = Counts::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let Some((name, labels)) = series.strip_suffix('}').and_then(|series| series.split_once('{')) else {
            continue;
        };
        // Words and errnos: no comma is in them.
        let label = |wanted: &str| {
            let labels = labels.split(',').filter_map(|label| label.split_once('='));
            labels.filter(|(name, _)| *name == wanted).map(|(_, value)| value.trim_matches('"')).next()
        };
        let outcome = match name {
            "iovascope_ioctl_duration_seconds_count" => label("outcome").filter(|&outcome| outcome == "ok"),
            "iovascope_ioctl_errors_total" => label("errno"),
            _ => None,
        };
        let Some(outcome) = outcome else { continue };
        let count: u64 = value.parse().unwrap();
        if count > 0 {
            counts.insert((label("command").unwrap().to_owned(), outcome.to_owned()), count);
        }
    }
    counts
}

/// Programs of ours that are loaded, by name.
fn programs() -> Vec<String> {
    let shown = guest::succeed(Command::new("bpftool").args(["--json", "prog", "show"]));
    let all: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let ours = all.as_array().unwrap().iter();
    let ours = ours.filter(|program| program["type"] == "kprobe" || program["type"] == "tracing");
    let mut names: Vec<_> = ours.map(|program| program["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_scraped_is_what_was_driven() {
    let recorder = guest::Running::begin(BACKEND, "beside-serve");
    let alone = programs();
    recorder.end();
    guest::nothing_left();
    assert!(!alone.is_empty());

    let path = guest::file("served.iova");
    let options = ["--backend", BACKEND, "-i", "100ms", "-o", path.to_str().unwrap()];
    let server = Server::start(&options);
    assert_eq!(programs(), alone, "a server that records has a recorder's probes, once");
    let result = guest::file("served.load.json");
    let mut load = guest::iovascope(&["load", "--json", "--size", "1M", "--count", "5000"]);
    load.args(["--errors", "unmapped=7,zero-length=5,flags=2", "-o"]).arg(&result);
    let mut load = load.spawn().unwrap();
    let mut before = Counts::new();
    // Scraped while the load runs, counts only grow.
    let status = loop {
        let now = scraped(&server.scrape());
        for (series, count) in &before {
            assert!(now.get(series) >= Some(count), "{series:?}: {count}, then {now:?}");
        }
        before = now;
        if let Some(status) = load.try_wait().unwrap() {
            break status;
        }
    };
    assert!(status.success(), "{status}");
    let load: Value = serde_json::from_slice(&fs::read(&result).unwrap()).unwrap();
    let driven = guest::driven(&load);
    assert!(driven.len() > 5, "{driven:?}");
    server.until(&format!("the counts are the driver's: {driven:?}"), |text| scraped(text) == driven);

    let (status, said) = server.end();
    assert_eq!(status, Some(0), "{said}");
    guest::nothing_left();
    let report = guest::report(&path);
    assert_eq!(guest::dispatched(&report), driven);
    assert_eq!((&report["unclean"], &report["complete"]), (&Value::Null, &true.into()), "{report}");
    assert_eq!(report["end"]["reason"], "signal");
    assert_eq!(report["header"]["backend"], BACKEND);
}

#[test]
fn serving_goes_on_when_the_recording_cannot() {
    let disk = "/tmp/full-beside-serve";
    fs::create_dir_all(disk).unwrap();
    guest::succeed(Command::new("mount").args(["-t", "tmpfs", "-o", "size=8k", "none", disk]));
    let path = format!("{disk}/a.iova");
    let mut server = Server::start(&["-i", "1ms", "-o", &path]);
    let mut line = String::new();
    while !line.contains("serving goes on without the recording") {
        line.clear();
        assert_ne!(server.said.read_line(&mut line).unwrap(), 0, "it ended without a word about the disk");
    }
    assert!(line.contains("No space left"), "{line}");
    let load = guest::succeed(&mut guest::iovascope(&["load", "--json", "--size", "1M", "--count", "500"]));
    let driven = guest::driven(&serde_json::from_slice(&load.stdout).unwrap());
    server.until(&format!("the counts are the driver's: {driven:?}"), |text| scraped(text) == driven);
    let (status, said) = server.end();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("the recording ended early"), "{said}");
    let report = guest::report(std::path::Path::new(&path));
    assert!(report["unclean"].is_string() && report["windows"].as_u64().unwrap() > 0, "{report}");
    guest::succeed(Command::new("umount").arg(disk));
    guest::nothing_left();
}
