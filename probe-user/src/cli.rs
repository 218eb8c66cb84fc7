//! The command line: the only file that knows clap's derive for the whole; each mode's arguments
//! are one struct here.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::workload::quantity::parse_duration;

mod dashboard;
pub mod load;

pub use dashboard::{DashboardArgs, ReplayArgs, TopArgs};

/// Watch and measure `IOMMU_IOAS_NOIOMMU_GET_PA` and the iommufd ioctl dispatch.
#[derive(Debug, Parser)]
#[command(name = "iovascope", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The command line of this process; ends it where that is none of ours.
    pub fn of_process() -> Self {
        let matches = Self::command().get_matches();
        let parsed = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        parsed.with(&matches)
    }

    /// The arguments of `iovascope load JOB`.
    pub fn load_of(job: &str) -> Result<load::LoadArgs, clap::Error> {
        let matches = Self::command().try_get_matches_from(["iovascope", "load", "--", job])?;
        match Self::from_arg_matches(&matches)?.with(&matches).command {
            Command::Load(args) => Ok(*args),
            _ => Err(clap::Error::new(clap::error::ErrorKind::InvalidSubcommand)),
        }
    }

    /// Add what the parsed values do not tell: which of them the user gave.
    fn with(mut self, matches: &ArgMatches) -> Self {
        if let (Command::Load(args), Some((_, matches))) = (&mut self.command, matches.subcommand()) {
            args.given = load::given(matches);
        }
        self
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch both sites live: a dashboard in the terminal.
    Top(TopArgs),
    /// A recording in the same dashboard: seek, step, play.
    Replay(ReplayArgs),
    /// Record both sites into a file or a stream.
    Record(RecordArgs),
    /// Sum a recording up.
    Report(ReportArgs),
    /// Serve metrics for Prometheus, and push them to OpenTelemetry.
    ///
    /// Counts by itself, or serves a recording: `iovascope record -o - | iovascope serve -` needs rights for
    /// the first half only.
    Serve(ServeArgs),
    /// Compare two recordings, or two settings of several recordings each.
    ///
    /// Exit status 5 when B is worse than A beyond the threshold.
    Diff(DiffArgs),
    /// Write a recording in the formats of other tools.
    Export(ExportArgs),
    /// Drive GET_PA: open a no-IOMMU device, map memory, query it, clean up.
    ///
    /// Opening resets the device. Exit status 1 where --verify finds a difference, 3 where this machine
    /// has no GET_PA, no such device, or not the rights.
    Load(Box<load::LoadArgs>),
    /// Say whether this machine (or a kernel image) can be observed, and if not what to do.
    ///
    /// Exit status 0 when this machine can record, or that kernel will do; 3 when not; 1 when the file
    /// cannot tell.
    Doctor(DoctorArgs),
    /// Become a command that does not outlive the process which asks for it: what `top` starts.
    #[command(hide = true)]
    Beside(BesideArgs),
}

#[derive(Debug, Args)]
pub struct BesideArgs {
    /// The process that asks
    pub parent: i32,
    /// The command
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// Ends after the duration, with the command, or on SIGINT, SIGTERM or SIGHUP. SIGUSR1 marks the moment.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// New file for the recording; `-` for stdout [default: iovascope-DATE-TIME.iova]
    #[arg(short, long, value_name = "FILE", env = "IOVASCOPE_RECORD_OUTPUT")]
    pub output: Option<PathBuf>,
    /// Time between two samples, such as 100ms or 1s
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = parse_interval,
          env = "IOVASCOPE_RECORD_INTERVAL")]
    pub interval: Duration,
    /// Time to record, such as 500ms, 5s or 2m [default: until the command ends or a signal comes]
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration, env = "IOVASCOPE_RECORD_DURATION")]
    pub duration: Option<Duration>,
    /// A word of yours to keep with the recording, such as host=a1 or kernel=patched; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag, env = "IOVASCOPE_RECORD_TAGS",
          value_delimiter = ',')]
    pub tags: Vec<(String, String)>,
    #[command(flatten)]
    pub source: SourceArgs,
    /// Exit with 4 when any call was lost
    #[arg(long, env = "IOVASCOPE_STRICT")]
    pub strict: bool,
    /// Say nothing when all went well
    #[arg(short, long, env = "IOVASCOPE_QUIET", conflicts_with = "verbose")]
    pub quiet: bool,
    /// Show the BPF side's diagnostics, a line a call: slow, for debugging the probes
    #[arg(short, long, env = "IOVASCOPE_VERBOSE")]
    pub verbose: bool,
    /// Command to run while recording
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// What is counted on this machine, and how.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line, each a choice of its own")]
pub struct SourceArgs {
    /// How to attach; `auto` takes the first that works of fsession, fentry,
    /// kprobe-session and kprobe
    #[arg(long, value_enum, value_name = "NAME", default_value = "auto", env = "IOVASCOPE_BACKEND")]
    pub backend: BackendChoice,
    /// Record one in N calls by itself too, by site and CPU
    #[arg(long, value_name = "N", env = "IOVASCOPE_CALLS_EVERY")]
    pub calls_every: Option<NonZeroU32>,
    /// Record every call by itself too that takes at least this long, such as 50us or 1ms
    #[arg(long, value_name = "TIME", value_parser = parse_duration, env = "IOVASCOPE_SLOWER")]
    pub slower: Option<Duration>,
    /// With --calls-every or --slower: record the IOVA too (it may be an address of the process)
    #[arg(long, env = "IOVASCOPE_INCLUDE_IOVA")]
    pub include_iova: bool,
    /// Record how long calls wait for the IOAS's lock and for the mutex of the pages
    #[arg(long, env = "IOVASCOPE_LOCKS")]
    pub locks: bool,
    /// Measure before counting what the probes add to a call, and show latencies without it too; takes about half a
    /// second
    #[arg(long, env = "IOVASCOPE_CALIBRATE")]
    pub calibrate: bool,
    /// Count the probes' own run time, and measure what they add as --calibrate does: that switches the kernel's BPF
    /// statistics on, for the whole machine, while it lasts, and makes every latency longer by what the report then
    /// says
    #[arg(long, env = "IOVASCOPE_SELF_COST")]
    pub self_cost: bool,
    /// Leave iommufd free to be unloaded meanwhile, by --backend kprobe alone: the other backends' programs hold the
    /// module; the gap is then recorded
    #[arg(long, env = "IOVASCOPE_UNPINNED")]
    pub unpinned: bool,
}

