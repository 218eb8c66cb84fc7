//! What is compared, as data: the arms, the loops, and how an arm is started in the guest.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// One thing that may be attached while the loops run.
#[derive(Debug)]
pub(super) struct Arm {
    pub(super) name: &'static str,
    /// For the reader of the table.
    pub(super) what: &'static str,
    pub(super) tool: Tool,
}

/// Who attaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Nothing,
    /// A bpftrace script of `lab/bench/` whose programs do nothing: this many.
    Empty {
        script: &'static str,
        programs: usize,
    },
    /// `iovascope record --backend BACKEND OPTION…`. Without options it records everything, and may be the best.
    Ours {
        backend: &'static str,
        options: &'static [&'static str],
    },
    /// `iovascope MODE --backend fsession` with ten samples a second while the loops run, which are longer then: what
    /// reading the counters costs those who are counted.
    Watched {
        mode: &'static str,
    },
    /// A bpftrace script of `lab/bench/` that does the same work, by the guest's own bpftrace.
    Bpftrace {
        script: &'static str,
    },
    /// The same by the newest that Debian has.
    Newest {
        script: &'static str,
    },
}

/// The arm that all others are compared with.
pub(super) const NONE: &str = "none";
/// The backend of [`Tool::Watched`].
pub(super) const WATCHED_BY: &str = "fsession";
/// The arms that ratios are taken to.
pub(super) const PEERS: [&str; 2] = ["bpftrace-fentry", "bpftrace-kprobe"];

/// Every arm, in the order of the table. A new one is a row here.
pub(super) const ARMS: [Arm; 18] = [
    Arm {
        name: NONE,
        what: "no probe: the caller, the system call, the ioctl, the scan",
        tool: Tool::Nothing,
    },
    Arm {
        name: "empty-kprobe",
        what: "one kprobe on `iopt_get_phys` that does nothing",
        tool: Tool::Empty { script: "empty-kprobe.bt", programs: 1 },
    },
    Arm {
        name: "empty-kprobes",
        what: "kprobe and kretprobe on both functions that do nothing",
        tool: Tool::Empty { script: "empty-kprobes.bt", programs: 4 },
    },
    Arm {
        name: "empty-fentry",
        what: "fentry and fexit on both functions that do nothing",
        tool: Tool::Empty { script: "empty-fentry.bt", programs: 4 },
    },
    Arm {
        name: "fsession",
        what: "iovascope, everything",
        tool: Tool::Ours { backend: "fsession", options: &[] },
    },
    Arm {
        name: "fsession-calls",
        what: "iovascope, and one call in 1,000 recorded by itself",
        tool: Tool::Ours { backend: "fsession", options: &["--calls-every", "1000"] },
    },
    Arm {
        name: "fsession-locks",
        what: "iovascope, and lock waits",
        tool: Tool::Ours { backend: "fsession", options: &["--locks"] },
    },
    Arm {
        name: "record-10hz",
        what: "iovascope, everything, and the recorder samples ten times a second meanwhile",
        tool: Tool::Watched { mode: "record" },
    },
    Arm {
        name: "top-10hz",
        what: "iovascope, everything, and the dashboard draws ten frames a second meanwhile",
        tool: Tool::Watched { mode: "top" },
    },
    Arm {
        name: "fentry",
        what: "iovascope, everything",
        tool: Tool::Ours { backend: "fentry", options: &[] },
    },
    Arm {
        name: "kprobe-session",
        what: "iovascope, everything",
        tool: Tool::Ours { backend: "kprobe-session", options: &[] },
    },
    Arm {
        name: "kprobe-session-calls",
        what: "iovascope, and one call in 1,000 recorded by itself",
        tool: Tool::Ours { backend: "kprobe-session", options: &["--calls-every", "1000"] },
    },
    Arm {
        name: "kprobe-session-locks",
        what: "iovascope, and lock waits",
        tool: Tool::Ours { backend: "kprobe-session", options: &["--locks"] },
    },
    Arm {
        name: "kprobe",
        what: "iovascope, everything",
        tool: Tool::Ours { backend: "kprobe", options: &[] },
    },
    Arm {
        name: PEERS[0],
        what: "bpftrace, the same work by fentry and fexit",
        tool: Tool::Bpftrace { script: "same-work-fentry.bt" },
    },
    Arm {
        name: PEERS[1],
        what: "bpftrace, the same work by kprobe and kretprobe",
        tool: Tool::Bpftrace { script: "same-work-kprobe.bt" },
    },
    Arm {
        name: "newest-bpftrace-fentry",
        what: "the newest bpftrace, the same work by fentry and fexit",
        tool: Tool::Newest { script: "same-work-fentry.bt" },
    },
    Arm {
        name: "newest-bpftrace-kprobe",
        what: "the newest bpftrace, the same work by kprobe and kretprobe",
        tool: Tool::Newest { script: "same-work-kprobe.bt" },
    },
];

