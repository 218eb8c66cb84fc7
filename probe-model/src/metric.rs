//! Metrics: the one table of names, and the cumulative counters under these names.
//!
//! Every exporter of metrics, every dashboard and every rule uses these names; tests hold them to the
//! table. Base units: seconds, bytes. Labels are bounded: commands, errnos, stops, scan-length classes,
//! and process names only where they were asked for, and then only so many.

use std::collections::{BTreeMap, BTreeSet};

use crate::attribution::Row;
use crate::canary::Pulse;
use crate::figures::scan_lengths;
use crate::histogram::Histogram;
use crate::loss::Cause;
use crate::origin::Header;
use crate::sample::{Counters, Sample};
use crate::scan_cost::{Conditions, Estimate, Linearity, ScanCost};
use crate::series::Unit;
use crate::{errno, series, text};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// May do both.
    Gauge,
    /// A distribution.
    Histogram,
}

/// A row of the table.
#[derive(Debug)]
pub struct Metric {
    /// Prometheus's name, without `_total`, `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// OpenTelemetry's name. Prometheus's receiver makes `name` of it: `_` for dots, and the unit's name at the end.
    pub otel: &'static str,
    /// Unit as OpenTelemetry writes it (UCUM); one in braces is a word for people.
    pub unit: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it says, for people.
    pub help: &'static str,
}

