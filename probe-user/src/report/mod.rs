//! A recording summed up: one value, shown as text or as JSON.
//!
//! Percentiles are computed here and stand in no recording. Every latency and length is an integer in
//! its base unit (ns, pages, bytes); text rounds for people.

mod backends;
pub mod difference;
pub mod html;
mod markdown;
mod pages;
mod plain;
mod share;

use std::collections::{BTreeMap, BTreeSet};

use probe_model::attribution::Row;
use probe_model::canary::Canary;
use probe_model::clock::{self, Jump};
use probe_model::company::{Company, Known};
use probe_model::cost::ProgramCost;
use probe_model::errno;
use probe_model::figures::{Figures, scan_lengths};
use probe_model::histogram::Histogram;
use probe_model::loss::{Balance, Cause, Flow};
use probe_model::origin::{End, Header, Mark, Recording};
use probe_model::sample::{Calls, Counters, Scans};
use probe_model::scan_cost::{self, Conditions, ScanCost, Told};
use probe_model::share::{self as shares, Share, WithoutProbes};
use probe_model::{series, text, unit};
use serde::Serialize;

pub use backends::BackendReport;
pub use html::write as write_html;
pub use markdown::write as write_markdown;
pub use plain::write as write_text;

/// Name and version of the JSON form.
pub const FORMAT: &str = "iovascope-report-1";

/// Everything a report shows.
#[derive(Debug, Serialize)]
pub struct Report {
    pub format: &'static str,
    pub header: Header,
    /// Length of the recording, ns by the monotonic clock.
    pub duration: u64,
    /// Windows that the recording holds.
    pub windows: u64,
    /// Whether the recording ended in order; if not, why not.
    pub unclean: Option<&'static str>,
    pub end: Option<End>,
    /// The dispatch site by command.
    pub dispatch: BTreeMap<String, CallsReport>,
    /// The `get_phys` site.
    pub get_phys: Option<ScansReport>,
    /// What became of the calls, by site.
    pub balance: BTreeMap<String, BalanceReport>,
    /// What each backend measured, where one took over from another; else empty.
    pub backends: Vec<BackendReport>,
    /// Every call of every site is in the figures.
    pub complete: bool,
    /// Where the part that is summed up begins and ends, ns since the recording began.
    pub from: u64,
    pub to: u64,
    /// Whether that is less than the whole: calls that began before it return in it, and the end says
    /// nothing of it.
    pub part: bool,
    /// What a scan costs: fixed, and a further page.
    pub scan_cost: Option<Told>,
    /// Time of successful scans over the pages of their runs, ns: the fixed cost of the calls is shared out
    /// among the pages.
    pub mean_nanos_per_page: Option<f64>,
    /// Whose calls, the longest time inside calls first.
    pub processes: Vec<ProcessReport>,
    /// Lock waits and scanning, by series.
    pub locks: BTreeMap<String, Figures>,
    /// Run time of iovascope's own programs; only where it was asked for.
    pub programs: BTreeMap<String, ProgramCost>,
    /// The recorder's own heartbeat: whether the probes are known to have been alive.
    pub canary: Canary,
    /// The least ns that the clock of latencies tells apart: the coarsest one where its source changed.
    pub clock_step: u64,
    /// Who else worked on our functions, inside our latencies.
    pub company: Company,
    /// Time that the machine slept meanwhile, ns.
    pub suspended: u64,
    /// By how much the wall clock was stepped meanwhile, ns: the sum of `steps`.
    pub stepped: i64,
    /// Each step of the wall clock, between two instants in ns since the recording began.
    pub steps: Vec<Jump>,
    pub marks: Vec<Mark>,
}

/// Calls of one process at one site; at `get_phys` of one process and IOAS.
#[derive(Debug, Clone, Serialize)]
pub struct ProcessReport {
    /// Its name, with what must not be printed escaped; `None` for all beyond the kernel's table.
    pub process: Option<String>,
    pub pid: Option<u32>,
    pub ioas: Option<u32>,
    /// The name is that of a thread that called; the process's own is not known.
    pub is_threads_name: bool,
    /// When it began, ns of `CLOCK_BOOTTIME`: tells processes apart that had the same number. `None` where it is not known.
    pub started: Option<u64>,
    pub site: String,
    pub calls: u64,
    pub failed: u64,
    pub nanos: u64,
    pub pages: u64,
    pub bytes: u64,
}

