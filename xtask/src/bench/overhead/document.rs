//! `docs/overhead.md`: the tables with what they were made of and what they cannot show.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use super::arm::{ARMS, Arm, Tool};
use super::guest::Reading;
use super::table::{self, Results};
use crate::{tool, workspace};

const PATH: &str = "docs/overhead.md";

const HEAD: &str = "\
# What a probe costs

<!-- Made by `cargo xtask bench overhead`. Edits do not survive; the words are in xtask/src/bench/overhead/document.rs. -->

Guest instructions that a GET_PA costs while something is attached to `iommufd_fops_ioctl` and
`iopt_get_phys`, and what that adds to the same call without. Counted, not timed: the numbers repeat on any
x86-64 host.
";

const METHOD: &str = "\
## How it is measured

A closed loop of identical calls (`probe-user/examples/bare_loop.rs`) runs in the lab's guest under QEMU's
`-icount shift=0`, where one guest nanosecond is one executed instruction. The clock is read once before the
loop and once after it, after a warm-up of a quarter of its calls; nothing is recorded in between. Every number is the
median over fresh boots, one boot an arm and repeat; the spread is the largest less the smallest. The pages
are huge pages of 2 MiB, the mapping is 4 MiB, and there is one CPU and one thread. The recorder's
interval is longer than the run, so it sleeps while the loops run.

A result counts only if the tool saw every call: iovascope's report and bpftrace's maps must hold exactly the
calls that were driven, by outcome, at both functions; empty probes must have run once a call by the kernel's own count.

## What is compared

* **Empty probes** are the floor of their mechanism: what entering and leaving programs costs when they do
  nothing, not even read the clock.
* **iovascope** records everything it can by default: see `iovascope report`.
* **bpftrace** does the same work: latency by command, by scan length and of failures, run length by stop,
  errnos by command, calls by process (`lab/bench/same-work-*.bt`). One map operation per entry, and nothing stored that the
  return can read for itself. It does less in some respects, all in its favour: its histograms have one bucket
  per power of two where ours have 128, it keeps no sums, minima or maxima, and it does not account for
  calls that it missed.

## What instructions do not show

* **Memory.** A load that hits the first-level cache and one that goes to memory both count one. The buckets of a
  histogram and the entries of a hash table evict somebody's lines; that cost is not here.
* **Locked operations.** An atomic read-modify-write counts one instruction and takes tens of cycles,
  more when another CPU holds the line. bpftrace's hash maps take locks; our counters are plain increments.
  The difference is larger than shown.
* **Prediction.** A kretprobe replaces a return address, so the processor's return stack mispredicts;
  fentry and fsession do not. Indirect calls and their mitigations cost more than their instructions.
* **Address translation.** Misses of the TLB walk page tables in hardware: no instruction is executed.
* **Slow instructions.** Reading the time stamp counter is one instruction here and about 20 cycles on
  hardware, more in a VM that traps it.
* **Company.** One CPU: no contention, no migration, no lock that somebody else holds.
* **This kernel.** Debian's configuration and the mitigations it chooses on QEMU's CPU. Another kernel or
  compiler has other counts; the comparison between arms holds better than any single number.

So the numbers are exact about the work that is done, and say nothing about how long a given machine takes for it.
";

/// What the run was made of.
pub(super) struct Facts {
    kernel: String,
    bpftrace: Option<String>,
    qemu: String,
    commit: String,
    repeats: usize,
    missing: Vec<&'static str>,
    /// Instructions per call of `iovascope load`, its median.
    load: f64,
    /// Rows of the table of programs.
    programs: Vec<Vec<String>>,
}

impl Facts {
    pub(super) fn gather(readings: &[Reading], repeats: usize, missing: &[&'static Arm]) -> Result<Self> {
        let first = readings.first().ok_or_else(|| anyhow!("nothing was measured"))?;
        let mut loads: Vec<f64> = readings.iter().filter_map(|reading| reading.load).collect();
        loads.sort_by(f64::total_cmp);
        let load = loads.get(loads.len() / 2).copied();
        let version = tool::output(Command::new("qemu-system-x86_64").arg("--version"))?;
        Ok(Self {
            kernel: first.kernel.clone(),
            bpftrace: readings.iter().find_map(|reading| reading.version.clone()),
            qemu: version.lines().next().unwrap_or_default().to_owned(),
            commit: commit(),
            repeats,
            missing: missing.iter().map(|arm| arm.name).collect(),
            load: load.ok_or_else(|| anyhow!("the workload driver was not measured"))?,
            programs: programs(readings),
        })
    }
}

/// The tree's commit, where git knows it.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        tool::output(Command::new("git").args(arguments).current_dir(workspace::root())).ok()
    };
    let Some(hash) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    // The document itself changes by every run.
    let status = git(&["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"]);
    let changed =
        if status.is_some_and(|status| status.is_empty()) { "" } else { " with uncommitted changes" };
    format!("{}{changed}", hash.trim())
}

/// Our programs, an arm after the other.
fn programs(readings: &[Reading]) -> Vec<Vec<String>> {
    let mut rows = vec![
        ["backend", "program", "verified instructions", "machine code, bytes"].map(str::to_owned).to_vec(),
    ];
    for arm in ARMS.iter().filter(|arm| matches!(arm.tool, Tool::Ours { .. })) {
        let Some(reading) = readings.iter().find(|reading| reading.arm == arm.name) else { continue };
        for program in &reading.programs {
            let [verified, jited] =
                [program.verified, program.jited].map(|number| table::count(number as f64));
            rows.push(vec![arm.name.to_owned(), program.name.clone(), verified, jited]);
        }
    }
    rows
}

/// What the workload driver's own loop adds.
pub(super) fn driver_line(results: &Results, facts: &Facts) -> String {
    let own = results.baseline().map_or(f64::NAN, |bare| facts.load - bare);
    format!("driver: `iovascope load` adds {} instructions per GET_PA of its own", table::count(own))
}

/// Writes the document.
pub(super) fn write(results: &Results, facts: &Facts) -> Result<()> {
    let path = workspace::root().join(PATH);
    fs::write(&path, render(results, facts)).with_context(|| format!("cannot write {}", path.display()))
}

fn render(results: &Results, facts: &Facts) -> String {
    let mut made = vec![
        format!("kernel {} (Debian's, iommufd and VFIO as modules)", facts.kernel),
        facts.qemu.clone(),
        format!("iovascope at {}", facts.commit),
        format!("{} boots an arm", facts.repeats),
    ];
    made.extend(facts.bpftrace.clone());
    let arms = ARMS.iter().map(|arm| {
        let absent = if facts.missing.contains(&arm.name) { " (not offered by this iovascope)" } else { "" };
        format!("`{}`: {}{absent}", arm.name, arm.what)
    });
    format!(
        "{HEAD}\n`{}`\n\n{}.\n\nMade by `cargo xtask bench overhead` with\n\n{}\n\n{}\n\n{}\n## Our programs\n\n\
         What the verifier looked at, and what the processor runs.\n\n{}\n{METHOD}",
        results.closing_line(),
        driver_line(results, facts),
        list(made.into_iter()),
        list(arms),
        results.tables(),
        table::markdown(&facts.programs),
    )
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.map(|item| "* ".to_owned() + &item).collect::<Vec<_>>().join("\n")
}
