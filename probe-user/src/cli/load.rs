//! `iovascope load`: its flags, and a job of a file as the same flags.
//!
//! A file's keys are the long names of [`JobArgs`]; what is given on the command line or in the
//! environment outranks the file.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, CommandFactory as _, Parser};

use crate::exit::Usage;
use crate::workload::churn;
use crate::workload::faults::{Fault, FaultPlan};
use crate::workload::memory::{self, Memory};
use crate::workload::pace::Arrivals;
use crate::workload::quantity::{Bytes, Iova, parse_duration};
use crate::workload::queries::{self, Cap, Queries};
use crate::workload::via::Way;
use crate::workload::words::Words;

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct LoadArgs {
    /// Jobs to run: a ready one by its name (--list-jobs), or a TOML file. Flags outrank what it says
    #[arg(value_name = "JOB")]
    pub file: Option<String>,
    #[command(flatten)]
    pub job: JobArgs,
    /// VFIO node to drive, such as /dev/vfio/devices/noiommu-vfio0 [default: the first one found]
    #[arg(long, value_name = "PATH", env = "IOVASCOPE_LOAD_DEVICE", help_heading = "Device")]
    pub device: Option<PathBuf>,
    /// Bind this PCI device (0000:00:05.0) to vfio-pci for the run and let it go afterwards: resets it
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "IOVASCOPE_LOAD_BIND",
        conflicts_with = "device",
        help_heading = "Device"
    )]
    pub bind: Option<String>,
    /// Do not ask before --bind changes anything
    #[arg(long, env = "IOVASCOPE_YES", help_heading = "Device")]
    pub yes: bool,
    /// Put back what a killed run with --bind has left, and do nothing else
    #[arg(long, exclusive = true, help_heading = "Device")]
    pub restore: bool,
    /// Refuse to pin more than this at once [default: a quarter of what is available; none for pools]
    #[arg(long, value_name = "BYTES", env = "IOVASCOPE_LOAD_PIN_LIMIT", help_heading = "Device")]
    pub pin_limit: Option<Bytes>,
    /// Show the ready jobs and the question that each answers
    #[arg(long, exclusive = true, help_heading = "Output")]
    pub list_jobs: bool,
    /// Print the job file that does what these flags do, and do nothing else
    #[arg(long, help_heading = "Output")]
    pub print_job: bool,
    /// Write the result as JSON
    #[arg(long, env = "IOVASCOPE_LOAD_JSON", help_heading = "Output")]
    pub json: bool,
    /// Write the result as JSON to a new file
    #[arg(short, long, value_name = "FILE", env = "IOVASCOPE_LOAD_OUTPUT", help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// What to show on stderr meanwhile: a line that renews itself on a terminal, a JSON object a second
    #[arg(
        long,
        value_enum,
        default_value = "auto",
        env = "IOVASCOPE_LOAD_PROGRESS",
        help_heading = "Output"
    )]
    pub progress: ProgressChoice,
    /// Words of [`JobArgs`] that were given.
    #[arg(skip)]
    pub given: Words,
}

