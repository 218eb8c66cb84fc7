//! What both sides of the kernel border agree on.
//!
//! `no_std`, no aya, no unsafe, no features: the same source is compiled for the BPF target and
//! for the host, so neither side can hold a different opinion.
//!
//! * [`site`]: the table of probed kernel functions
//! * [`command`]: the table of iommufd ioctls
//! * [`bucket`]: the only bucket arithmetic in the repository
//! * [`constant`]: what programs are told before they are loaded
//! * [`dist`]: one value into one distribution
//! * [`cookie`]: what fsession programs keep of an open call
//! * [`kfunc`]: the kernel functions that programs call
//! * [`wire`]: the bytes in the maps

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![allow(
    clippy::cast_possible_truncation,
    reason = "indices are bounded by the tables here; the BPF target and the hosts have 64-bit usize"
)]

pub mod bucket;
pub mod command;
pub mod constant;
pub mod cookie;
pub mod dist;
pub mod kfunc;
pub mod site;
pub mod wire;
