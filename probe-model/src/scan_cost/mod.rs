//! What a scan costs: a fixed part and the cost of a further page, each with its margin, and what is known
//! of linearity. The only model of it: every report, view, export and comparison shows this one.
//!
//! `cost = fixed + further_page × pages`, fitted to the median latencies of the scan lengths that occurred.
//! Medians, because a mean is moved by the few calls that were preempted or waited. Pages are those that a
//! scan looked at: the pages of its run, and one more where it stopped at a page that is not physically
//! next (`iopt_get_phys`, `drivers/iommu/iommufd/io_pagetable.c`, Linux 7.3).
//!
//! Refuses to say what a scan costs that is longer or shorter than those that were measured, or lies
//! between two lengths where no third one showed that a line holds.

mod line;
mod points;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::histogram::Histogram;
use crate::origin::Header;
use crate::sample::Scans;

pub use points::Point;
pub use words::MEAN;

/// Standard deviations of a margin: in 95 of 100 cases the true value is within.
const SURE: f64 = 1.96;

/// A value and its margin, ns: the true one is within `nanos ± margin` in 95 of 100 cases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The value, ns.
    pub nanos: f64,
    /// Its margin, ns.
    pub margin: f64,
}

/// What is known of how cost grows with length. Lengths are in pages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Linearity {
    /// No length has enough scans.
    TooFew,
    /// Scans of one length only: nothing is known of how cost grows.
    OneLength {
        /// The length; the middle of the lengths where they are too near to each other to be told apart.
        pages: f64,
        /// What a scan of it costs.
        cost: Estimate,
    },
    /// A line fits any two lengths: nothing is known of what is between them.
    TwoLengthsOnly {
        /// The shorter length.
        from: f64,
        /// The longer one.
        to: f64,
    },
    /// A line fits, but the latencies of fewer than three lengths are known well enough to tell it from a
    /// curve.
    Scattered {
        /// The shortest length.
        from: f64,
        /// The longest one.
        to: f64,
        /// How many lengths.
        lengths: usize,
    },
    /// A line fits three lengths or more.
    Linear {
        /// The shortest length.
        from: f64,
        /// The longest one.
        to: f64,
        /// How many lengths.
        lengths: usize,
        /// No median of theirs is farther from the line than this share of it, in 95 of 100 cases.
        within: f64,
    },
    /// A line does not fit: the two parts describe no scan.
    NotLinear {
        /// The shortest length.
        from: f64,
        /// The longest one.
        to: f64,
        /// How many lengths.
        lengths: usize,
        /// The farthest median from the line, as a share of it; `None` where the line fits and has a fixed
        /// cost below zero, which no call has.
        off: Option<f64>,
    },
    /// Longer scans cost no more than shorter ones here: there is no cost of a page to be told.
    DoesNotGrow {
        /// The shortest length.
        from: f64,
        /// The longest one.
        to: f64,
        /// What a further page seems to cost, below zero.
        slope: Estimate,
    },
}

impl Linearity {
    /// Every state's name.
    pub const NAMES: [&str; 7] =
        ["too-few", "one-length", "two-lengths-only", "scattered", "linear", "not-linear", "does-not-grow"];

    /// Its name in files and metrics.
    pub fn name(&self) -> &'static str {
        let [too_few, one, two, scattered, linear, not_linear, falls] = Self::NAMES;
        match self {
            Self::TooFew => too_few,
            Self::OneLength { .. } => one,
            Self::TwoLengthsOnly { .. } => two,
            Self::Scattered { .. } => scattered,
            Self::Linear { .. } => linear,
            Self::NotLinear { .. } => not_linear,
            Self::DoesNotGrow { .. } => falls,
        }
    }
}

/// What a scan costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScanCost {
    /// Cost of a call without its pages: where the line meets zero pages. `None` where no line describes
    /// the scans.
    pub fixed: Option<Estimate>,
    /// Cost of a further page. `None` where no line describes the scans.
    pub further_page: Option<Estimate>,
    /// What is known of the line.
    pub linearity: Linearity,
    /// What it was fitted to.
    pub lengths: Vec<Point>,
}

/// What the fit needs of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// The kernel's page size, bytes.
    pub page_size: u64,
    /// The step of the clock that measured, ns; 1 where it is finer or not known.
    pub clock_step: u64,
}

impl Conditions {
    /// Those of a recording as it began.
    pub fn of(header: &Header) -> Self {
        Self { page_size: header.page_size.max(1), clock_step: header.host.clock_step() }
    }
}

/// The counts that the fit looks at, of one window or many that were merged.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// [`Scans::ok`].
    pub ok: &'a BTreeMap<u32, Histogram>,
    /// [`Scans::runs`].
    pub runs: &'a BTreeMap<String, Histogram>,
    /// [`Scans::pages`].
    pub pages: u64,
}

impl<'a> From<&'a Scans> for Work<'a> {
    fn from(scans: &'a Scans) -> Self {
        Self { ok: &scans.ok, runs: &scans.runs, pages: scans.pages }
    }
}

/// A cost beside the same in words.
#[derive(Debug, Clone, Serialize)]
pub struct Told {
    /// The cost.
    #[serde(flatten)]
    pub cost: ScanCost,
    /// In words.
    pub text: String,
}

impl From<ScanCost> for Told {
    fn from(cost: ScanCost) -> Self {
        Self { text: cost.sentence(), cost }
    }
}

impl ScanCost {
    /// What scans cost.
    pub fn of<'a>(work: impl Into<Work<'a>>, conditions: Conditions) -> Self {
        line::fit(points::of(&work.into(), conditions))
    }

    /// Both parts where they describe the scans that were measured.
    pub fn parts(&self) -> Option<(Estimate, Estimate)> {
        self.fixed.zip(self.further_page)
    }

    /// The cost of a scan of `pages`, ns; `None` where it was not tested.
    pub fn at(&self, pages: f64) -> Option<f64> {
        let Linearity::Linear { from, to, .. } = self.linearity else { return None };
        let (fixed, further) = self.parts()?;
        (from..=to).contains(&pages).then_some(fixed.nanos + further.nanos * pages)
    }

    /// The scan length at which the pages cost as much as the rest of the call, pages; `None` where it is
    /// not among the lengths that were tested.
    pub fn break_even(&self) -> Option<f64> {
        let (fixed, further) = self.parts()?;
        let pages = fixed.nanos / further.nanos;
        self.at(pages).map(|_| pages)
    }
}

/// Time of all successful scans over all pages of their runs, ns. Not what a page costs: the fixed cost of
/// the calls, their waits and every outlier are shared out among the pages, so it depends on the mix of
/// lengths.
pub fn mean_per_page(scans: &Scans) -> Option<f64> {
    let nanos: u64 = scans.ok.values().map(|histogram| histogram.sum).fold(0, u64::wrapping_add);
    (scans.pages > 0).then(|| nanos as f64 / scans.pages as f64)
}