/// One job: the words of the command line and of job files.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[command(next_help_heading = "Job")]
pub struct JobArgs {
    /// Name of the job in the result
    #[arg(long, value_name = "NAME", default_value = "load")]
    pub label: String,
    /// What the mapped buffer is made of
    #[arg(long, value_name = "KIND", default_value = "anon", env = "IOVASCOPE_LOAD_MEMORY",
          long_help = help("What the mapped buffer is made of:",
                           memory::KINDS.iter().map(|kind| (kind.name, kind.about))),
          value_parser = by_name(Memory::named, memory::KINDS.iter().map(|kind| kind.name)))]
    pub memory: Memory,
    /// Size of the buffer, rounded up to whole pages
    #[arg(long, value_name = "BYTES", default_value = "64M", env = "IOVASCOPE_LOAD_SIZE")]
    pub size: Bytes,
    /// IOVA of the buffer [default: behind those of the jobs that it runs with]
    #[arg(long, value_name = "ADDRESS", env = "IOVASCOPE_LOAD_IOVA")]
    pub iova: Option<Iova>,
    /// IOASes that hold the buffer; threads take turns
    #[arg(long, value_name = "N", default_value = "1", env = "IOVASCOPE_LOAD_IOASES",
          value_parser = up_to(MOST_IOASES))]
    pub ioases: NonZeroU64,
    /// Keep huge pages out of the IOAS's page tables (`IOMMU_OPTION_HUGE_PAGES`)
    #[arg(long, env = "IOVASCOPE_LOAD_NO_HUGE_PAGES")]
    pub no_huge_pages: bool,
    /// Which address each call asks for
    #[arg(long, value_name = "PATTERN", alias = "step", default_value = "returned",
          env = "IOVASCOPE_LOAD_QUERIES",
          long_help = help("Which address each call asks for:",
                           queries::KINDS.iter().map(|kind| (kind.name, kind.about))),
          value_parser = by_name(Queries::named, queries::KINDS.iter().map(|kind| kind.name)))]
    pub queries: Queries,
    /// Length to ask for: bytes, `page`, `area` (to the end of the buffer) or `max` (2^64 - 1)
    #[arg(long, value_name = "LENGTH", default_value = "page", env = "IOVASCOPE_LOAD_CAP")]
    pub cap: Cap,
    /// Map and unmap meanwhile
    #[arg(long, value_name = "PATTERN", env = "IOVASCOPE_LOAD_CHURN",
          long_help = help("Map and unmap meanwhile:", churn::KINDS.iter().map(|kind| (kind.name, kind.about))),
          value_parser = by_name(churn::Kind::named, churn::KINDS.iter().map(|kind| kind.name)))]
    pub churn: Option<&'static churn::Kind>,
    /// Threads that map and unmap
    #[arg(long, value_name = "N", default_value = "1", requires = "churn", value_parser = up_to(MOST_THREADS))]
    pub churn_threads: NonZeroU64,
    /// Size of each mapping that comes and goes
    #[arg(long, value_name = "BYTES", default_value = "2M", requires = "churn")]
    pub churn_size: Bytes,
    /// Calls that fail on purpose: NAME=COUNT on top of the others, or NAME=SHARE% of all
    #[arg(long, value_name = "LIST", env = "IOVASCOPE_LOAD_ERRORS",
          long_help = format!("Calls that fail on purpose: NAME=COUNT on top of the others, or NAME=SHARE% of \
                               all. Names: {}", Fault::names()))]
    pub errors: Option<FaultPlan>,
    /// Calls to make, over all threads [default: 20000 where no duration is given]
    #[arg(short, long, value_name = "N", env = "IOVASCOPE_LOAD_COUNT")]
    pub count: Option<NonZeroU64>,
    /// Time to run, such as 500ms, 5s or 2m
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration, env = "IOVASCOPE_LOAD_DURATION")]
    pub duration: Option<Duration>,
    /// Time to run before anything is measured
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration,
          env = "IOVASCOPE_LOAD_WARM_UP")]
    pub warm_up: Duration,
    /// Open loop: calls a second over all threads, due whatever became of the ones before [default: a
    /// closed loop, each thread as fast as it can]
    #[arg(long, value_name = "CALLS", value_parser = parse_rate, env = "IOVASCOPE_LOAD_RATE")]
    pub rate: Option<f64>,
    /// How the calls of an open loop are spread: `constant` or `poisson`
    #[arg(long, value_name = "KIND", default_value = "constant", requires = "rate",
          value_parser = by_name(Arrivals::named, Arrivals::ALL.map(Arrivals::name)))]
    pub arrivals: Arrivals,
    /// Closed loop: read the clock once a call and not twice, and where the kernel keeps time by it, the
    /// time-stamp counter itself. Service times then hold the driver's own work between two calls, about a
    /// hundred instructions
    #[arg(long, conflicts_with = "rate", env = "IOVASCOPE_LOAD_ONE_CLOCK")]
    pub one_clock: bool,
    /// Threads that ask, each from its own offset
    #[arg(long, value_name = "N", default_value = "1", env = "IOVASCOPE_LOAD_THREADS",
          value_parser = up_to(MOST_THREADS))]
    pub threads: NonZeroU64,
    /// CPUs to pin the threads to, in turn: 0,2-3
    #[arg(long, value_name = "LIST", value_parser = parse_cpus, env = "IOVASCOPE_LOAD_CPUS")]
    pub cpus: Option<Cpus>,
    /// Of everything that is random: the same seed gives the same calls
    #[arg(long, value_name = "N", default_value = "1", env = "IOVASCOPE_LOAD_SEED")]
    pub seed: u64,
    /// Check every answer against /proc/self/pagemap; exit status 1 where one differs
    #[arg(long, env = "IOVASCOPE_LOAD_VERIFY")]
    pub verify: bool,
    /// With --verify: show the physical addresses of the first difference
    #[arg(long, requires = "verify", env = "IOVASCOPE_LOAD_SHOW_ADDRESSES")]
    pub show_addresses: bool,
    /// Ways to ask, one run each over the same memory, compared at the end
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "get-pa", env = "IOVASCOPE_LOAD_VIA",
          long_help = help("Ways to ask, one run each over the same memory, compared at the end:",
                           Way::ALL.map(|way| (way.name(), way.about()))),
          value_parser = by_name(Way::named, Way::ALL.map(Way::name)))]
    pub via: Vec<Way>,
}

