//! HdrHistogram's percentile text (`.hgrm`), as its own tools print it: the form that plotters read.
//!
//! Durations are in µs with three decimals, so every ns shows; lengths in bytes.

use std::io::{self, Write};

use hdrhistogram::Histogram;
use probe_model::origin::Recording;
use probe_model::series::{self, Unit};

use super::{Export, Options, no_such_series};

/// The series that is meant where none is named.
const DEFAULT: &str = "dispatch.IOAS_NOIOMMU_GET_PA.ok";
/// Lines per halving of the distance to 100 %, HdrHistogram's default.
const TICKS: u32 = 5;

pub(super) fn make(options: &Options) -> Box<dyn Export> {
    Box::new(Percentiles { series: options.series.clone().unwrap_or_else(|| DEFAULT.to_owned()) })
}

struct Percentiles {
    series: String,
}

impl Export for Percentiles {
    fn end(&mut self, whole: &Recording, out: &mut dyn Write) -> io::Result<()> {
        let series = series::of(&whole.window.counters).into_iter().find(|series| series.name == self.series);
        let series = series.ok_or_else(|| no_such_series(&self.series, whole))?;
        let hdr = series.histogram.to_hdr().map_err(|error| io::Error::other(error.to_string()))?;
        let scale = match series.unit {
            Unit::Nanos => 1e3,
            Unit::Bytes => 1.0,
        };
        write(&hdr, scale, out)?;
        match series.histogram.saturated {
            0 => Ok(()),
            beyond => writeln!(out, "#[{beyond} more values are beyond the range]"),
        }
    }
}

/// The text of `AbstractHistogram.outputPercentileDistribution` (HdrHistogram 2.1, Java).
fn write(hdr: &Histogram<u64>, scale: f64, out: &mut dyn Write) -> io::Result<()> {
    let digits = 3;
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut total = 0;
    for step in hdr.iter_quantiles(TICKS) {
        let value = step.value_iterated_to() as f64 / scale;
        let share = step.quantile_iterated_to();
        total += step.count_since_last_iteration();
        if share < 1.0 {
            let inverse = 1.0 / (1.0 - share);
            writeln!(out, "{value:12.digits$} {share:14.12} {total:>10} {inverse:14.2}")?;
        } else {
            writeln!(out, "{value:12.digits$} {share:14.12} {total:>10}")?;
        }
    }
    let (mean, deviation) = (hdr.mean() / scale, hdr.stdev() / scale);
    writeln!(out, "#[Mean    = {mean:12.digits$}, StdDeviation   = {deviation:12.digits$}]")?;
    let (max, total) = (hdr.max() as f64 / scale, hdr.len());
    writeln!(out, "#[Max     = {max:12.digits$}, Total count    = {total:>12}]")?;
    let (buckets, sub_buckets) = shape(hdr);
    writeln!(out, "#[Buckets = {buckets:>12}, SubBuckets     = {sub_buckets:>12}]")
}

/// Buckets and sub-buckets as Java counts them.
fn shape(hdr: &Histogram<u64>) -> (u32, u32) {
    let sub_buckets = (2 * 10u64.pow(u32::from(hdr.sigfig()))).next_power_of_two();
    let mut buckets = 1;
    let mut untrackable = sub_buckets;
    while untrackable <= hdr.high() {
        buckets += 1;
        untrackable <<= 1;
    }
    (buckets, u32::try_from(sub_buckets).unwrap_or(u32::MAX))
}