/// One closed loop of GET_PA calls.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) title: &'static str,
    /// As `bare_loop` takes it: PLACE:LENGTH:COUNT.
    pub(super) spec: &'static str,
    /// The same for more than a second: ten samples a second fall into it.
    pub(super) long: &'static str,
    /// Pages that each call scans.
    pub(super) pages: u32,
}

/// The loops. The first is the one that the closing line speaks of, and the only one of a quick run.
pub(super) const LOOPS: [Loop; 3] = [
    Loop { title: "One page", spec: "mapped:4096:20000", long: "mapped:4096:500000", pages: 1 },
    Loop {
        title: "A scan of 512 pages",
        spec: "mapped:2097152:2000",
        long: "mapped:2097152:12000",
        pages: 512,
    },
    Loop {
        title: "An unmapped IOVA (ENOENT)",
        spec: "unmapped:4096:20000",
        long: "unmapped:4096:500000",
        pages: 0,
    },
];

impl Arm {
    /// Whether it is one of our backends with everything on.
    pub(super) fn is_complete_backend(&self) -> bool {
        matches!(self.tool, Tool::Ours { options: [], .. })
    }

    pub(super) fn is_by_bpftrace(&self) -> bool {
        matches!(self.tool, Tool::Empty { .. } | Tool::Bpftrace { .. } | Tool::Newest { .. })
    }

    pub(super) fn is_newest(&self) -> bool {
        matches!(self.tool, Tool::Newest { .. })
    }

    /// A loop as this arm runs it.
    pub(super) fn spec(&self, each: &Loop) -> &'static str {
        if matches!(self.tool, Tool::Watched { .. }) { each.long } else { each.spec }
    }

    /// The words after `arm.sh NAME LOOPS`.
    pub(super) fn words(&self, binary: &Binary) -> Vec<&'static str> {
        match self.tool {
            Tool::Nothing => vec!["nothing"],
            Tool::Empty { script, .. } => vec!["empty", script],
            Tool::Bpftrace { script } => vec!["bpftrace", script],
            Tool::Newest { script } => vec!["newest", script],
            Tool::Watched { mode } => vec!["watched", mode, "--backend", WATCHED_BY],
            Tool::Ours { backend, options } => {
                let choice = if binary.chooses { vec!["--backend", backend] } else { Vec::new() };
                [vec!["iovascope"], choice, options.to_vec()].concat()
            }
        }
    }
}

/// What the `iovascope` under test can do.
#[derive(Debug)]
pub(super) struct Binary {
    /// Whether it lets one choose the backend; one that does not has `kprobe` only.
    chooses: bool,
    /// Names of our arms that its command line accepts.
    arms: Vec<&'static str>,
}

impl Binary {
    /// Asks the binary, which runs on this host too.
    pub(super) fn ask(path: &Path) -> Result<Self> {
        let accepts = |arguments: &[&str]| -> Result<bool> {
            let mut command = Command::new(path);
            command.arg("record").args(arguments).arg("--help");
            let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            Ok(status.with_context(|| format!("cannot start {}", path.display()))?.success())
        };
        if !accepts(&[])? {
            bail!("{} record --help fails: it is no iovascope that records", path.display());
        }
        let mut arms = Vec::new();
        if accepts(&["--backend", WATCHED_BY])? {
            let watched = ARMS.iter().filter(|arm| matches!(arm.tool, Tool::Watched { .. }));
            arms.extend(watched.map(|arm| arm.name));
        }
        for arm in &ARMS {
            if let Tool::Ours { backend, options } = arm.tool
                && accepts(&[&["--backend", backend], options].concat())?
            {
                arms.push(arm.name);
            }
        }
        let chooses = !arms.is_empty();
        Ok(Self { chooses, arms: if chooses { arms } else { vec!["kprobe"] } })
    }