impl SourceArgs {
    /// Whether calls are to be recorded one by one.
    pub fn wants_calls(&self) -> bool {
        self.calls_every.is_some() || self.slower.is_some()
    }
}

/// How to attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BackendChoice {
    /// The best that works here
    Auto,
    /// One trampoline program per function: costs least (Linux 7.0, BTF)
    Fsession,
    /// A trampoline program each for entry and return (BTF)
    Fentry,
    /// One program per function over the function graph tracer: costs more, and sees every call where
    /// threads are in each other's way (Linux 6.17, BTF)
    KprobeSession,
    /// kprobe and kretprobe: everywhere, but loses returns when many calls wait at once
    Kprobe,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A recording; `-` for stdin
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Form of the report
    #[arg(short, long, value_enum, default_value = "text", env = "IOVASCOPE_REPORT_FORMAT")]
    pub format: ReportFormat,
    /// New file to write to; `-` for stdout
    #[arg(short, long, value_name = "FILE", default_value = "-", env = "IOVASCOPE_REPORT_OUTPUT")]
    pub output: PathBuf,
    #[command(flatten)]
    pub range: RangeArgs,
    /// Only this command, by its UAPI name without `IOMMU_`, such as `IOAS_MAP`
    #[arg(long, value_name = "NAME", env = "IOVASCOPE_REPORT_COMMAND")]
    pub command: Option<String>,
    /// Only the rows of processes of this name
    #[arg(long, value_name = "NAME", env = "IOVASCOPE_REPORT_PROCESS")]
    pub process: Option<String>,
    /// Exit with 4 when the recording is unclean or any call was lost
    #[arg(long, env = "IOVASCOPE_STRICT")]
    pub strict: bool,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A recording; `-` for stdin
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Format to write
    #[arg(short, long, value_name = "FORMAT", value_parser = formats(), env = "IOVASCOPE_EXPORT_FORMAT")]
    pub format: String,
    /// New file to write to; `-` for stdout
    #[arg(short, long, value_name = "FILE", default_value = "-", env = "IOVASCOPE_EXPORT_OUTPUT")]
    pub output: PathBuf,
    /// The series to write, for formats that hold one, such as `get_phys.ok` or `run.cap`
    #[arg(long, value_name = "NAME", env = "IOVASCOPE_EXPORT_SERIES")]
    pub series: Option<String>,
    /// How many process names may become labels of metrics
    #[arg(long, value_name = "N", default_value = "0", env = "IOVASCOPE_EXPORT_PROCESSES")]
    pub processes: usize,
    #[command(flatten)]
    pub range: RangeArgs,
    /// Exit with 4 when the recording is unclean or any call was lost
    #[arg(long, env = "IOVASCOPE_STRICT")]
    pub strict: bool,
}

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Recordings of one setting, separated by commas
    #[arg(value_name = "A,...", value_delimiter = ',', num_args = 1, required = true)]
    pub a: Vec<String>,
    /// Recordings of the other
    #[arg(value_name = "B,...", value_delimiter = ',', num_args = 1, required = true)]
    pub b: Vec<String>,
    /// How much worse B must be for exit status 5, such as 5%
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = parse_percent,
          env = "IOVASCOPE_DIFF_THRESHOLD")]
    pub threshold: f64,
    /// Form of the result
    #[arg(short, long, value_enum, default_value = "text", env = "IOVASCOPE_DIFF_FORMAT")]
    pub format: DiffFormat,
    /// Exit with 4 when a recording is unclean, any call was lost, a side is no evidence (empty, one window, a
    /// recording given twice) or nothing could be compared
    #[arg(long, env = "IOVASCOPE_STRICT")]
    pub strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DiffFormat {
    Text,
    Json,
}

