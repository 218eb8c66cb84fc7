//! Where numbers come from: what was recorded, on which machine, how, and how it ended.
//!
//! What a reader needs to understand counters, and nothing that could identify memory: no address, no
//! kernel pointer, no IOVA.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::backends::Change;
use crate::canary::Pulse;
use crate::clock::{self, Clock, Jump};
use crate::loss::Balance;
use crate::sample::{Counters, Instant};
use crate::share::Shares;
use crate::window::Window;

/// What was recorded, where, how.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Header {
    /// Format of the recording.
    pub format: u32,
    /// What a reader must know beyond the format to read on; a reader refuses a name that it does not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// Version of iovascope that counted.
    pub tool: String,
    /// Kernel release, as `uname -r`.
    pub kernel: String,
    /// Machine, as `uname -m`.
    pub machine: String,
    /// GET_PA's ABI, as the canary found it.
    pub abi: String,
    /// Whether the length argument is a cap; where not, no scan stops at `cap`.
    pub length_is_cap: bool,
    /// How programs were attached.
    pub backend: String,
    /// Better backends that were not taken, best first; only where the choice was ours.
    #[serde(default)]
    pub declined: Vec<Declined>,
    /// The kernel's page size in bytes: the step of a scan.
    pub page_size: u64,
    /// Possible CPUs.
    pub cpus: u32,
    /// Kernel function by site name.
    pub sites: BTreeMap<String, String>,
    /// When counting began.
    pub started: Instant,
    /// Time between two samples as asked for, ns; 0 where it is not known.
    #[serde(default)]
    pub interval: u64,
    /// The user's own words about the recording (`--tag KEY=VALUE`).
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The machine.
    #[serde(default)]
    pub host: Host,
    /// What the probes add to a call here; empty in recordings of versions that did not find out.
    #[serde(default)]
    pub shares: Shares,
}

impl Header {
    /// After a mark: another backend may count from here on.
    pub fn changed(&mut self, mark: &Mark) {
        if let Some(change) = &mark.change {
            self.backend.clone_from(&change.to);
        }
    }
}

/// Facts of the machine that latencies depend on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Host {
    /// `/proc/sys/kernel/random/boot_id`: monotonic instants of one boot can be compared.
    pub boot_id: Option<String>,
    /// Model name of the first CPU.
    pub cpu: Option<String>,
    /// Clock source of the kernel when counting began.
    pub clocksource: Option<String>,
    /// Its step in ns, measured when counting began ([`crate::clock`]).
    #[serde(default)]
    pub clock_step: Option<u64>,
    /// Memory of the machine in bytes.
    pub memory: Option<u64>,
    /// NUMA nodes that are online.
    pub numa_nodes: Option<u32>,
}

/// A backend that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declined {
    /// Its name.
    pub backend: String,
    /// Why not, for people.
    pub why: String,
}

/// A window frame of a recording: what was counted since the one before, or since counting began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Where the window ends.
    pub to: Instant,
    /// What was counted.
    pub counters: Counters,
}

/// Something that the user or the recorder marked in time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mark {
    /// When.
    pub at: Instant,
    /// What, for people.
    pub text: String,
    /// The kernel's clock source from here on, where the mark says that it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
    /// The change of backends that it marks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

/// The same instant by three clocks: what suspends and steps of the wall clock did to a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The clock of latencies, and the wall clock.
    pub at: Instant,
    /// `CLOCK_BOOTTIME`, ns: monotonic and the time in suspend.
    pub boottime: u64,
    /// Time that reading the three took, ns: they may be so far apart. Not in older recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncertainty: Option<u64>,
}

/// What is taken for the uncertainty of an anchor that has none, ns: a recorder that was not running for a while
/// between two readings.
const UNKNOWN_UNCERTAINTY: u64 = 10_000_000;

impl Anchor {
    /// How far apart the readings may be, ns.
    pub fn uncertainty(&self) -> u64 {
        self.uncertainty.unwrap_or(UNKNOWN_UNCERTAINTY)
    }
}

/// The last frame of a recording that ended in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why it ended.
    pub reason: EndReason,
    /// Calls found in each site's table of open calls after the probes were detached; empty for a
    /// backend without such tables.
    pub open_calls: BTreeMap<String, u64>,
    /// By how much the losses may be off, because misses fell into the moment of arming or disarming.
    pub doubt: u64,
}

/// Why a recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The duration was over.
    Duration,
    /// The command ended.
    Command,
    /// A signal asked for it.
    Signal,
}

