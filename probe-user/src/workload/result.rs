//! What a run found: the shape of `iovascope load --json`, and the same for a person.

use std::io::{self, Write};

use serde::Serialize;

use super::Plan;
use super::abi::Abi;
use super::drive::{Driven, Ended, FaultCount, Limit, Step};
use super::errors::Expected;
use super::memory::Memory;
use super::outcome::Ledger;
use super::quantity::{Bytes, Iova, PageSize};
use super::tally::Summary;
use super::verify::Verdict;

/// Name and version of the JSON shape.
const SCHEMA: &str = "iovascope.load/1";

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub schema: &'static str,
    pub pid: u32,
    pub kernel: String,
    pub device: String,
    pub abi: Abi,
    pub page_size: PageSize,
    pub plan: PlanReport,
    pub ended: Ended,
    /// From the first thread's start to the last one's end.
    pub elapsed_ns: u64,
    /// GET_PA calls of the loop per second, failed ones included.
    pub calls_per_second: f64,
    /// Every iommufd ioctl of this process, set-up and clean-up and the ABI canary included.
    pub ioctls: Vec<IoctlCount>,
    /// The measured loop's GET_PA calls, in ns, deliberate failures included.
    pub latency_ns: Latencies,
    /// What successful calls of the loop returned, in bytes.
    pub run_bytes: Option<Summary>,
    /// Why scans ended; absent where the kernel ignores the cap.
    pub stops: Option<Stops>,
    pub deliberate: Vec<DeliberateCount>,
    /// Absent without `--verify`.
    pub verify: Option<Verdict>,
}

