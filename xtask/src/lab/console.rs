//! Judges the guest's kernel: the text of its log, and its taint. Pure: no file, no clock, no process.
//!
//! What counts as trouble is fixed here and is no parameter, so no caller can judge by an empty list.

use std::fmt;

/// Something a healthy kernel does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    trouble: &'static str,
    evidence: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.trouble, self.evidence)
    }
}

/// How a line shows its trouble.
enum Sign {
    /// The message, without its time stamp, begins so.
    Start(&'static str),
    /// The message holds all of these.
    All(&'static [&'static str]),
}

use Sign::{All, Start};

/// First match wins, so the more telling ones come first.
const SIGNS: [(&str, Sign); 19] = [
    ("panic", Start("Kernel panic - not syncing")),
    ("soft lockup", All(&["BUG: soft lockup"])),
    ("hard lockup", All(&["detected hard LOCKUP"])),
    ("hard lockup", All(&["hard LOCKUP on cpu"])),
    ("RCU stall", All(&["rcu", "detected stalls"])),
    ("RCU stall", All(&["rcu", "self-detected stall"])),
    ("RCU stall", All(&["rcu", "detected expedited stalls"])),
    ("RCU stall", All(&["rcu", "kthread starved"])),
    ("hung task", All(&["INFO: task ", "blocked for more than"])),
    ("bug", Start("BUG: ")),
    ("bug", Start("kernel BUG at")),
    ("oops", Start("Oops: ")),
    ("oops", Start("general protection fault")),
    ("oops", Start("unable to handle")),
    ("locking", All(&["possible", "locking dependency detected"])),
    ("RCU misuse", All(&["suspicious RCU usage"])),
    ("undefined behaviour", Start("UBSAN: ")),
    ("reference count", Start("refcount_t: ")),
    ("warning", Start("WARNING: ")),
];

/// Bits of `/proc/sys/kernel/tainted` that no healthy run sets (Documentation/admin-guide/tainted-kernels.rst).
/// Loading the lab's own modules and using no-IOMMU set others.
const TAINTS: [(u32, &str); 5] = [
    (4, "the processor reported a machine check"),
    (5, "a page was released in a bad state"),
    (7, "the kernel died recently (oops or BUG)"),
    (9, "the kernel issued a warning"),
    (14, "a soft lockup occurred"),
];

/// Everything in the log that a healthy kernel does not say, in order.
pub(super) fn judge(log: &str) -> Vec<Finding> {
    log.lines().filter_map(judge_line).collect()
}

/// Trouble that the kernel remembers, even where its log did not reach the console.
pub(super) fn judge_taint(taint: u64) -> Vec<Finding> {
    let set = TAINTS.iter().filter(|(bit, _)| taint >> bit & 1 == 1);
    set.map(|(bit, meaning)| Finding { trouble: "taint", evidence: format!("bit {bit}: {meaning}") })
        .collect()
}

fn judge_line(line: &str) -> Option<Finding> {
    let message = message(line);
    let shows = |sign: &Sign| match sign {
        Start(start) => message.starts_with(start),
        All(parts) => parts.iter().all(|part| message.contains(part)),
    };
    let (trouble, _) = SIGNS.iter().find(|(_, sign)| shows(sign))?;
    Some(Finding { trouble, evidence: line.trim_end().to_owned() })
}

/// A line without its time stamp and, where the kernel prints it, its caller.
fn message(line: &str) -> &str {
    let mut rest = line.trim();
    while let Some(after) =
        rest.strip_prefix('[').and_then(|inner| inner.split_once(']')).map(|(_, after)| after)
    {
        rest = after.trim_start();
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn troubles(log: &str) -> Vec<&'static str> {
        judge(log).into_iter().map(|finding| finding.trouble).collect()
    }

    #[test]
    fn a_healthy_boot_is_healthy() {
        let log = "[    0.000000] Linux version 7.3.4+deb13-amd64\r\n\
                   [    0.012345] x86/cpu: SGX disabled or unsupported by BIOS.\r\n\
                   [    1.100000] rcu: Hierarchical SRCU implementation.\r\n\
                   [    1.200000] NMI watchdog: Perf NMI watchdog permanently disabled\r\n\
                   [    3.500000] iommufd: loading out-of-tree module taints kernel.\r\n\
                   [    3.900000] vfio-pci 0000:00:03.0: Adding to iommufd group without IOMMU, unsafe WARNING follows\r\n";
        assert_eq!(troubles(log), Vec::<&str>::new());
    }

    #[test]
    fn every_trouble_is_seen_with_and_without_stamps() {
        for (line, trouble) in [
            ("Kernel panic - not syncing: sysrq triggered crash", "panic"),
            ("WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2", "warning"),
            ("WARNING: drivers/iommu/iommufd/device.c:99 at g+0x3/0x4, CPU#1: sh/77", "warning"),
            ("BUG: kernel NULL pointer dereference, address: 0000000000000000", "bug"),
            ("kernel BUG at mm/slub.c:1!", "bug"),
            ("Oops: Oops: 0002 [#1] SMP PTI", "oops"),
            ("general protection fault, probably for non-canonical address 0xdead", "oops"),
            ("watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [iovascope:77]", "soft lockup"),
            ("watchdog: Watchdog detected hard LOCKUP on cpu 0", "hard lockup"),
            ("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "RCU stall"),
            ("rcu: INFO: rcu_preempt self-detected stall on CPU", "RCU stall"),
            ("INFO: task iovascope:77 blocked for more than 120 seconds.", "hung task"),
            ("WARNING: possible circular locking dependency detected", "locking"),
            ("WARNING: suspicious RCU usage", "RCU misuse"),
            ("UBSAN: array-index-out-of-bounds in x.c:1:2", "undefined behaviour"),
            ("refcount_t: underflow; use-after-free.", "reference count"),
        ] {
            for log in
                [line.to_owned(), format!("[   12.345678] {line}\r"), format!("[   12.3][  T77] {line}")]
            {
                assert_eq!(troubles(&log), [trouble], "{log:?}");
            }
        }
    }

    #[test]
    fn a_warning_between_healthy_lines_is_found_once_and_quoted() {
        let log = "[ 1.0] fine\r\n[ 2.0] WARNING: CPU: 0 PID: 1 at x\r\n[ 3.0] fine\r\n";
        let found = judge(log);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "warning: [ 2.0] WARNING: CPU: 0 PID: 1 at x");
    }

    #[test]
    fn words_inside_a_message_are_no_trouble() {
        assert_eq!(troubles("[ 1.0] foo: BUG_ON is a macro, WARNING: is a word\n"), Vec::<&str>::new());
    }

    #[test]
    fn taint_of_the_labs_own_doing_is_healthy() {
        // User request (no-IOMMU), out-of-tree and unsigned modules.
        assert_eq!(judge_taint(1 << 6 | 1 << 12 | 1 << 13), []);
        assert_eq!(judge_taint(1 << 9 | 1 << 12).len(), 1);
        assert_eq!(judge_taint(u64::MAX).len(), TAINTS.len());
    }
}