/// Calls of one command: latencies in ns.
#[derive(Debug, Serialize)]
pub struct CallsReport {
    pub calls: u64,
    pub ok: Figures,
    pub failed: Figures,
    /// Failed calls by errno name.
    pub errors: BTreeMap<String, u64>,
    /// The same without what the probes add.
    pub without_probes: WithoutProbes,
}

/// Calls of `iopt_get_phys`: latencies in ns.
#[derive(Debug, Serialize)]
pub struct ScansReport {
    pub calls: u64,
    pub ok: Option<Figures>,
    pub failed: Figures,
    pub errors: BTreeMap<String, u64>,
    /// Sum of the pages that the returned runs touch.
    pub pages: u64,
    /// Latency by scan length.
    pub by_scan_length: Vec<ScanLength>,
    /// Run length in bytes, by stop.
    pub runs: BTreeMap<String, Figures>,
    /// Latencies without what the probes add.
    pub without_probes: WithoutProbes,
}

/// Latency of scans of `from` to `to` pages.
#[derive(Debug, Serialize)]
pub struct ScanLength {
    pub from: u64,
    /// `None`: and longer.
    pub to: Option<u64>,
    pub latency: Figures,
}

/// What became of the calls of one site.
#[derive(Debug, Serialize)]
pub struct BalanceReport {
    pub calls: u64,
    pub measured: u64,
    pub lost: BTreeMap<Cause, u64>,
    pub in_flight: u64,
    pub unmatched: u64,
    /// What the laws of loss leave unexplained; 0 when they hold.
    pub unexplained: i128,
    pub complete: bool,
    /// Percentiles are biased low, because returns of slow calls were lost.
    pub biased: bool,
    /// The counters behind it.
    pub flow: Flow,
}

impl Report {
    /// Sum up a recording.
    pub fn of(recording: Recording) -> Self {
        let counters = &recording.window.counters;
        let since = |at: u64| at.saturating_sub(recording.header.started.monotonic);
        let balances = counters.balances().into_iter();
        let balance: BTreeMap<_, _> = balances
            .map(|(site, whole)| {
                (site.to_owned(), balance(counters.flow.get(site).copied().unwrap_or_default(), &whole))
            })
            .collect();
        let backends = backends::of(&recording);
        let complete = recording.is_complete();
        let step = recording.clock_step();
        let jump = |jump: Jump| Jump { from: since(jump.from), to: since(jump.to), ..jump };
        let steps: Vec<_> = recording.steps().into_iter().map(jump).collect();
        // Latencies of two backends are in one distribution: what each adds is not to be taken off all.
        let share = recording.header.shares.of(&recording.header.backend).filter(|_| backends.is_empty());
        let command = |(name, calls): (&String, &Calls)| {
            let without = share.map(|share| shares::of_command(share, name, calls, counters));
            (name.clone(), calls_of(calls, step, without.unwrap_or_default()))
        };
        Self {
            format: FORMAT,
            duration: u64::try_from(recording.window.duration().as_nanos()).unwrap_or(u64::MAX),
            windows: recording.windows,
            unclean: recording.unclean,
            dispatch: counters.dispatch.iter().map(command).collect(),
            get_phys: counters.get_phys.as_ref().map(|scans| scans_of(scans, step, share)),
            balance,
            backends,
            complete,
            from: since(recording.window.from.monotonic),
            part: recording.part,
            to: since(recording.window.to.monotonic),
            scan_cost: counters
                .get_phys
                .as_ref()
                .map(|scans| ScanCost::of(scans, Conditions::of(&recording.header)).into()),
            mean_nanos_per_page: counters.get_phys.as_ref().and_then(scan_cost::mean_per_page),
            processes: processes_of(counters),
            locks: locks_of(counters, step),
            programs: counters.programs.clone(),
            canary: counters.canary.clone(),
            company: counters.company.visible(),
            suspended: recording.suspended(),
            clock_step: step,
            stepped: steps.iter().fold(0, |sum, step| step.by.saturating_add(sum)),
            steps,
            header: recording.header,
            end: recording.end,
            marks: recording.marks,
        }
    }

    /// Whether it sums up only a part of the recording.
    pub fn is_part(&self) -> bool {
        self.part
    }

