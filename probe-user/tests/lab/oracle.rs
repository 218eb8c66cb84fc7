//! An independent count: tracefs fprobe events with hist triggers. No BPF, no kprobe, no code of ours
//! in the kernel, and no pool that could run empty.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use probe_common::{command, site::SITES};
use probe_model::errno;

use crate::guest::Counts;

const TRACING: &str = "/sys/kernel/tracing";
const GROUP: &str = "oracle";
const EVENTS: [(&str, &str); 2] = [
    // The entry's arguments are kept for the return (kernel/trace/trace_fprobe.c, Linux 7.3).
    ("dispatch", "cmd=$arg2:u32 ret=$retval:s64"),
    // What the last argument points to is read at the return: the run.
    ("get_phys", "run=+0($arg4):u64 ret=$retval:s32"),
];

/// Counting until it is dropped.
pub(crate) struct Oracle {
    tracing: &'static Path,
}

/// Keys of the histograms, and as many as a test may need of them.
const HISTOGRAMS: [(&str, &str); 2] = [
    ("dispatch", "hist:keys=common_pid,cmd,ret:size=4096"),
    ("get_phys", "hist:keys=common_pid,run,ret:size=16384"),
];

/// What was counted.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// By process, site, command (or site) and outcome.
    calls: BTreeMap<u32, BTreeMap<&'static str, Counts>>,
    /// Returned runs by process and bytes.
    runs: BTreeMap<u32, BTreeMap<u64, u64>>,
}

impl Oracle {
    pub(crate) fn start() -> Self {
        for (site, (name, fields)) in SITES.iter().zip(EVENTS) {
            assert_eq!(site.name, name);
            append("dynamic_events", &format!("f:{GROUP}/{name} {}%return {fields}", site.symbol));
        }
        for (name, histogram) in HISTOGRAMS {
            append(&trigger(name), histogram);
        }
        Self { tracing: Path::new(TRACING) }
    }

    pub(crate) fn seen(&self) -> Seen {
        let mut seen = Seen::default();
        for (name, _) in EVENTS {
            let text = fs::read_to_string(self.tracing.join(format!("events/{GROUP}/{name}/hist"))).unwrap();
            assert!(text.contains("Dropped: 0"), "the oracle lost counts:\n{text}");
            for (keys, count) in text.lines().filter_map(parse) {
                let what = match keys.get("cmd") {
                    Some(&ioctl) => command::name_of(command::row_of(u32::try_from(ioctl).unwrap())).unwrap(),
                    None => name,
                };
                let pid = u32::try_from(keys["common_pid"]).unwrap();
                let counts = seen.calls.entry(pid).or_default().entry(name).or_default();
                let outcome = outcome(keys["ret"]);
                // A failed call returns no run.
                if let Some(&run) = keys.get("run").filter(|_| outcome == "ok") {
                    *seen.runs.entry(pid).or_default().entry(run).or_default() += count;
                }
                *counts.entry((what.to_owned(), outcome)).or_default() += count;
            }
        }
        seen
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        for (name, histogram) in HISTOGRAMS {
            append(&trigger(name), &format!("!{histogram}"));
        }
        for (name, _) in EVENTS {
            append("dynamic_events", &format!("-:{GROUP}/{name}"));
        }
    }
}

impl Seen {
    /// Everything at a site but the calls of one thread.
    pub(crate) fn without(&self, pid: u32, site: &str) -> Counts {
        let mut sum = Counts::new();
        for (_, sites) in self.calls.iter().filter(|&(&other, _)| other != pid) {
            for (key, count) in sites.get(site).into_iter().flatten() {
                *sum.entry(key.clone()).or_default() += count;
            }
        }
        sum
    }

    /// Returned runs by their bytes, but for those of one thread.
    pub(crate) fn runs_without(&self, pid: u32) -> BTreeMap<u64, u64> {
        let mut sum = BTreeMap::new();
        for (_, runs) in self.runs.iter().filter(|&(&other, _)| other != pid) {
            for (&bytes, &count) in runs {
                *sum.entry(bytes).or_default() += count;
            }
        }
        sum
    }
}

/// `{ common_pid: 12, cmd: 15253, ret: 0 } hitcount: 20000`, where signed keys are printed unsigned.
fn parse(line: &str) -> Option<(BTreeMap<&str, u64>, u64)> {
    let (keys, count) = line.trim().strip_prefix('{')?.split_once("} hitcount:")?;
    let pair = |pair: &'_ str| -> Option<(usize, u64)> {
        let colon = pair.find(':')?;
        Some((colon, pair[colon + 1..].trim().parse().ok()?))
    };
    let keys = keys
        .split(',')
        .map(|text| pair(text).map(|(colon, value)| (text[..colon].trim(), value)))
        .collect::<Option<_>>()?;
    Some((keys, count.split_whitespace().next()?.parse().ok()?))
}

fn outcome(ret: u64) -> String {
    let ret = i64::from_ne_bytes(ret.to_ne_bytes());
    if ret >= 0 { "ok".to_owned() } else { errno::name(u32::try_from(-ret).unwrap()) }
}

fn trigger(name: &str) -> String {
    format!("events/{GROUP}/{name}/trigger")
}

fn path(file: &str) -> PathBuf {
    Path::new(TRACING).join(file)
}

fn append(file: &str, line: &str) {
    let path = path(file);
    let written =
        OpenOptions::new().append(true).open(&path).and_then(|mut file| file.write_all(line.as_bytes()));
    written.unwrap_or_else(|error| {
        let log = fs::read_to_string(Path::new(TRACING).join("error_log")).unwrap_or_default();
        panic!("cannot write {line:?} to {}: {error}\n{log}", path.display());
    });
}
