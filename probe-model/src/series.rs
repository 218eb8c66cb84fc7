//! Series: every distribution of a window under one name, for formats that hold one histogram each.
//!
//! Names are dotted words without space, comma or control character, so they stand in any format as
//! they are: `dispatch.IOAS_MAP.ok`, `get_phys.ok`, `get_phys.ok.pages-512`, `run.cap`.

use std::borrow::Cow;

use crate::figures::{Figures, scan_lengths};
use crate::histogram::Histogram;
use crate::sample::Counters;

/// What the values of a series are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Durations in ns.
    Nanos,
    /// Lengths in bytes.
    Bytes,
}

impl Unit {
    /// As written in files.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Nanos => "ns",
            Self::Bytes => "bytes",
        }
    }

    /// A value as people read it.
    pub fn show(self, value: u64) -> String {
        match self {
            Self::Nanos => crate::unit::nanos(value),
            Self::Bytes => crate::unit::bytes(value),
        }
    }

    /// The same of a clock with a step of so many ns, where it is time.
    pub fn figures_by_clock(self, histogram: &Histogram, step: u64) -> Figures {
        match self {
            Self::Nanos => self.figures(histogram).by_clock(step),
            Self::Bytes => self.figures(histogram),
        }
    }

    /// Percentiles, rounded to the side that does not flatter.
    pub fn figures(self, histogram: &Histogram) -> Figures {
        match self {
            Self::Nanos => Figures::of_latency(histogram),
            Self::Bytes => Figures::of_length(histogram),
        }
    }
}

/// One distribution.
#[derive(Debug, Clone)]
pub struct Series<'a> {
    /// Its name.
    pub name: String,
    /// Of its values.
    pub unit: Unit,
    /// Its values.
    pub histogram: Cow<'a, Histogram>,
}

/// Every distribution of `counters` that has values, in one fixed order.
pub fn of<'a>(counters: &'a Counters) -> Vec<Series<'a>> {
    let mut all = Vec::new();
    let mut add = |name, unit, histogram: Cow<'a, Histogram>| {
        if !histogram.is_empty() {
            all.push(Series { name, unit, histogram });
        }
    };
    for (command, calls) in &counters.dispatch {
        add(format!("dispatch.{}.ok", word(command)), Unit::Nanos, Cow::Borrowed(&calls.ok));
        add(format!("dispatch.{}.failed", word(command)), Unit::Nanos, Cow::Borrowed(&calls.failed));
    }
    if let Some(scans) = &counters.get_phys {
        if let Some(all_lengths) = scans.latency() {
            add("get_phys.ok".to_owned(), Unit::Nanos, Cow::Owned(all_lengths));
        }
        for (&class, histogram) in &scans.ok {
            let name = format!("get_phys.ok.pages-{}", scan_lengths(class).0);
            add(name, Unit::Nanos, Cow::Borrowed(histogram));
        }
        add("get_phys.failed".to_owned(), Unit::Nanos, Cow::Borrowed(&scans.failed));
        for (stop, runs) in &scans.runs {
            add(format!("run.{}", word(stop)), Unit::Bytes, Cow::Borrowed(runs));
        }
    }
    if let Some(locks) = &counters.locks {
        for (part, histogram) in &locks.get_phys {
            add(format!("lock.get_phys.{}", word(part)), Unit::Nanos, Cow::Borrowed(histogram));
        }
        for (command, histogram) in &locks.commands {
            add(format!("lock.dispatch.{}", word(command)), Unit::Nanos, Cow::Borrowed(histogram));
        }
    }
    all
}

/// A name from outside, reduced to what no format gives a meaning to.
pub fn word(name: &str) -> String {
    let harmless = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    name.chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Calls, Scans};
    use probe_common::bucket::{LATENCY, LATENCY_FAILED, RUN};

    #[test]
    fn every_distribution_has_a_harmless_name() {
        let one = |scheme| {
            let mut histogram = Histogram::new(scheme);
            histogram.record(5);
            histogram
        };
        let counters = Counters {
            dispatch: [(
                "a,b \n\u{1b}[2J".to_owned(),
                Calls { ok: one(LATENCY), failed: Histogram::new(LATENCY_FAILED), errors: [].into() },
            )]
            .into(),
            get_phys: Some(Scans {
                ok: [(0, one(LATENCY)), (9, one(LATENCY))].into(),
                failed: one(LATENCY_FAILED),
                errors: [].into(),
                pages: 513,
                runs: [("cap".to_owned(), one(RUN))].into(),
            }),
            ..Counters::default()
        };
        let names: Vec<_> = of(&counters).into_iter().map(|series| series.name).collect();
        assert_eq!(
            names,
            [
                "dispatch.a_b____2J.ok",
                "get_phys.ok",
                "get_phys.ok.pages-1",
                "get_phys.ok.pages-512",
                "get_phys.failed",
                "run.cap"
            ]
        );
        assert_eq!(of(&counters)[1].histogram.count, 2);
    }
}