    /// Keep only what has to do with a command, or with a process. What is not kept by them (scans by
    /// process, for one) stays whole.
    pub fn keep(&mut self, command: Option<&str>, process: Option<&str>) {
        if let Some(command) = command {
            self.dispatch.retain(|name, _| name == command);
        }
        if let Some(process) = process {
            self.processes.retain(|row| row.process.as_deref() == Some(process));
        }
    }
}

fn processes_of(counters: &Counters) -> Vec<ProcessReport> {
    let row = |row: &Row| ProcessReport {
        process: row.who.as_ref().map(|who| text::visible(&who.comm)),
        pid: row.who.as_ref().map(|who| who.pid),
        ioas: row.who.as_ref().and_then(|who| who.ioas),
        is_threads_name: row.who.as_ref().is_some_and(|who| who.is_threads_name),
        started: row.who.as_ref().and_then(|who| who.started),
        site: row.site.clone(),
        calls: row.calls,
        failed: row.failed,
        nanos: row.nanos,
        pages: row.pages,
        bytes: row.bytes,
    };
    let mut rows: Vec<_> = counters.attribution.values().map(row).collect();
    rows.sort_by(|a, b| b.nanos.cmp(&a.nanos).then_with(|| a.pid.cmp(&b.pid)));
    rows
}

/// The IOAS of each row, where the process has rows of more than one.
fn telling_ioases(rows: &[ProcessReport]) -> Vec<Option<u32>> {
    let mut first = BTreeMap::new();
    let mut several = BTreeSet::new();
    for (pid, ioas) in rows.iter().filter_map(|row| Some((row.pid?, row.ioas?))) {
        if *first.entry(pid).or_insert(ioas) != ioas {
            several.insert(pid);
        }
    }
    rows.iter().map(|row| row.ioas.filter(|_| row.pid.is_some_and(|pid| several.contains(&pid)))).collect()
}

/// What to say of names that are not those of processes.
fn note_on_names(rows: &[ProcessReport]) -> Option<&'static str> {
    rows.iter()
        .any(|row| row.is_threads_name)
        .then_some("names are of threads that called: this kernel's types could not be read")
}

fn locks_of(counters: &Counters, step: u64) -> BTreeMap<String, Figures> {
    let locks = series::of(counters).into_iter().filter(|series| series.name.starts_with("lock."));
    locks.map(|series| (series.name.clone(), Figures::of_latency(&series.histogram).by_clock(step))).collect()
}

fn calls_of(calls: &Calls, step: u64, without_probes: WithoutProbes) -> CallsReport {
    CallsReport {
        calls: calls.count(),
        ok: Figures::of_latency(&calls.ok).by_clock(step),
        failed: Figures::of_latency(&calls.failed).by_clock(step),
        errors: named(&calls.errors),
        without_probes,
    }
}

fn scans_of(scans: &Scans, step: u64, share: Option<&Share>) -> ScansReport {
    let class = |(&class, histogram): (&u32, &Histogram)| {
        let (from, to) = scan_lengths(class);
        ScanLength { from, to, latency: Figures::of_latency(histogram).by_clock(step) }
    };
    ScansReport {
        calls: scans.count(),
        ok: scans.latency().map(|all| Figures::of_latency(&all).by_clock(step)),
        failed: Figures::of_latency(&scans.failed).by_clock(step),
        errors: named(&scans.errors),
        pages: scans.pages,
        by_scan_length: scans.ok.iter().map(class).collect(),
        runs: scans.runs.iter().map(|(stop, runs)| (stop.clone(), Figures::of_length(runs))).collect(),
        without_probes: share.map(|share| shares::of_scans(share, scans)).unwrap_or_default(),
    }
}

fn balance(flow: Flow, whole: &Balance) -> BalanceReport {
    let &Balance { calls, measured, ref lost, in_flight, unmatched, unexplained } = whole;
    BalanceReport {
        calls,
        measured,
        lost: lost.iter().copied().collect(),
        in_flight,
        unmatched,
        unexplained,
        complete: whole.is_complete(),
        biased: whole.is_biased(),
        flow,
    }
}

fn named(errors: &BTreeMap<u32, u64>) -> BTreeMap<String, u64> {
    errors.iter().map(|(&number, &count)| (errno::name(number), count)).collect()
}

