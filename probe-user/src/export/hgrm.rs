//! HdrHistogram's percentile text (`.hgrm`), as its own tools print it: the form that plotters read.
//!
//! Values are in ns or bytes.

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
        write(&hdr, out)?;
        if let Some(line) = super::coarse(whole.clock_step()).filter(|_| series.unit == Unit::Nanos) {
            writeln!(out, "#[{line}]")?;
        }
        match series.histogram.saturated {
            0 => Ok(()),
            beyond => writeln!(out, "#[{beyond} more values are beyond the range]"),
        }
    }
}

/// The text of `AbstractHistogram.outputPercentileDistribution` (HdrHistogram 2.1, Java).
fn write(hdr: &Histogram<u64>, out: &mut dyn Write) -> io::Result<()> {
    let digits = usize::from(hdr.sigfig());
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut steps = hdr.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value()));
    let (mut value, mut total, mut percent) = (0, 0, 0.0);
    while total < hdr.len() {
        // The next value that reaches the percentage; the same one as before where it reaches further.
        while total == 0 || 100.0 * total as f64 / (hdr.len() as f64) < percent {
            let Some((next, count)) = steps.next() else { break };
            (value, total) = (next, total + count);
        }
        let inverse = 1.0 / (1.0 - percent / 100.0);
        let (value, share) = (value as f64, percent / 100.0);
        writeln!(out, "{value:12.digits$} {share:14.12} {total:>10} {inverse:14.2}")?;
        percent += 100.0 / (f64::from(TICKS) * 2f64.powf((100.0 / (100.0 - percent)).log2().trunc() + 1.0));
    }
    if !hdr.is_empty() {
        writeln!(out, "{:12.digits$} {:14.12} {total:>10}", value as f64, 1.0)?;
    }
    let (mean, deviation) = (hdr.mean(), hdr.stdev());
    writeln!(out, "#[Mean    = {mean:12.digits$}, StdDeviation   = {deviation:12.digits$}]")?;
    let (max, total) = (hdr.max() as f64, hdr.len());
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
