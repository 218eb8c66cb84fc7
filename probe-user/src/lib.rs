//! The library behind the `iovascope` binary.
//!
//! The folders meet only in `command/`: a source wired to sinks, one file per mode.

pub mod btf;
pub mod cli;
pub mod command;
pub mod doctor;
pub mod exit;
pub mod export;
pub mod plot;
pub mod recording;
pub mod report;
pub mod source;
pub mod tui;
pub mod workload;

#[cfg(test)]
mod faces;
