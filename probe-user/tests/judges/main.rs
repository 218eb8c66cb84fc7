//! Other people's tools judge what iovascope writes. Runs in the root that `cargo xtask test judges` makes;
//! there, every tool is at hand and nothing is skipped.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(clippy::float_cmp, reason = "whole numbers that must be equal")]

mod decoders;
mod otlp;
mod page;
mod process;
mod prometheus;
mod tool;
mod transport;
mod unit;