/// CPUs by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

/// What `load` shows while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressChoice {
    /// A line on a terminal, else nothing
    Auto,
    Never,
    /// A JSON object a line, once a second
    Ndjson,
}

/// A job's flags alone.
#[derive(Parser)]
#[command(name = "load", no_binary_name = true)]
struct JobLine {
    #[command(flatten)]
    job: JobArgs,
}

impl JobArgs {
    /// The job that the words make.
    pub fn of(words: &Words) -> Result<Self, Usage> {
        let parsed = JobLine::try_parse_from(words.arguments());
        parsed.map(|line| line.job).map_err(|error| {
            let text = error.render().to_string();
            let first = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
            let first = first.collect::<Vec<_>>().join(" ");
            let tip = text.lines().find(|line| line.trim_start().starts_with("tip:")).unwrap_or_default();
            Usage(format!("{} {}", first.trim_start_matches("error: "), tip.trim()).trim_end().to_owned())
        })
    }
}

/// The words that the user gave, by flag or by environment.
pub fn given(matches: &ArgMatches) -> Words {
    let mut words = BTreeMap::new();
    for argument in JobLine::command().get_arguments() {
        let (id, Some(long)) = (argument.get_id().as_str(), argument.get_long()) else { continue };
        let by_user =
            matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable));
        if !by_user {
            continue;
        }
        let value = if matches!(argument.get_action(), ArgAction::SetTrue) {
            // The environment may say `false`.
            if !matches.get_flag(id) {
                continue;
            }
            "true".to_owned()
        } else {
            let values = matches.get_raw(id).into_iter().flatten();
            values.map(|value| value.to_string_lossy().into_owned()).collect::<Vec<_>>().join(",")
        };
        words.insert(long.to_owned(), value);
    }
    Words(words)
}

/// More threads than this measure the scheduler.
const MOST_THREADS: u64 = 1024;
const MOST_IOASES: u64 = 64;

fn up_to(most: u64) -> impl Fn(&str) -> Result<NonZeroU64, String> + Clone + Send + Sync {
    move |text| {
        let number = text.parse().ok().filter(|number: &NonZeroU64| number.get() <= most);
        number.ok_or_else(|| format!("`{text}` is not a number from 1 to {most}"))
    }
}

/// A parser of names from a list; an unknown one is answered with the list.
fn by_name<T: Clone + Send + Sync + 'static>(
    find: fn(&str) -> Option<T>,
    names: impl IntoIterator<Item = &'static str>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync {
    let names: Vec<&str> = names.into_iter().collect();
    move |text| find(text).ok_or_else(|| format!("there are {}", names.join(", ")))
}

fn help(head: &str, rows: impl IntoIterator<Item = (&'static str, &'static str)>) -> String {
    let rows = rows.into_iter().map(|(name, about)| format!("\n- {name}: {about}"));
    std::iter::once(head.to_owned()).chain(rows).collect()
}

fn parse_rate(text: &str) -> Result<f64, String> {
    /// A call a nanosecond.
    const MOST: f64 = 1e9;
    let rate = text.parse::<f64>().ok().filter(|rate| *rate > 0.0 && *rate <= MOST);
    rate.ok_or_else(|| format!("`{text}` is not a number of calls a second"))
}

fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let bad = || format!("`{text}` is not a list of CPUs such as 0,2-3");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            text.trim().parse::<usize>().ok().filter(|&cpu| cpu < rustix::thread::CpuSet::MAX_CPU)
        };
        let (first, last) = (number(first).ok_or_else(bad)?, number(last).ok_or_else(bad)?);
        if first > last {
            return Err(bad());
        }
        cpus.extend(first..=last);
    }
    Ok(Cpus(cpus))
}

#[cfg(test)]
mod tests;
