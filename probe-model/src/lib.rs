//! What the numbers mean: samples, windows, histograms, losses.
//!
//! Pure: no file, no clock, no terminal, no kernel. Instants are passed in.
//!
//! * [`sample::Sample`]: every cumulative counter at one instant
//! * [`window::Window`]: the difference of two samples; every number shown or exported comes from one
//! * [`histogram::Histogram`]: exact count, sum and extremes, and HdrHistogram's buckets ([`buckets`])
//! * [`loss::Balance`]: what became of every call of a site, with every loss by its cause
//! * [`backends`], [`succession`]: one backend that takes over from another
//! * [`attribution`]: whose calls; [`lock`]: where calls waited; [`call`]: single calls
//! * [`canary`]: whether the probes were alive; [`cost`]: what they cost; [`company`]: who else was there
//! * [`metric`]: the one table of metric names, and counters under these names
//! * [`compare`]: two sides, how sure their difference is, and a verdict
//! * [`series`]: every distribution of a window by name; [`figures`]: its percentiles
//! * [`origin`]: what was recorded, where, how; [`check`]: whether counters from outside can be true
//! * [`clock`]: what the clock of latencies tells apart, sleep and steps of the wall clock
//! * [`unit`], [`errno`], [`text`]: numbers and names as people read them
//! * [`slice`], [`timeline`]: the course of things, in bounded memory
//! * [`contiguity`], [`scan_cost`], [`rescan`], [`finding`]: what the numbers say

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod attribution;
pub mod backends;
pub mod buckets;
pub mod call;
pub mod canary;
pub mod check;
pub mod clock;
pub mod company;
pub mod compare;
pub mod contiguity;
pub mod cost;
pub mod errno;
pub mod figures;
pub mod finding;
pub mod histogram;
pub mod lock;
pub mod loss;
pub mod metric;
pub mod origin;
mod packed;
pub mod rescan;
pub mod sample;
pub mod scan_cost;
pub mod series;
pub mod share;
pub mod slice;
pub mod succession;
pub mod text;
pub mod timeline;
pub mod unit;
pub mod window;
