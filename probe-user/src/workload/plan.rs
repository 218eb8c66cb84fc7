//! What to do, decided and checked: nothing here is a word of the command line any more.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use super::churn::Churn;
use super::faults::FaultPlan;
use super::memory::Memory;
use super::pace::Pace;
use super::quantity::{Bytes, Iova};
use super::queries::{Cap, Queries};
use super::verify::Addresses;
use super::via::Way;
use super::words::Words;

/// A whole run: stages one after the other, the jobs of a stage together.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `None`: the first no-IOMMU device there is.
    pub device: Option<PathBuf>,
    /// A PCI device to bind first, and to let go afterwards.
    pub bind: Option<String>,
    /// `None`: a quarter of the available memory.
    pub pin_limit: Option<Bytes>,
    /// What the run is to find out, in a sentence.
    pub question: Option<String>,
    pub stages: Vec<Vec<Job>>,
}

/// One job.
#[derive(Debug, Clone)]
pub struct Job {
    pub label: String,
    pub memory: Memory,
    pub size: Bytes,
    /// `None`: behind the jobs before it in the stage.
    pub iova: Option<Iova>,
    /// Whether the IOAS may use huge pages in its page tables (`IOMMU_OPTION_HUGE_PAGES`).
    pub huge_pages: bool,
    pub ioases: NonZeroU64,
    pub queries: Queries,
    pub cap: Cap,
    pub churn: Option<Churn>,
    pub faults: FaultPlan,
    pub pace: Pace,
    /// In a closed loop: the end of a call is the beginning of the next, one clock reading a call.
    pub one_clock: bool,
    pub threads: NonZeroU64,
    /// CPUs to pin threads to, in turn; empty: wherever the kernel puts them.
    pub cpus: Vec<usize>,
    /// Not measured, before the limit begins to count.
    pub warm_up: Duration,
    pub limit: Limit,
    pub seed: u64,
    /// Check each answer against the page tables.
    pub verify: Option<Addresses>,
    /// One run each, over the same memory and with the same queries.
    pub ways: Vec<Way>,
    /// The words that this was made of, to repeat it.
    pub words: Words,
}

/// When a job ends by itself; whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Over all threads; deliberate failures come on top.
    pub count: Option<NonZeroU64>,
    pub duration: Option<Duration>,
}