/// The plan as it was carried out.
#[derive(Debug, Clone, Serialize)]
pub struct PlanReport {
    pub memory: Memory,
    /// Rounded up to whole pages.
    pub size_bytes: Bytes,
    pub iova: Iova,
    pub cap: String,
    pub step: Step,
    pub threads: u64,
    pub count: Option<u64>,
    pub duration_ns: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct IoctlCount {
    /// UAPI name without `IOMMU_`.
    pub command: &'static str,
    /// `ok` or the errno's name.
    pub outcome: String,
    pub count: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Latencies {
    pub ok: Option<Summary>,
    pub failed: Option<Summary>,
}

/// Successful calls by how long the run was against what was asked for.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Stops {
    /// Exactly what was asked for.
    pub cap: u64,
    /// Less: the mapping's end, or a physical break.
    pub short: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct DeliberateCount {
    pub fault: &'static str,
    /// What this version of the ABI answers; absent where that is not known.
    pub expected: Option<String>,
    pub outcome: String,
    pub count: u64,
}

impl Report {
    pub(super) fn new(facts: Facts<'_>) -> Self {
        let Facts { plan, device, abi, size, page, driven, ledger } = facts;
        let calls = driven.tally.ok_ns.count() + driven.tally.failed_ns.count();
        let elapsed = driven.elapsed.as_secs_f64();
        Self {
            schema: SCHEMA,
            pid: std::process::id(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            device,
            abi,
            page_size: page,
            plan: PlanReport::new(plan, size),
            ended: driven.ended,
            elapsed_ns: u64::try_from(driven.elapsed.as_nanos()).unwrap_or(u64::MAX),
            calls_per_second: if elapsed > 0.0 { calls as f64 / elapsed } else { 0.0 },
            ioctls: ledger
                .iter()
                .map(|(command, outcome, count)| IoctlCount {
                    command: command.name(),
                    outcome: outcome.name(),
                    count,
                })
                .collect(),
            latency_ns: Latencies {
                ok: driven.tally.ok_ns.summary(),
                failed: driven.tally.failed_ns.summary(),
            },
            run_bytes: driven.tally.run_bytes.summary(),
            stops: matches!(abi, Abi::Merged | Abi::NoLimit).then(|| Stops {
                cap: driven.tally.capped,
                short: driven.tally.ok_ns.count() - driven.tally.capped,
            }),
            deliberate: driven.faults.iter().map(DeliberateCount::new).collect(),
            verify: plan.verify.map(|_| driven.verdict),
        }
    }

    /// Whether what was to be verified held, deliberate failures included.
    pub fn holds(&self) -> bool {
        let Some(verdict) = &self.verify else { return true };
        verdict.differences == 0 && self.deliberate.iter().all(DeliberateCount::as_expected)
    }

    /// For a person.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let plan = &self.plan;
        writeln!(out, "device    {} on Linux {}", self.device, self.kernel)?;
        writeln!(out, "abi       {}", self.abi.describe())?;
        writeln!(
            out,
            "mapping   {} of {} memory at IOVA {}, cap {}, step {}, {} thread(s)",
            plan.size_bytes,
            plan.memory.name(),
            plan.iova,
            plan.cap,
            plan.step.name(),
            plan.threads
        )?;
        writeln!(
            out,
            "rate      {:.0} calls/s over {:.3} s, ended by {}",
            self.calls_per_second,
            self.elapsed_ns as f64 / 1e9,
            self.ended.name()
        )?;
        writeln!(out, "\n{:<24}{:<12}{:>12}", "ioctl", "outcome", "count")?;
        for row in &self.ioctls {
            writeln!(out, "{:<24}{:<12}{:>12}", row.command, row.outcome, row.count)?;
        }
        self.write_distributions(out)?;
        self.write_findings(out)
    }

    fn write_distributions(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "\n{:<12}{:>10}{:>13}{:>13}{:>13}{:>13}{:>13}{:>13}",
            "", "count", "min", "p50", "p90", "p99", "p99.9", "max"
        )?;
        let rows = [
            ("ok, ns", &self.latency_ns.ok),
            ("failed, ns", &self.latency_ns.failed),
            ("run, bytes", &self.run_bytes),
        ];
        for (name, summary) in rows {
            let Some(summary) = summary else { continue };
            let Summary { count, min, p50, p90, p99, p999, max, .. } = summary;
            writeln!(out, "{name:<12}{count:>10}{min:>13}{p50:>13}{p90:>13}{p99:>13}{p999:>13}{max:>13}")?;
        }
        if let Some(stops) = self.stops {
            writeln!(out, "\nscans     {} ended at the cap, {} short of it", stops.cap, stops.short)?;
        }
        Ok(())
    }

    fn write_findings(&self, out: &mut dyn Write) -> io::Result<()> {
        for row in &self.deliberate {
            let verdict = match &row.expected {
                Some(_) if row.as_expected() => "as expected".to_owned(),
                Some(expected) => format!("EXPECTED {expected}"),
                None => "nothing known to expect".to_owned(),
            };
            writeln!(out, "on purpose: {} x {} gave {}, {verdict}", row.count, row.fault, row.outcome)?;
        }
        let Some(verdict) = &self.verify else {
            return Ok(());
        };
        writeln!(
            out,
            "verified  {} answers against /proc/self/pagemap, {} differ",
            verdict.checked, verdict.differences
        )?;
        let Some(first) = &verdict.first else {
            return Ok(());
        };
        writeln!(
            out,
            "first     at IOVA {:#x}, asked for {} bytes: got {}, expected {}; the physical address is {}",
            first.iova,
            first.asked_bytes,
            first.got_bytes,
            first.expected_bytes,
            if first.phys_right { "right" } else { "WRONG" }
        )?;
        if let Some(phys) = first.phys {
            writeln!(out, "          out_phys {:#x}, expected {:#x}", phys.got, phys.expected)?;
        }
        Ok(())
    }
}

/// What a report is made from.
pub(super) struct Facts<'a> {
    pub(super) plan: &'a Plan,
    pub(super) device: String,
    pub(super) abi: Abi,
    pub(super) size: Bytes,
    pub(super) page: PageSize,
    pub(super) driven: Driven,
    pub(super) ledger: Ledger,
}

impl PlanReport {
    fn new(plan: &Plan, size_bytes: Bytes) -> Self {
        let Limit { count, duration } = plan.limit;
        Self {
            memory: plan.memory,
            size_bytes,
            iova: plan.iova,
            cap: plan.cap.to_string(),
            step: plan.step,
            threads: plan.threads.get(),
            count: count.map(std::num::NonZeroU64::get),
            duration_ns: duration.map(|duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        }
    }
}

impl DeliberateCount {
    fn new(seen: &FaultCount) -> Self {
        let expected = match seen.expected {
            Expected::Outcome(outcome) => Some(outcome.name()),
            Expected::Unknown => None,
        };
        Self { fault: seen.fault.name(), expected, outcome: seen.outcome.name(), count: seen.count }
    }

    fn as_expected(&self) -> bool {
        self.expected.as_ref().is_none_or(|expected| *expected == self.outcome)
    }
}
