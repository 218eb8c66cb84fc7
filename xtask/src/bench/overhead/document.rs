//! `docs/overhead.md`: the tables with what they were made of and what they cannot show.

use std::collections::{BTreeMap, BTreeSet};
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

<!-- Made by `cargo xtask bench overhead`; its words are in xtask/src/bench/overhead/document.rs. -->

Guest instructions of one GET_PA while something is attached to `iommufd_fops_ioctl` and `iopt_get_phys`, and
how many of them that adds. Counted, not timed: the numbers repeat on any x86-64 host.
";

const METHOD: &str = "\
## How it is measured

A closed loop of identical calls (`probe-user/examples/bare_loop.rs`) runs in the lab's guest under QEMU's
`-icount shift=0`, where one guest nanosecond is one executed instruction. The clock is read once before the
loop and once after it, after a warm-up of a quarter of its calls; nothing is recorded in between. Every
number is the median over fresh boots, one boot an arm and repeat; the spread is the largest less the
smallest. The buffer is made of huge pages of 2 MiB; there is one CPU and one thread. The recorder's interval is
longer than the run, so it sleeps meanwhile. The timer's interrupts are in all numbers, the baseline's
too: about a thousandth. What is added per further page is the difference of two loops, shared out among 511
pages: 0.1 of it is 51 instructions a call, which longer values cost in a histogram, or interrupts.

A result counts only if the tool saw every call: iovascope's report and bpftrace's maps must hold exactly the
calls that were driven, by outcome, at both functions; empty probes must have run once a call by the
kernel's own count. A baseline that varies by more than 1 % fails the run.

## What is compared

* **Empty probes** are the floor of their mechanism: what entering and leaving programs costs when they do
  nothing, not even read the clock.
* **iovascope** records all that it records by default, which is what `iovascope report` shows. Which of its backends
  sees every call where threads contend, one CPU cannot show: docs/completeness.md does.
* **`record-10hz` and `top-10hz`** are the arm `fsession` while its counters are read: by the recorder ten times a
  second, and by the dashboard that draws ten frames a second on a terminal. Their loops are longer, so that a dozen
  readings fall into one, and what is counted is the driver's own thread: there is one CPU, and the reader takes its turn
  on it. The rest of the difference to `fsession` is such turns; the calls themselves run no instruction more, because
  reading takes no lock and no program.
* **bpftrace** does the same work: latency by command, by scan length and of failures, run length by stop,
  errnos by command, calls by process (`lab/bench/same-work-*.bt`). One map operation per entry, and nothing
  stored that the return can read for itself. It still does less: its histograms have one bucket per power of two where
  ours have up to 128, it keeps no sums, minima or maxima, and it does not account for calls that it missed. It comes
  twice: as Debian stable has it, and the newest, unstable's.

## What instructions do not show

* **Memory.** A load that hits the first-level cache and one that goes to memory both count one. The buckets
  of a histogram and the entries of a hash table evict somebody's lines; that cost is not here.
* **Locked operations.** An atomic read-modify-write counts one instruction and takes tens of cycles, more
  when another CPU holds the line. Hash maps take locks, plain counters do not.
* **The rest of the machine.** While a kprobe session is attached, the function graph tracer has a shadow stack of
  4 KiB for every thread and a probe at every switch of threads; other threads pay that, not the calls here.
* **Prediction.** A kretprobe replaces a return address, and the function graph tracer of a kprobe session does, so the
  processor's return stack mispredicts; fentry and fsession do not. Indirect calls and their mitigations cost more than
  their instructions.
* **Address translation.** A miss of the TLB walks page tables in hardware: no instruction is executed.
* **Slow instructions.** Reading the time stamp counter is one instruction here and tens of cycles on
  hardware, more in a VM that traps it.
* **Company.** One CPU: no contention, no migration, no lock that somebody else holds.
* **Your kernel.** This is Debian's configuration, with the mitigations that it chooses on QEMU's CPU. Another
  kernel or compiler gives other counts; the order of the arms holds better than any single number.

