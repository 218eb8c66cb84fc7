//! Exports: a recording in the formats that people's own tools read, all from the same histograms.
//!
//! A format is one file here and one line in [`FORMATS`]. It sees windows one after the other and the sum
//! at the end, so none needs more memory than one window and its own sums. Exact counts are the same in
//! every format. Refuses to read recordings, and to compute anything that `probe-model` computes.

mod csv;
mod hgrm;
mod hlog;
mod html;
mod json;
mod ndjson;
pub mod openmetrics;
pub mod otlp;
pub mod protobuf;
pub mod push;
pub mod server;
mod svg;

use std::io::{self, Write};

use probe_model::origin::{Header, Recording};
use probe_model::window::Window;

/// What a format is made with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The series to write, for formats that hold one; `None` takes the default one.
    pub series: Option<String>,
    /// Process names that may become labels of metrics.
    pub processes: usize,
}

/// An export being written.
pub trait Export {
    /// The beginning.
    fn begin(&mut self, _: &Header, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    /// The next window.
    fn window(&mut self, _: &Window, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    /// The end, with the sum of all windows.
    fn end(&mut self, whole: &Recording, out: &mut dyn Write) -> io::Result<()>;
}

/// A row of the list.
pub struct Format {
    /// On the command line.
    pub name: &'static str,
    /// For people.
    pub help: &'static str,
    /// Makes one.
    pub make: fn(&Options) -> Box<dyn Export>,
}

/// Every format.
pub const FORMATS: [Format; 9] = [
    Format { name: "hlog", help: "HdrHistogram interval log, a tag a series", make: hlog::make },
    Format { name: "hgrm", help: "HdrHistogram percentiles of one series", make: hgrm::make },
    Format { name: "openmetrics", help: "OpenMetrics text of the sums", make: openmetrics::make },
    Format { name: "otlp", help: "OpenTelemetry metrics of the sums, as OTLP JSON", make: otlp::make },
    Format { name: "csv", help: "figures, a line a window and series", make: csv::make },
    Format { name: "ndjson", help: "all counts, a JSON object a window", make: ndjson::make },
    Format { name: "json", help: "all counts of the whole, one JSON document", make: json::make },
    Format { name: "svg", help: "plot of the percentiles of every series", make: svg::make },
    Format { name: "html", help: "the report's page, with plots", make: html::make },
];

/// The format of a name.
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// What a comment says of a clock whose steps are no fraction of a latency; nothing else can, in formats that hold
/// values alone.
fn coarse(step: u64) -> Option<String> {
    let nanos = probe_model::unit::nanos(step);
    (step > 1).then(|| format!("the clock moves in steps of {nanos}: a value of 0 ns means less than that"))
}

/// What an option asks for is not in the recording.
fn no_such_series(name: &str, whole: &Recording) -> io::Error {
    let known: Vec<_> =
        probe_model::series::of(&whole.window.counters).into_iter().map(|series| series.name).collect();
    let known = if known.is_empty() { "none: it holds no calls".to_owned() } else { known.join(", ") };
    io::Error::new(io::ErrorKind::InvalidInput, format!("no series {name:?} in it; there are {known}"))
}

#[cfg(test)]
mod tests;
