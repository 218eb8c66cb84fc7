//! What a run found: the shape of `iovascope load --json`.
//!
//! Holds everything that is needed to repeat the run, and the model's own histograms, so that what shows
//! or exports a recording's distributions can take these.

mod text;

use probe_model::figures::Figures;
use probe_model::histogram::Histogram;
use serde::Serialize;

use super::abi::Abi;
use super::board::Times;
use super::drive::{ChurnSeen, Driven};
use super::faults::{Expected, Fault};
use super::lane::{Ended, FaultCount};
use super::outcome::Ledger;
use super::plan::{Job, Plan};
use super::quantity::{Bytes, Iova, PageSize};
use super::shape::Shape;
use super::verify::Verdict;
use super::via::Way;
use super::words::{Entry, JobFile, Words};

/// Name and version of the JSON shape.
const SCHEMA: &str = "iovascope.load/2";

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub schema: &'static str,
    /// Version of this program.
    pub tool: &'static str,
    pub pid: u32,
    pub kernel: String,
    pub machine: String,
    /// CPUs that were online.
    pub cpus: usize,
    pub page_size: PageSize,
    pub abi: Abi,
    pub device: String,
    /// Whether the device could write memory at the end: never, or the run is refused.
    pub bus_master: Option<bool>,
    /// ns since 1970 UTC.
    pub started_realtime_ns: u64,
    pub question: Option<String>,
    /// A file of jobs that does the same again: `iovascope load FILE`.
    pub repeat: String,
    pub jobs: Vec<JobReport>,
    /// Every iommufd ioctl of this process, set-up, clean-up, warm-up and the ABI canary included.
    pub ioctls: Vec<IoctlCount>,
}