So the numbers are exact about the work that is done, and say nothing about the time it takes on some machine.
";

/// What the run was made of.
pub(super) struct Facts {
    kernel: String,
    /// Of the tools that were asked, each once.
    versions: Vec<String>,
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
    pub(super) fn gather(
        readings: &[Reading],
        commit: String,
        repeats: usize,
        missing: &[&'static Arm],
    ) -> Result<Self> {
        let first = readings.first().ok_or_else(|| anyhow!("nothing was measured"))?;
        let mut loads: Vec<f64> = readings.iter().filter_map(|reading| reading.load).collect();
        loads.sort_by(f64::total_cmp);
        let load = loads.get(loads.len() / 2).copied();
        let version = tool::output(Command::new("qemu-system-x86_64").arg("--version"))?;
        Ok(Self {
            kernel: first.kernel.clone(),
            versions: versions(readings),
            qemu: version.lines().next().unwrap_or_default().to_owned(),
            commit,
            repeats,
            missing: missing.iter().map(|arm| arm.name).collect(),
            load: load.ok_or_else(|| anyhow!("the workload driver was not measured"))?,
            programs: programs(readings),
        })
    }
}

/// What tools say of their versions, and which arms that is.
fn versions(readings: &[Reading]) -> Vec<String> {
    let mut arms: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for reading in readings {
        if let Some(version) = &reading.version {
            arms.entry(version).or_default().insert(reading.arm);
        }
    }
    let line = |(version, arms): (&str, BTreeSet<&str>)| {
        format!("{version}: {}", arms.into_iter().collect::<Vec<_>>().join(", "))
    };
    arms.into_iter().map(line).collect()
}

/// The tree's commit now, where git knows it.
pub(in crate::bench) fn commit() -> String {
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
        ["backend and program", "verified instructions", "machine code, bytes"].map(str::to_owned).to_vec(),
    ];
    for arm in ARMS.iter().filter(|arm| matches!(arm.tool, Tool::Ours { .. })) {
        let Some(reading) = readings.iter().find(|reading| reading.arm == arm.name) else { continue };
        for program in &reading.programs {
            let [verified, jited] =
                [program.verified, program.jited].map(|number| table::count(number as f64));
            rows.push(vec![format!("{} {}", arm.name, program.name), verified, jited]);
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
    made.extend(facts.versions.clone());
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

#[cfg(test)]
mod tests {
    use super::super::table::{Row, Series};
    use super::*;

    #[test]
    fn the_document_says_what_it_was_made_of_and_what_is_missing() {
        let of = |name: &str, value: f64| Row {
            arm: ARMS.iter().find(|arm| arm.name == name).unwrap(),
            loops: vec![Series(vec![value; 3])],
        };
        let results = Results(vec![of("none", 1739.0), of("kprobe", 2739.0)]);
        let facts = Facts {
            kernel: "7.3.4-made-up".to_owned(),
            versions: vec!["bpftrace v0.0.1: a, b".to_owned()],
            qemu: "QEMU made up".to_owned(),
            commit: "0123456".to_owned(),
            repeats: 3,
            missing: vec!["fsession"],
            load: 2000.0,
            programs: vec![vec!["backend and program".to_owned()], vec!["kprobe a".to_owned()]],
        };
        let text = render(&results, &facts);
        for told in [
            "\n`overhead: best +1,000, kprobe +1,000 instructions per GET_PA`\n",
            "* kernel 7.3.4-made-up",
            "* 3 boots an arm\n",
            "* bpftrace v0.0.1: a, b\n",
            "`fsession`: iovascope, everything (not offered by this iovascope)",
            "`iovascope load` adds 261 instructions",
            "| kprobe a ",
            "## What instructions do not show",
        ] {
            assert!(text.contains(told), "{told}: {text}");
        }
    }
}
