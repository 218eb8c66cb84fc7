//! What the numbers mean: samples, windows, histograms, losses.
//!
//! Pure: no file, no clock, no terminal, no kernel. Instants are passed in.
//!
//! * [`sample::Sample`]: every cumulative counter at one instant
//! * [`window::Window`]: the difference of two samples; every number shown or exported comes from one
//! * [`histogram::Histogram`]: exact count, sum and extremes, and HdrHistogram's buckets
//! * [`loss::Balance`]: what became of every call of a site, with every loss by its cause
//! * [`unit`], [`errno`]: numbers as people read them

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod errno;
pub mod histogram;
pub mod loss;
pub mod sample;
pub mod unit;
pub mod window;