/// The table.
macro_rules! metrics {
    ($($(#[$doc:meta])* $constant:ident: $kind:ident $name:literal $otel:literal $unit:literal $help:literal;)*) => {
        $($(#[$doc])* pub const $constant: &Metric = &Metric {
            name: $name, otel: $otel, unit: $unit, kind: Kind::$kind, help: $help,
        };)*
        /// Every metric there is.
        pub const METRICS: &[&Metric] = &[$($constant),*];
    };
}

metrics! {
    /// Labels `command`, `outcome`.
    IOCTL: Histogram "iovascope_ioctl_duration_seconds" "iovascope.ioctl.duration" "s"
        "Latency of iommufd ioctls by command and outcome; a GET_PA's contains its scan and the scan's probes.";
    /// Labels `command`, `errno`.
    IOCTL_ERRORS: Counter "iovascope_ioctl_errors" "iovascope.ioctl.errors" "{call}"
        "Failed iommufd ioctls by command and errno.";
    /// Label `pages`: the shortest scan of the class.
    SCAN: Histogram "iovascope_scan_duration_seconds" "iovascope.scan.duration" "s"
        "Latency of successful iopt_get_phys calls by scan length: pages is the lower end of a power of two.";
    /// No label.
    SCAN_FAILED: Histogram "iovascope_scan_failed_duration_seconds" "iovascope.scan_failed.duration" "s"
        "Latency of failed iopt_get_phys calls.";
    /// Label `errno`.
    SCAN_ERRORS: Counter "iovascope_scan_errors" "iovascope.scan.errors" "{call}"
        "Failed iopt_get_phys calls by errno.";
    /// No label.
    SCAN_PAGES: Counter "iovascope_scan_pages" "iovascope.scan.pages" "{page}"
        "Pages that the returned runs touch: the length of all scans.";
    /// Label `part`: `fixed`, `further_page`. Only where a line describes the scans.
    SCAN_COST: Gauge "iovascope_scan_cost_seconds" "iovascope.scan.cost" "s"
        "What a scan costs, fitted to the median latency of each scan length since counting began: fixed, and a further page.";
    /// Label `part`, as above.
    SCAN_COST_MARGIN: Gauge "iovascope_scan_cost_margin_seconds" "iovascope.scan.cost.margin" "s"
        "The true cost is within this of iovascope_scan_cost_seconds in 95 of 100 cases.";
    /// Label `is`.
    SCAN_LINEARITY: Gauge "iovascope_scan_cost_linearity" "iovascope.scan.cost.linearity" "{state}"
        "1 for what is known of how the cost of a scan grows with its length, else 0.";
    /// Label `stop`.
    RUN: Histogram "iovascope_run_bytes" "iovascope.run" "By"
        "Length of the physically contiguous runs that scans returned, by what ended the scan.";
    /// Label `part`.
    LOCK: Histogram "iovascope_scan_part_seconds" "iovascope.scan.part" "s"
        "Parts of the latency of iopt_get_phys: waiting for each lock, and scanning.";
    /// Label `command`.
    LOCK_WAIT: Histogram "iovascope_lock_wait_seconds" "iovascope.lock.wait" "s"
        "Time that iommufd ioctls waited for locks, by command; only calls that waited.";
    /// Label `site`.
    CALLS: Counter "iovascope_calls" "iovascope.calls" "{call}"
        "Calls that began, by site: measured, lost and in flight.";
    /// Label `site`.
    MEASURED: Counter "iovascope_calls_measured" "iovascope.calls.measured" "{call}"
        "Calls that are in the distributions, by site.";
    /// Labels `site`, `cause`.
    LOST: Counter "iovascope_calls_lost" "iovascope.calls.lost" "{call}"
        "Calls that are in no distribution, by site and cause.";
    /// Label `site`.
    IN_FLIGHT: Gauge "iovascope_calls_in_flight" "iovascope.calls.in_flight" "{call}"
        "Calls that have not returned, by site.";
    /// Label `site`.
    UNEXPLAINED: Gauge "iovascope_calls_unexplained" "iovascope.calls.unexplained" "{call}"
        "Calls that the counters leave unexplained, by site; anything but 0 is a defect of iovascope.";
    /// Label `series`.
    SATURATED: Counter "iovascope_values_saturated" "iovascope.values.saturated" "{value}"
        "Values beyond the range of the buckets, by series: percentiles that reach them are lower bounds.";
    /// No label.
    COMPLETE: Gauge "iovascope_complete" "iovascope.complete" "{state}"
        "1 when every call that returned is in the distributions and the probes are known to be alive, else 0.";
    /// No label.
    CANARIES: Counter "iovascope_canaries" "iovascope.canaries" "{call}"
        "The recorder's own calls, which show that the probes are alive; they are in no other metric.";
    /// Label `site`.
    CANARIES_UNSEEN: Counter "iovascope_canaries_unseen" "iovascope.canaries.unseen" "{call}"
        "Canaries that a site's probes did not see: counts of 0 then mean nothing.";
    /// No label.
    DARK: Counter "iovascope_dark_seconds" "iovascope.dark" "s"
        "Time over which probes may have been dead: at most so long.";
    /// Labels `site`, `process`.
    PROCESS_CALLS: Counter "iovascope_process_calls" "iovascope.process.calls" "{call}"
        "Calls by site and name of the process; the name other gathers those beyond the bound.";
    /// Labels `site`, `process`.
    PROCESS_SECONDS: Counter "iovascope_process_time_seconds" "iovascope.process.time" "s"
        "Time inside calls by site and name of the process.";
    /// Label `process`.
    PROCESS_PAGES: Counter "iovascope_process_scan_pages" "iovascope.process.scan.pages" "{page}"
        "Pages scanned by name of the process.";
    /// Label `program`.
    PROGRAM_SECONDS: Counter "iovascope_program_time_seconds" "iovascope.program.time" "s"
        "Run time of iovascope's own BPF programs.";
    /// Label `program`.
    PROGRAM_RUNS: Counter "iovascope_program_runs" "iovascope.program.runs" "{run}"
        "Runs of iovascope's own BPF programs.";
    /// No label.
    SAMPLED: Gauge "iovascope_sample_timestamp_seconds" "iovascope.sample.timestamp" "s"
        "When the counters were read, seconds since 1970 UTC.";
    /// Label `source`.
    CLOCK_STEP: Gauge "iovascope_clock_step_seconds" "iovascope.clock.step" "s"
        "Step of the kernel's clock: no latency is known better, and one that is less reads as 0.";
    /// Labels of the header.
    INFO: Gauge "iovascope_build_info" "iovascope.build.info" "{info}"
        "1; the labels say what counts, where and how.";
}

/// A value under a name and labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Labels by name.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: Value,
}

/// A value; the metric says of what.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A count.
    Count(u64),
    /// A duration in ns, shown in seconds.
    Nanos(u64),
    /// A whole number that may be negative.
    Signed(i64),
    /// A fitted duration in ns, shown in seconds.
    Fitted(f64),
    /// A distribution, in ns or bytes.
    Distribution(Unit, Histogram),
}

/// Ns of a second.
const SECOND: f64 = 1e9;

impl Value {
    /// In the metric's base unit; `None` for a distribution.
    pub fn number(&self) -> Option<f64> {
        match *self {
            Self::Count(count) => Some(count as f64),
            Self::Nanos(ns) => Some(ns as f64 / SECOND),
            Self::Signed(number) => Some(number as f64),
            Self::Fitted(ns) => Some(ns / SECOND),
            Self::Distribution(..) => None,
        }
    }
}

/// A metric and its values.
#[derive(Debug, Clone)]
pub struct Family {
    /// The row of the table.
    pub metric: &'static Metric,
    /// Its values, in one fixed order.
    pub points: Vec<Point>,
}