/// Failed calls: of what, with which errno, how many.
fn errors(report: &Report) -> Vec<(&str, &str, u64)> {
    let by_command = report.dispatch.iter().map(|(name, calls)| (name.as_str(), &calls.errors));
    let by_site = report.get_phys.iter().map(|scans| ("get_phys", &scans.errors));
    let all = by_command.chain(by_site);
    all.flat_map(|(name, errors)| errors.iter().map(move |(errno, &count)| (name, errno.as_str(), count)))
        .collect()
}

/// What there is to say of company, for people.
fn company(report: &Report) -> Vec<String> {
    let mut lines = report.company.lines(report.header.started.monotonic);
    if report.company.known() == Known::Others {
        lines.push("what they do at these functions is inside the latencies".to_owned());
    }
    lines
}

/// The backend, and those that took over.
fn backends_of(report: &Report) -> String {
    let mut backends = report.header.backend.clone();
    for mark in &report.marks {
        if let Some(change) = &mark.change {
            let at = mark.at.monotonic.saturating_sub(report.header.started.monotonic);
            backends.extend([", from ", &unit::nanos(at), " on ", &change.to]);
        }
    }
    backends
}

/// Where and how it was recorded, for people.
fn facts(report: &Report) -> Vec<(String, String)> {
    let header = &report.header;
    let mut facts = vec![
        (
            "recorded".to_owned(),
            format!("{} for {}", plain::utc(header.started.realtime), unit::nanos(report.duration)),
        ),
        ("kernel".to_owned(), format!("Linux {} {}", header.kernel, header.machine)),
        ("backend".to_owned(), backends_of(report)),
        ("GET_PA".to_owned(), header.abi.clone()),
        ("pages".to_owned(), unit::bytes(header.page_size)),
        ("CPUs".to_owned(), header.cpus.to_string()),
        ("iovascope".to_owned(), header.tool.clone()),
    ];
    let mut add =
        |name: &str, value: Option<String>| facts.extend(value.map(|value| (name.to_owned(), value)));
    add("processor", header.host.cpu.clone());
    add("memory", header.host.memory.map(unit::bytes));
    add("NUMA nodes", header.host.numa_nodes.map(|nodes| nodes.to_string()));
    add("clock", Some(clock_of(report)));
    for (name, line) in clock_lines(report) {
        add(name, Some(line));
    }
    for mark in &report.marks {
        add("mark", Some(mark_of(report, mark)));
    }
    for line in company(report) {
        add("company", Some(line));
    }
    if report.is_part() {
        add("part", Some(format!("from {} to {}", unit::nanos(report.from), unit::nanos(report.to))));
    }
    facts.extend(header.tags.iter().map(|(name, value)| (format!("tag {name}"), value.clone())));
    facts
}

/// The clock of latencies, for people.
fn clock_of(report: &Report) -> String {
    let source = report.header.host.clocksource.as_deref().unwrap_or("of unknown source");
    match (report.clock_step, report.header.host.clock_step) {
        (0..=1, None) => format!("{source}; its step was not measured"),
        (step, _) if step < COARSE => format!("{source}, in steps of {}", unit::nanos(step)),
        (step, _) => {
            format!("{source}, in steps of {}: no latency is known better", unit::nanos(step))
        }
    }
}

/// A step of the clock from which on a latency is known worse than its bucket says: a bucket of a fast call is as wide.
const COARSE: u64 = 10;

/// Sleep and steps of the wall clock, for people.
fn clock_lines(report: &Report) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if report.suspended > 0 {
        let slept = unit::nanos(report.suspended);
        lines.push(("suspended", format!("{slept} beside that time, which no latency holds")));
    }
    for step in report.steps.iter().take(MOST_STEPS) {
        let (by, from, to) = (clock::signed(step.by), unit::nanos(step.from), unit::nanos(step.to));
        lines.push(("wall clock", format!("stepped by {by} between {from} and {to}")));
    }
    if report.steps.len() > MOST_STEPS {
        lines.push(("wall clock", format!("and {} more steps: see JSON", report.steps.len() - MOST_STEPS)));
    }
    lines
}

/// Steps of the wall clock that are shown.
const MOST_STEPS: usize = 10;

/// A mark and when it was, for people.
fn mark_of(report: &Report, mark: &Mark) -> String {
    let at = mark.at.monotonic.saturating_sub(report.header.started.monotonic);
    format!("{} at {}", mark.text, unit::nanos(at))
}