/// A recording, read to its end.
#[derive(Debug, Clone)]
pub struct Recording {
    /// What was recorded, where, how.
    pub header: Header,
    /// All of it as one window, or the part that was asked for.
    pub window: Window,
    /// How many windows that has.
    pub windows: u64,
    /// Whether windows were left out.
    pub part: bool,
    /// How it ended; `None` when it was cut off.
    pub end: Option<End>,
    /// Why it is only a prefix of what was recorded.
    pub unclean: Option<&'static str>,
    /// Optional frames of kinds that this version does not know.
    pub skipped: u64,
    /// Marks, in order; only the first [`MOST_MARKS`].
    pub marks: Vec<Mark>,
    /// The first and the last clock anchor, and those between which another clock jumped.
    pub anchors: Vec<Anchor>,
    /// What was counted until the first change of backends; `None` where there was none.
    pub earlier: Option<Counters>,
}

/// Marks that are kept of a recording, here and in the dashboard; a reader counts the rest as skipped.
pub const MOST_MARKS: usize = 1024;

impl Recording {
    /// One window alone, of a recording that may still grow: nothing is known of how that ends.
    pub fn of_window(header: Header, window: Window) -> Self {
        Self {
            header,
            window,
            windows: 1,
            part: true,
            end: None,
            unclean: None,
            skipped: 0,
            marks: Vec::new(),
            anchors: Vec::new(),
            earlier: None,
        }
    }

    /// Changes of backends, in order.
    pub fn changes(&self) -> impl Iterator<Item = (&Mark, &Change)> {
        self.marks.iter().filter_map(|mark| Some((mark, mark.change.as_ref()?)))
    }

    /// Every call of every site is in the figures, and the recording is whole.
    pub fn is_complete(&self) -> bool {
        self.unclean.is_none()
            && self.open_calls_agree()
            && self.window.counters.canary.pulse() != Pulse::Dark
            && self.window.counters.balances().values().all(Balance::is_complete)
    }

    /// The open calls that the end counted one by one are those that the counters leave open; fsession
    /// has no table to count.
    fn open_calls_agree(&self) -> bool {
        // The end says nothing of a part, such as a window that the dashboard exports while it counts.
        if self.part {
            return true;
        }
        let Some(end) = &self.end else { return false };
        let flows = &self.window.counters.flow;
        end.doubt == 0
            && flows.iter().all(|(site, flow)| {
                end.open_calls.get(site).is_none_or(|&open| i128::from(open) == flow.open())
            })
    }

    /// Time that the machine slept while this was recorded, ns.
    pub fn suspended(&self) -> u64 {
        clock::sleeps(&self.anchors)
            .filter(|sleep| self.holds(sleep))
            .map(|sleep| sleep.by.max(0).unsigned_abs())
            .sum()
    }

    /// Steps of the wall clock meanwhile.
    pub fn steps(&self) -> Vec<Jump> {
        clock::steps(&self.anchors).filter(|step| self.holds(step)).collect()
    }

    /// The least ns that its latencies tell apart: the longest step of the clock sources that the kernel had.
    pub fn clock_step(&self) -> u64 {
        let later = self.marks.iter().filter_map(|mark| mark.clock.as_ref());
        let later = later.map(|clock| clock::step(Some(&clock.source), clock.step));
        later.fold(self.header.host.clock_step(), u64::max)
    }

    /// Whether a jump may lie in what is summed up.
    fn holds(&self, jump: &Jump) -> bool {
        jump.to > self.window.from.monotonic && (jump.from < self.window.to.monotonic || !self.part)
    }
}

impl Host {
    /// The least ns that its clock tells apart.
    pub fn clock_step(&self) -> u64 {
        clock::step(self.clocksource.as_deref(), self.clock_step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    #[test]
    fn suspend_and_steps_are_told_apart() {
        let anchor = |monotonic, realtime, boottime| Anchor {
            at: Instant { monotonic, realtime },
            boottime,
            uncertainty: Some(5),
        };
        let recording = Recording {
            header: Header::default(),
            window: Window::between(&Sample::default(), &Sample::default()),
            windows: 0,
            part: false,
            end: None,
            unclean: None,
            skipped: 0,
            marks: Vec::new(),
            anchors: vec![anchor(100, 5_000, 1_000), anchor(200, 5_400, 1_150)],
            earlier: None,
        };
        let steps: Vec<_> = recording.steps().iter().map(|step| step.by).collect();
        assert_eq!((recording.suspended(), steps), (50, vec![250]));
    }
}
