//! `docs/completeness.md`, and the same table in the README.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};

use super::arm::ARMS;
use crate::workspace;

const PATH: &str = "docs/completeness.md";
const README: &str = "README.md";
/// The README's table stands between these.
const MARKS: [&str; 2] = ["<!-- cargo xtask bench completeness -->\n", "<!-- end -->\n"];

const HEAD: &str = "\
# Who sees every call

<!-- Made by `cargo xtask bench completeness`; its words are in xtask/src/bench/completeness/document.rs. -->

64 threads ask GET_PA about one mapping of 128 MiB (huge pages, no cap), 10 times each, on 2 CPUs. They wait on
each other's scan *inside* `iopt_get_phys`, as threads of a driver that starts do. 640 calls; which of them does a
tool have, and what does it say of the others?
";

const METHOD: &str = "\
The column of calls has a number for each boot, in order of size; the figures and words beside are of the middle one. The
last column is what the tool says there of calls that it does not have. What is true is what the caller's own clock says,
around the system call, in the same run. Times are an emulator's: compare them within a row. bpftrace comes twice, as Debian
stable has it and as unstable does.

## Why calls get lost

* **kretprobes have a pool.** A return can only be seen if the kernel has a spare record when the call begins;
  probes made through `perf_event_open`, as bpftrace's and our kprobe backend are, have max(10, 2 × CPUs) of them.
  When more calls are inside at once, the further ones are not seen: those that wait, the slow ones. The kernel
  counts them; who does not read that counter draws a distribution of the fast ones.
* **Stale starts.** A script that keeps the start by thread finds, after a lost return, the start of another call.
  Its next difference is the time of two calls and all between them: a latency that nobody had.
* **Trampolines have no pool**, but do not run a program that is already running on the same CPU. Who was preempted
  in the middle of one makes the kernel skip it for everybody else there, until it goes on. The kernel counts that
  too.
* **A kprobe session has neither.** The function graph tracer keeps each call on its thread's own shadow stack, and runs
  the program with preemption off: no thread can be in the way of another's call. It costs twice as much as a
  trampoline (docs/overhead.md). bpftrace makes a session of a kprobe and a kretprobe since 0.26, if both name the
  function and not its module; with the module's name they are a pair as before. It says no word either way.

## What iovascope does about it

It reads the kernel's counters at every sample, and keeps the balance of each function: calls that began = measured
+ lost, by cause + in flight. What does not add up is shown as unexplained, and there has been none. `report` marks
percentiles that a loss has made too low, and with `--strict` the exit status is 4. This bench fails if one of 640
calls is not accounted for by any of our backends.
";

/// What the run was made of.
pub(super) struct Facts {
    pub(super) kernel: String,
    pub(super) commit: String,
    pub(super) boots: usize,
}

/// Writes the document and the README's table.
pub(super) fn write(table: &str, facts: &Facts) -> Result<()> {
    let write = |path: &Path, text: String| {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    let root = workspace::root();
    write(&root.join(PATH), render(table, facts))?;
    let readme = root.join(README);
    let text = fs::read_to_string(&readme).with_context(|| format!("cannot read {}", readme.display()))?;
    write(&readme, replaced(&text, table)?)
}

fn render(table: &str, facts: &Facts) -> String {
    let made = [
        format!("* kernel {} (Debian's, iommufd and VFIO as modules), in an emulated VM", facts.kernel),
        format!("* iovascope at {}", facts.commit),
        format!("* {} boots an arm", facts.boots),
    ];
    let arms: Vec<String> = ARMS.iter().map(|arm| format!("* {}: {}", arm.name, arm.what)).collect();
    format!("{HEAD}\n{table}\n{METHOD}\n## Made with\n\n{}\n\n{}\n", made.join("\n"), arms.join("\n"))
}

fn replaced(readme: &str, table: &str) -> Result<String> {
    let [begin, end] = MARKS;
    let missing = || anyhow!("{README} has no place for the table: {} … {}", begin.trim(), end.trim());
    let (before, rest) = readme.split_once(begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(end).ok_or_else(missing)?;
    Ok(format!("{before}{begin}{table}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_the_documents_table() {
        let read = |path: &str| fs::read_to_string(workspace::root().join(path)).unwrap();
        let (readme, document) = (read(README), read(PATH));
        let table = document.split_once("\n|").unwrap().1.split_once("\n\n").unwrap().0;
        let table = format!("|{table}\n");
        assert_eq!(replaced(&readme, &table).unwrap(), readme);
        assert_eq!(table.lines().count(), 2 + ARMS.len());
    }

    #[test]
    fn a_table_replaces_the_one_before() {
        let [begin, end] = MARKS;
        let text = format!("a\n{begin}old\n{end}b\n");
        assert_eq!(replaced(&text, "new\n").unwrap(), format!("a\n{begin}new\n{end}b\n"));
        assert!(replaced("nothing", "new\n").is_err());
    }
}