/// One job by one way.
#[derive(Debug, Clone, Serialize)]
pub struct JobReport {
    pub label: String,
    /// Jobs of one stage ran together; counted from 1.
    pub stage: usize,
    pub via: &'static str,
    /// The flags that make this job.
    pub words: Words,
    pub seed: u64,
    /// Of the arguments of every call of the loop, warm-up included: the same for the same seed, where
    /// the limit is a count and queries do not follow answers.
    pub arguments_hash: String,
    pub follows_answers: bool,
    pub buffer: BufferReport,
    pub ended: Ended,
    /// From the first thread's start, after the warm-up, to the last one's end.
    pub elapsed_ns: u64,
    pub rate: Rate,
    /// Successful and failed calls, deliberate failures included.
    pub calls: u64,
    pub clock: ClockReport,
    /// From the call to its return, ns.
    pub service_ns: Latencies,
    /// From the moment a call was due to its return, ns. In a closed loop nothing is due: absent.
    pub response_ns: Option<Latencies>,
    /// What successful calls returned, bytes.
    pub run_bytes: Option<Distribution>,
    /// Why scans ended; absent where the kernel ignores the cap.
    pub stops: Option<Stops>,
    /// By the length asked for, where the pattern sweeps it.
    pub by_cap: Vec<CapReport>,
    pub deliberate: Vec<DeliberateCount>,
    /// Absent without `--verify`.
    pub verify: Option<Verdict>,
    pub churn: Option<ChurnReport>,
    /// The loop's ioctls, churn included and warm-up not.
    pub ioctls: Vec<IoctlCount>,
    /// Calls of the warm-up.
    pub warm_up: Vec<IoctlCount>,
    /// Why a thread runs on other CPUs than it was to.
    pub not_pinned: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct BufferReport {
    /// Rounded up to whole pages.
    pub size_bytes: Bytes,
    pub iova: Iova,
    pub ioases: usize,
    /// Mappings that it is made of.
    pub areas: u64,
    /// Absent where pagemap hides the frames.
    pub layout: Option<Shape>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rate {
    /// Asked for; absent in a closed loop.
    pub intended_per_second: Option<f64>,
    pub achieved_per_second: f64,
    /// Calls that were due before the end and never began: more than a few of them mean that the rate
    /// was beyond what this machine does, and response times are lower bounds.
    pub owed: u64,
}

/// How the loop's calls were timed.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ClockReport {
    /// `CLOCK_MONOTONIC`, or `tsc`: the time-stamp counter, at a rate measured before the loop.
    pub name: &'static str,
    /// 1: the end of a call is the beginning of the next, and service times hold the driver's own work.
    pub readings_per_call: u8,
    /// How far `tsc` was from `CLOCK_MONOTONIC` at the end of the loop, ns: the most of all threads.
    pub off_ns: Option<u64>,
}

/// A distribution with its figures.
#[derive(Debug, Clone, Serialize)]
pub struct Distribution {
    #[serde(flatten)]
    pub figures: Figures,
    pub histogram: Histogram,
}

#[derive(Debug, Clone, Serialize)]
pub struct Latencies {
    pub ok: Option<Distribution>,
    pub failed: Option<Distribution>,
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
pub struct CapReport {
    pub cap_bytes: u64,
    /// Sum over the successful calls.
    pub run_bytes: u64,
    pub service_ns: Distribution,
}

#[derive(Debug, Clone, Serialize)]
pub struct DeliberateCount {
    pub fault: &'static str,
    /// What this version of the ABI answers; absent where that is not known.
    pub expected: Option<String>,
    pub outcome: String,
    pub count: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct ChurnReport {
    pub map_ns: Latencies,
    pub unmap_ns: Latencies,
}

#[derive(Debug, Clone, Serialize)]
pub struct IoctlCount {
    /// UAPI name without `IOMMU_`.
    pub command: &'static str,
    /// `ok` or the errno's name.
    pub outcome: String,
    pub count: u64,
}

/// What a report is made from.
pub(super) struct Facts<'a> {
    pub(super) plan: &'a Plan,
    pub(super) device: String,
    pub(super) bus_master: Option<bool>,
    pub(super) abi: Abi,
    pub(super) page: PageSize,
    pub(super) started: u64,
    pub(super) driven: Vec<Driven>,
    /// Set-up and clean-up.
    pub(super) ledger: Ledger,
}

impl Report {
    pub(super) fn new(facts: Facts<'_>) -> Self {
        let Facts { plan, device, bus_master, abi, page, started, driven, mut ledger } = facts;
        for one in &driven {
            ledger.merge(&one.warm_up);
            ledger.merge(&calls(one));
        }
        let uname = rustix::system::uname();
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        // Of a draft, the loop's memory may have told more than the canary.
        let abi = driven.iter().map(|one| one.abi).find(|known| *known != Abi::Draft).unwrap_or(abi);
        Self {
            schema: SCHEMA,
            tool: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            kernel: text(uname.release()),
            machine: text(uname.machine()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            page_size: page,
            abi,
            device,
            bus_master,
            started_realtime_ns: started,
            question: plan.question.clone(),
            repeat: repeat(plan),
            jobs: driven
                .iter()
                .filter_map(|one| Some(JobReport::new(plan.stages.get(one.stage - 1)?.get(one.index)?, one)))
                .collect(),
            ioctls: counts(&ledger),
        }
    }

    /// Whether what was to be verified held, deliberate failures included.
    pub fn holds(&self) -> bool {
        self.jobs.iter().all(JobReport::holds)
    }
}

/// The plan as a file of jobs, every seed written out.
pub(super) fn repeat(plan: &Plan) -> String {
    let jobs = plan.stages.iter().flat_map(|stage| {
        stage.iter().enumerate().map(|(index, job)| Entry { words: job.words.clone(), together: index > 0 })
    });
    JobFile { question: plan.question.clone(), answer: None, jobs: jobs.collect() }.print()
}

/// The loop's ioctls: other ways than GET_PA make none.
fn calls(driven: &Driven) -> Ledger {
    let mut ledger = if driven.way == Way::GetPa { driven.sum.ledger() } else { Ledger::default() };
    if let Some(churn) = &driven.churn {
        ledger.merge(&churn.ledger);
    }
    ledger
}

impl JobReport {
    fn new(job: &Job, driven: &Driven) -> Self {
        let sum = &driven.sum;
        let seconds = driven.elapsed as f64 / 1e9;
        let calls_made = sum.service.count();
        let caps_are_kept = driven.way != Way::GetPa || matches!(driven.abi, Abi::Merged | Abi::NoLimit);
        Self {
            label: job.label.clone(),
            stage: driven.stage,
            via: driven.way.name(),
            words: job.words.clone(),
            seed: job.seed,
            arguments_hash: driven.hash.to_string(),
            follows_answers: job.queries.follows_answers(),
            buffer: BufferReport {
                size_bytes: driven.targets[0].size,
                iova: driven.targets[0].start,
                ioases: driven.targets.len(),
                areas: driven.areas,
                layout: driven.shape.clone(),
            },
            ended: driven.ended,
            elapsed_ns: driven.elapsed,
            rate: Rate {
                intended_per_second: job.pace.rate(),
                achieved_per_second: if seconds > 0.0 { calls_made as f64 / seconds } else { 0.0 },
                owed: driven.owed,
            },
            calls: calls_made,
            clock: ClockReport {
                name: if driven.clock_off.is_some() { "tsc" } else { "CLOCK_MONOTONIC" },
                readings_per_call: if job.one_clock { 1 } else { 2 },
                off_ns: driven.clock_off,
            },
            service_ns: Latencies::new(&sum.service),
            response_ns: sum.response.as_ref().map(Latencies::new),
            run_bytes: length(&sum.runs),
            stops: caps_are_kept
                .then(|| Stops { cap: sum.capped, short: sum.service.ok.count.saturating_sub(sum.capped) }),
            by_cap: by_cap(driven),
            deliberate: driven.faults.iter().map(DeliberateCount::new).collect(),
            verify: job.verify.map(|_| driven.verdict.clone()),
            churn: driven.churn.as_ref().map(ChurnReport::new),
            ioctls: counts(&calls(driven)),
            warm_up: counts(&driven.warm_up),
            not_pinned: driven.unpinned.map(|errno| super::outcome::Outcome::from(errno).name()),
        }
    }

