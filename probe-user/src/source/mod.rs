//! Where samples come from. Each source yields `probe_model::sample::Sample`s; nothing behind this
//! border knows how they were taken.

pub mod clock;
pub mod host;
pub mod kernel;
