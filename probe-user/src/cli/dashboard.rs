//! Arguments of the dashboards, `top` and `replay`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};

use super::{SourceArgs, parse_interval};
use crate::workload::quantity::parse_duration;

/// How a dashboard looks and begins. Flags go before the configuration file.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line, each a choice of its own")]
pub struct DashboardArgs {
    /// dark, light, high-contrast or colour-blind [default: dark]
    #[arg(long, value_name = "NAME", env = "IOVASCOPE_THEME", help_heading = "Dashboard")]
    pub theme: Option<String>,
    /// auto, none, 16, 256 or true; `NO_COLOR` is obeyed [default: auto]
    #[arg(
        long,
        value_name = "N",
        env = "IOVASCOPE_COLOURS",
        visible_alias = "colors",
        help_heading = "Dashboard"
    )]
    pub colours: Option<String>,
    /// Draw with ASCII alone
    #[arg(long, env = "IOVASCOPE_ASCII", action = ArgAction::SetTrue, help_heading = "Dashboard")]
    pub ascii: bool,
    /// Leave the mouse to the terminal
    #[arg(long, env = "IOVASCOPE_NO_MOUSE", action = ArgAction::SetTrue, help_heading = "Dashboard")]
    pub no_mouse: bool,
    /// Time between two frames [default: 100ms]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, env = "IOVASCOPE_REFRESH",
          help_heading = "Dashboard")]
    pub refresh: Option<Duration>,
    /// Length of the window: 1s, 10s, 1min or all [default: all; live: 10s]
    #[arg(short, long, value_name = "LENGTH", env = "IOVASCOPE_WINDOW", help_heading = "Dashboard")]
    pub window: Option<String>,
    /// Unit of times: auto, ns, us or ms [default: auto]
    #[arg(long, value_name = "UNIT", env = "IOVASCOPE_UNITS", help_heading = "Dashboard")]
    pub units: Option<String>,
    /// View to begin with, such as scan or heatmap [default: overview]
    #[arg(long, value_name = "NAME", env = "IOVASCOPE_VIEW", help_heading = "Dashboard")]
    pub view: Option<String>,
    /// Begin with the view that was shown last
    #[arg(long, env = "IOVASCOPE_REMEMBER_VIEW", action = ArgAction::SetTrue, help_heading = "Dashboard")]
    pub remember_view: bool,
    /// Configuration file [default: ~/.config/iovascope/config.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "IOVASCOPE_CONFIG", help_heading = "Dashboard")]
    pub config: Option<PathBuf>,
    /// Print the configuration in force as a file, and end
    #[arg(long, help_heading = "Dashboard")]
    pub print_config: bool,
}

/// `ssh HOST iovascope record -o - | iovascope replay -` is a live view of another machine.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// A recording; `-` follows one that still grows on stdin
    #[arg(value_name = "FILE", required_unless_present = "print_config")]
    pub file: Option<String>,
    #[command(flatten)]
    pub dashboard: DashboardArgs,
}

/// Keys: `?` lists them.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Time between two samples, such as 250ms or 1s
    #[arg(short, long, value_name = "TIME", default_value = "500ms", value_parser = parse_interval,
          env = "IOVASCOPE_TOP_INTERVAL")]
    pub interval: Duration,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub dashboard: DashboardArgs,
    /// Drive GET_PA beside the dashboard: a ready job by its name, or a job file (see `load --list-jobs`)
    #[arg(long, value_name = "JOB", env = "IOVASCOPE_TOP_LOAD", conflicts_with = "command")]
    pub load: Option<String>,
    /// Command to run beside the dashboard; its output is shown in the view Driver
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}