    fn offers(&self, arm: &Arm) -> bool {
        !matches!(arm.tool, Tool::Ours { .. } | Tool::Watched { .. }) || self.arms.contains(&arm.name)
    }
}

/// The arms to measure, and those that this binary does not offer. `none` is always measured.
pub(super) fn choose(named: &[String], binary: &Binary) -> Result<(Vec<&'static Arm>, Vec<&'static Arm>)> {
    if let Some(unknown) = named.iter().find(|name| ARMS.iter().all(|arm| arm.name != **name)) {
        let known: Vec<&str> = ARMS.iter().map(|arm| arm.name).collect();
        bail!("there is no arm {unknown:?}; there are: {}", known.join(", "));
    }
    let wanted =
        |arm: &&Arm| named.is_empty() || arm.name == NONE || named.iter().any(|name| name == arm.name);
    let (offered, missing): (Vec<_>, Vec<_>) = ARMS.iter().filter(wanted).partition(|arm| binary.offers(arm));
    if let (false, Some(arm)) = (named.is_empty(), missing.first()) {
        bail!("this iovascope does not offer the arm {}: its `record` does not accept the options", arm.name);
    }
    Ok((offered, missing))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::workspace;

    fn binary(arms: &[&'static str]) -> Binary {
        Binary { chooses: arms.len() > 1, arms: arms.to_vec() }
    }

    fn names(arms: &[&Arm]) -> Vec<&'static str> {
        arms.iter().map(|arm| arm.name).collect()
    }

    #[test]
    fn names_are_unique_and_scripts_exist() {
        let unique: BTreeSet<&str> = ARMS.iter().map(|arm| arm.name).collect();
        assert_eq!(unique.len(), ARMS.len());
        assert_eq!(ARMS[0].name, NONE);
        assert!(PEERS.iter().all(|peer| unique.contains(peer)));
        for arm in &ARMS {
            if let Tool::Empty { script, .. } | Tool::Bpftrace { script } | Tool::Newest { script } = arm.tool
            {
                assert!(workspace::root().join("lab/bench").join(script).is_file(), "{script}");
            }
        }
    }

    #[test]
    fn what_the_binary_lacks_is_left_out_and_said_unless_asked_for() {
        let (chosen, missing) = choose(&[], &binary(&["kprobe"])).unwrap();
        assert!(names(&chosen).contains(&"kprobe"));
        let is_ours = |arm: &&Arm| match arm.tool {
            Tool::Ours { backend, .. } => backend != "kprobe",
            Tool::Watched { .. } => true,
            Tool::Nothing | Tool::Empty { .. } | Tool::Bpftrace { .. } | Tool::Newest { .. } => false,
        };
        let ours: Vec<_> = ARMS.iter().filter(is_ours).map(|arm| arm.name).collect();
        assert_eq!(names(&missing), ours);
        assert!(choose(&["fsession".to_owned()], &binary(&["kprobe"])).is_err());
        assert!(
            choose(&["no-such".to_owned()], &binary(&["kprobe"])).unwrap_err().to_string().contains("none, ")
        );
    }

    #[test]
    fn none_is_always_measured() {
        let (chosen, _) = choose(&["fentry".to_owned()], &binary(&["fentry", "kprobe"])).unwrap();
        assert_eq!(names(&chosen), ["none", "fentry"]);
    }

    #[test]
    fn the_backend_is_named_only_where_it_can_be() {
        let kprobe = ARMS.iter().find(|arm| arm.name == "kprobe").unwrap();
        assert_eq!(kprobe.words(&binary(&["kprobe"])), ["iovascope"]);
        assert_eq!(kprobe.words(&binary(&["kprobe", "fentry"])), ["iovascope", "--backend", "kprobe"]);
    }
}