/// Every metric that has values, in the table's order; `processes` is how many process names may become
/// labels.
pub fn families(header: &Header, sample: &Sample, processes: usize) -> Vec<Family> {
    let mut points: BTreeMap<&'static str, Vec<Point>> = BTreeMap::new();
    let mut add = |metric: &'static Metric, labels: &[(&'static str, &str)], value: Value| {
        let labels = labels.iter().map(|&(name, text)| (name, text.to_owned())).collect();
        points.entry(metric.name).or_default().push(Point { labels, value });
    };
    let counters = &sample.counters;
    of_calls(counters, &mut add);
    if let Some(scans) = &counters.get_phys {
        of_scan_cost(&ScanCost::of(scans, Conditions::of(header)), &mut add);
    }
    of_losses(counters, &mut add);
    of_processes(counters, processes, &mut add);
    for (name, cost) in &counters.programs {
        add(PROGRAM_SECONDS, &[("program", name)], Value::Nanos(cost.nanos));
        add(PROGRAM_RUNS, &[("program", name)], Value::Count(cost.runs));
    }
    add(SAMPLED, &[], Value::Nanos(sample.at.realtime));
    let source = header.host.clocksource.as_deref().unwrap_or("unknown");
    add(CLOCK_STEP, &[("source", source)], Value::Nanos(header.host.clock_step()));
    let info = [
        ("version", header.tool.as_str()),
        ("kernel", &header.kernel),
        ("machine", &header.machine),
        ("backend", &header.backend),
        ("abi", &header.abi),
    ];
    add(INFO, &info, Value::Count(1));
    let taken = |metric: &&'static Metric| {
        Some(Family { metric, points: points.remove(metric.name).filter(|points| !points.is_empty())? })
    };
    METRICS.iter().filter_map(taken).collect()
}

