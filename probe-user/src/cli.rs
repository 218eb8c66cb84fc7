//! The command line: the only file that knows clap's derive for the whole; each mode's arguments
//! are one struct here.

use clap::{Args, Parser, Subcommand};

/// Watch and measure `IOMMU_IOAS_NOIOMMU_GET_PA` and the iommufd ioctl dispatch.
#[derive(Debug, Parser)]
#[command(name = "iovascope", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Drive GET_PA: bind a no-IOMMU device, map memory, query it, clean up.
    Load(LoadArgs),
    /// Say whether this machine (or a kernel image) can be observed, and if not what to do.
    Doctor(DoctorArgs),
}

#[derive(Debug, Args)]
pub struct LoadArgs {}

#[derive(Debug, Args)]
pub struct DoctorArgs {}
