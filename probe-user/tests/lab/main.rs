//! iovascope on real kernels. Runs as root inside the lab's guest: `cargo xtask test lab`.
//!
//! One module per variant of the lab; xtask boots a variant and runs its module. Nothing here skips:
//! what the guest lacks is a failure.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

mod background;
mod chance;
mod contended;
mod driver;
mod guest;
mod judge;
mod library;
mod older;
mod oracle;
mod waits;

mod linux_6_1;
mod linux_6_12;
mod mainline;
mod many_cpus;
mod noiommu_off;
mod rt;
mod slow_scan;
mod stock;
mod v5;
mod workload;