/// Takes a value for a metric under labels.
type Add<'a> = dyn FnMut(&'static Metric, &[(&'static str, &str)], Value) + 'a;

fn of_calls(counters: &Counters, add: &mut Add<'_>) {
    let nanos = |histogram: &Histogram| Value::Distribution(Unit::Nanos, histogram.clone());
    for (command, calls) in &counters.dispatch {
        for (outcome, histogram) in [("ok", &calls.ok), ("failed", &calls.failed)] {
            if !histogram.is_empty() {
                add(IOCTL, &[("command", command), ("outcome", outcome)], nanos(histogram));
            }
        }
        for (&number, &count) in &calls.errors {
            let labels = [("command", command.as_str()), ("errno", &errno::name(number))];
            add(IOCTL_ERRORS, &labels, Value::Count(count));
        }
    }
    if let Some(scans) = &counters.get_phys {
        for (&class, histogram) in &scans.ok {
            add(SCAN, &[("pages", &scan_lengths(class).0.to_string())], nanos(histogram));
        }
        if !scans.failed.is_empty() {
            add(SCAN_FAILED, &[], nanos(&scans.failed));
        }
        for (&number, &count) in &scans.errors {
            add(SCAN_ERRORS, &[("errno", &errno::name(number))], Value::Count(count));
        }
        add(SCAN_PAGES, &[], Value::Count(scans.pages));
        for (stop, runs) in &scans.runs {
            add(RUN, &[("stop", stop)], Value::Distribution(Unit::Bytes, runs.clone()));
        }
    }
    if let Some(locks) = &counters.locks {
        for (part, histogram) in &locks.get_phys {
            add(LOCK, &[("part", part)], nanos(histogram));
        }
        for (command, histogram) in &locks.commands {
            add(LOCK_WAIT, &[("command", command)], nanos(histogram));
        }
    }
    for series in series::of(counters).into_iter().filter(|series| series.histogram.saturated > 0) {
        add(SATURATED, &[("series", &series.name)], Value::Count(series.histogram.saturated));
    }
}

fn of_scan_cost(cost: &ScanCost, add: &mut Add<'_>) {
    for (part, estimate) in [("fixed", cost.fixed), ("further_page", cost.further_page)] {
        if let Some(Estimate { nanos, margin }) = estimate {
            add(SCAN_COST, &[("part", part)], Value::Fitted(nanos));
            add(SCAN_COST_MARGIN, &[("part", part)], Value::Fitted(margin));
        }
    }
    // Every state always, so that a change of it is no new series.
    for name in Linearity::NAMES {
        let is = u64::from(cost.linearity.name() == name);
        add(SCAN_LINEARITY, &[("is", name)], Value::Count(is));
    }
}

fn of_losses(counters: &Counters, add: &mut Add<'_>) {
    let mut complete = counters.canary.pulse() != Pulse::Dark;
    for (site, balance) in counters.balances() {
        complete &= balance.lost.is_empty() && balance.unexplained == 0;
        let site = ("site", site);
        add(CALLS, &[site], Value::Count(balance.calls));
        add(MEASURED, &[site], Value::Count(balance.measured));
        // Those that did not occur too: the first loss must be an increase, not a new series.
        for cause in Cause::ALL {
            let lost = balance.lost.iter().find(|(of, _)| *of == cause).map_or(0, |&(_, count)| count);
            add(LOST, &[site, ("cause", cause.name())], Value::Count(lost));
        }
        let unseen = counters.canary.unseen.get(site.1).copied().unwrap_or(0);
        add(CANARIES_UNSEEN, &[site], Value::Count(unseen));
        add(IN_FLIGHT, &[site], Value::Count(balance.in_flight));
        let unexplained = i64::try_from(balance.unexplained).unwrap_or(i64::MAX);
        add(UNEXPLAINED, &[site], Value::Signed(unexplained));
    }
    add(COMPLETE, &[], Value::Count(u64::from(complete)));
    add(CANARIES, &[], Value::Count(counters.canary.sent));
    add(DARK, &[], Value::Nanos(counters.canary.dark));
}

/// The name that gathers processes beyond the bound, and those that found the kernel's table full.
const OTHER: &str = "other";

fn of_processes(counters: &Counters, most: usize, add: &mut Add<'_>) {
    if most == 0 {
        return;
    }
    // Slots are given in the order of first calls and never again, so who has a label keeps it.
    let mut named = BTreeSet::new();
    let mut rows: BTreeMap<(String, &str), [u64; 3]> = BTreeMap::new();
    for row in counters.attribution.values() {
        let name = row.who.as_ref().map(|who| text::visible(&who.comm));
        let name = name.filter(|name| named.contains(name) || named.len() < most);
        named.extend(name.clone());
        let Row { calls, nanos, pages, .. } = row;
        let sums = rows.entry((name.unwrap_or_else(|| OTHER.to_owned()), &row.site)).or_default();
        for (sum, value) in sums.iter_mut().zip([calls, nanos, pages]) {
            *sum = sum.wrapping_add(*value);
        }
    }
    for ((process, site), [calls, nanos, pages]) in rows {
        let labels = [("site", site), ("process", process.as_str())];
        add(PROCESS_CALLS, &labels, Value::Count(calls));
        add(PROCESS_SECONDS, &labels, Value::Nanos(nanos));
        if pages > 0 {
            add(PROCESS_PAGES, &labels[1..], Value::Count(pages));
        }
    }
}

/// Upper ends of the classic buckets of a unit, ascending, in ns or bytes: one below a power of two, because
/// that is where a bucket of every scheme ends. Values are whole, so nothing lies between two of them.
pub fn bounds(unit: Unit) -> impl Iterator<Item = u64> {
    let exponents = match unit {
        // 256 ns to 17 s.
        Unit::Nanos => 8..=34,
        // One page to 1 TiB.
        Unit::Bytes => 13..=40,
    };
    exponents.map(|exponent: u32| (1 << exponent) - 1)
}

/// How many values are at most each of `bounds`: exact, as the bounds are ends of buckets.
pub fn cumulative(histogram: &Histogram, bounds: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut buckets = histogram.buckets.iter().peekable();
    let mut below = 0;
    bounds
        .map(|bound| {
            let inside = |&(&index, _): &(&u32, &u64)| histogram.scheme().highest(index as usize) <= bound;
            while let Some((_, count)) = buckets.next_if(inside) {
                below += count;
            }
            below
        })
        .collect()
}

/// Resolution of exponential buckets: 2^3 of them in a power of two, each 9 % wide.
pub const SCHEMA: i32 = 3;

/// Exponential buckets, as native histograms and OpenTelemetry have them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exponential {
    /// Values that are 0.
    pub zero: u64,
    /// Values by bucket: number `i` holds what lies above `2^((i-1)/8)` and up to `2^(i/8)`, in seconds or
    /// bytes. Their ends are no whole numbers, so a bucket of ours goes where its middle lies: a value
    /// may be counted beside its bucket when it is within half of ours (0.4 %) of the end. Values beyond
    /// our range count at its end.
    pub buckets: BTreeMap<i32, u64>,
}

/// The same values in exponential buckets.
pub fn exponential(unit: Unit, histogram: &Histogram) -> Exponential {
    let scale = match unit {
        Unit::Nanos => SECOND,
        Unit::Bytes => 1.0,
    };
    let mut all = Exponential::default();
    let mut add = |value: f64, count: u64| {
        if count == 0 {
        } else if value > 0.0 {
            *all.buckets.entry(index(value / scale)).or_default() += count;
        } else {
            all.zero += count;
        }
    };
    let scheme = histogram.scheme();
    for (&index, &count) in &histogram.buckets {
        let (low, high) = (scheme.lowest(index as usize), scheme.highest(index as usize));
        add(f64::midpoint(low as f64, high as f64), count);
    }
    add(2f64.powi(i32::try_from(histogram.bits).unwrap_or(i32::MAX)), histogram.saturated);
    all
}

#[allow(clippy::cast_possible_truncation, reason = "logarithms of what 64 bits hold are small")]
fn index(value: f64) -> i32 {
    (value.log2() * f64::from(1 << SCHEMA)).ceil() as i32
}

#[cfg(test)]
#[path = "metric_tests.rs"]
mod tests;