/// `5%` or `5`, as a share.
fn parse_percent(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim_end_matches('%').trim().parse().ok();
    let share = number.map(|percent| percent / 100.0).filter(|share| (0.0..=100.0).contains(share));
    share.ok_or_else(|| format!("`{text}` is not a percentage, such as 5%"))
}

/// Ends on SIGINT, SIGTERM or SIGHUP, after the duration, or with the stream that it serves.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A recording to serve instead of counting; `-` for one that comes on stdin
    #[arg(value_name = "FILE")]
    pub file: Option<String>,
    /// Address and port of the endpoint
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9837", env = "IOVASCOPE_SERVE_LISTEN")]
    pub listen: SocketAddr,
    /// Let other machines reach the endpoint
    #[arg(long, env = "IOVASCOPE_SERVE_ALLOW_REMOTE")]
    pub allow_remote: bool,
    /// File with a token that scrapers must know (`Authorization: Bearer ...`)
    #[arg(long, value_name = "FILE", env = "IOVASCOPE_SERVE_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Serve over TLS with these certificates, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "IOVASCOPE_SERVE_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the first certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "IOVASCOPE_SERVE_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// Push to a collector too, over HTTP, such as `http://127.0.0.1:4318/v1/metrics`
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")]
    pub otlp: Option<String>,
    /// Headers of the push, NAME=VALUE,...
    #[arg(long, value_name = "LIST", env = "OTEL_EXPORTER_OTLP_HEADERS", hide_env_values = true)]
    pub otlp_headers: Option<String>,
    /// How many process names may become labels
    #[arg(long, value_name = "N", default_value = "0", env = "IOVASCOPE_SERVE_PROCESSES")]
    pub processes: usize,
    /// Record into this new file too, from the same samples
    #[arg(short, long, value_name = "FILE", env = "IOVASCOPE_SERVE_OUTPUT")]
    pub output: Option<PathBuf>,
    /// Time between two samples
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = parse_interval,
          env = "IOVASCOPE_SERVE_INTERVAL")]
    pub interval: Duration,
    /// Time to serve [default: until a signal comes]
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration, env = "IOVASCOPE_SERVE_DURATION")]
    pub duration: Option<Duration>,
    /// A word of yours to keep with the recording and the pushed metrics; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag, env = "IOVASCOPE_SERVE_TAGS",
          value_delimiter = ',')]
    pub tags: Vec<(String, String)>,
    #[command(flatten)]
    pub source: SourceArgs,
    /// Say nothing when all is well
    #[arg(short, long, env = "IOVASCOPE_QUIET")]
    pub quiet: bool,
}

/// Part of a recording: the windows that end in it.
#[derive(Debug, Clone, Copy, Args)]
pub struct RangeArgs {
    /// Leave out what was recorded before this time from the beginning, such as 10s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub from: Option<Duration>,
    /// Leave out what was recorded after this time from the beginning
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub to: Option<Duration>,
}

fn formats() -> clap::builder::PossibleValuesParser {
    let formats = crate::export::FORMATS.iter();
    formats
        .map(|format| clap::builder::PossibleValue::new(format.name).help(format.help))
        .collect::<Vec<_>>()
        .into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// For a terminal
    Text,
    /// For an issue or a wiki
    Markdown,
    /// For programs: docs/report.schema.json
    Json,
    /// One page with plots, for a browser; it fetches nothing
    Html,
}

/// A tag: the key is a name that any format can hold, the value is any short text without control characters.
fn parse_tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.';
    if key.is_empty() || key.len() > 64 || !key.chars().all(name) {
        return Err(format!("`{key}`: a tag's name has 1 to 64 letters, digits, `.`, `_` or `-`"));
    }
    if value.len() > 256 || value.chars().any(char::is_control) {
        return Err(format!("the value of `{key}` has more than 256 bytes, or control characters"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Below a millisecond sampling would cost more than the probes.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text).map_err(|error| error.to_string())?;
    if interval < Duration::from_millis(1) {
        return Err("the interval must be at least 1ms".to_owned());
    }
    Ok(interval)
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Look at a kernel instead of this machine: vmlinux, vmlinuz, or iommufd.ko, packed or not
    #[arg(long, value_name = "FILE", env = "IOVASCOPE_DOCTOR_KERNEL")]
    pub kernel: Option<PathBuf>,
    /// Write the diagnosis as JSON
    #[arg(long, env = "IOVASCOPE_DOCTOR_JSON")]
    pub json: bool,
}
