//! Who watches, as data.

/// One tool that watches the same calls.
#[derive(Debug)]
pub(super) struct Arm {
    pub(super) name: &'static str,
    /// For the reader of the table.
    pub(super) what: &'static str,
    pub(super) tool: Tool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    /// `iovascope record --backend …`.
    Ours(&'static str),
    /// A bpftrace script of `lab/bench/`, by the guest's own bpftrace.
    Bpftrace(&'static str),
    /// The same by the newest that Debian has.
    Newest(&'static str),
}

/// Every arm, in the order of the table. A new one is a row here.
pub(super) const ARMS: [Arm; 10] = [
    Arm { name: "iovascope, fsession", what: "`record --backend fsession`", tool: Tool::Ours("fsession") },
    Arm { name: "iovascope, fentry", what: "`record --backend fentry`", tool: Tool::Ours("fentry") },
    Arm {
        name: "iovascope, kprobe-session",
        what: "`record --backend kprobe-session`",
        tool: Tool::Ours("kprobe-session"),
    },
    Arm { name: "iovascope, kprobe", what: "`record --backend kprobe`", tool: Tool::Ours("kprobe") },
    Arm {
        name: "bpftrace, fentry + fexit",
        what: "latency histogram, `lab/bench/seen-fentry.bt`",
        tool: Tool::Bpftrace("seen-fentry.bt"),
    },
    Arm {
        name: "bpftrace, kprobe + kretprobe",
        what: "latency histogram, `lab/bench/seen-kprobe.bt`",
        tool: Tool::Bpftrace("seen-kprobe.bt"),
    },
    Arm {
        name: "bpftrace, counts only",
        what: "entries and returns counted, `lab/bench/seen-counts.bt`",
        tool: Tool::Bpftrace("seen-counts.bt"),
    },
    Arm {
        name: "bpftrace (newest), fentry + fexit",
        what: "the same script, `lab/bench/seen-fentry.bt`",
        tool: Tool::Newest("seen-fentry.bt"),
    },
    Arm {
        name: "bpftrace (newest), kprobe + kretprobe",
        what: "the same script, `lab/bench/seen-kprobe.bt`",
        tool: Tool::Newest("seen-kprobe.bt"),
    },
    Arm {
        name: "bpftrace (newest), the same without the module's name",
        what: "a kprobe session, `lab/bench/seen-session.bt`",
        tool: Tool::Newest("seen-session.bt"),
    },
];

impl Tool {
    /// The words after `contention.sh`.
    pub(super) fn words(self) -> [&'static str; 2] {
        match self {
            Self::Ours(backend) => ["iovascope", backend],
            Self::Bpftrace(script) => ["bpftrace", script],
            Self::Newest(script) => ["newest", script],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn scripts_exist() {
        for arm in &ARMS {
            if let Tool::Bpftrace(script) | Tool::Newest(script) = arm.tool {
                assert!(workspace::root().join("lab/bench").join(script).is_file(), "{script}");
                assert!(arm.what.contains(script), "{script}");
            }
        }
    }
}