    fn holds(&self) -> bool {
        let Some(verdict) = &self.verify else { return true };
        verdict.differences == 0 && self.deliberate.iter().all(DeliberateCount::as_expected)
    }
}

fn by_cap(driven: &Driven) -> Vec<CapReport> {
    let classes = driven.caps.iter().zip(&driven.sum.classes);
    classes
        .filter_map(|(&cap_bytes, (times, run_bytes))| {
            Some(CapReport { cap_bytes, run_bytes: *run_bytes, service_ns: latency(times)? })
        })
        .collect()
}

fn counts(ledger: &Ledger) -> Vec<IoctlCount> {
    let count = |(command, outcome, count): (super::outcome::Command, super::outcome::Outcome, u64)| {
        IoctlCount { command: command.name(), outcome: outcome.name(), count }
    };
    ledger.iter().map(count).collect()
}

fn latency(histogram: &Histogram) -> Option<Distribution> {
    let figures = Figures::of_latency(histogram).by_clock(super::clock::step());
    (!histogram.is_empty()).then(|| Distribution { figures, histogram: histogram.clone() })
}

fn length(histogram: &Histogram) -> Option<Distribution> {
    let figures = Figures::of_length(histogram);
    (!histogram.is_empty()).then(|| Distribution { figures, histogram: histogram.clone() })
}

impl Latencies {
    fn new(times: &Times) -> Self {
        Self { ok: latency(&times.ok), failed: latency(&times.failed) }
    }
}

impl ChurnReport {
    fn new(seen: &ChurnSeen) -> Self {
        Self { map_ns: Latencies::new(&seen.map), unmap_ns: Latencies::new(&seen.unmap) }
    }
}

impl DeliberateCount {
    fn new(seen: &FaultCount) -> Self {
        let expected = match seen.expected {
            Expected::Outcome(outcome) => Some(outcome.name()),
            Expected::Unknown => None,
        };
        Self { fault: Fault::name(seen.fault), expected, outcome: seen.outcome.name(), count: seen.count }
    }

    fn as_expected(&self) -> bool {
        self.expected.as_ref().is_none_or(|expected| *expected == self.outcome)
    }
}
