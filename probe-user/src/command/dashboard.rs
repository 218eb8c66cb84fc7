//! What `top` and `replay` share: the configuration, and what an export writes.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::cli::DashboardArgs;
use crate::exit::Usage;
use crate::recording::Recording;
use crate::report::Report;
use crate::tui::Exported;
use crate::tui::app::Length;
use crate::tui::config::{self, Chosen, Config, ConfigError, Environment};

/// Decide how the dashboard looks; `length` is the window where nobody says one.
pub(super) fn choose(args: &DashboardArgs, length: Length) -> anyhow::Result<Chosen> {
    let file = Config::load(args.config.as_deref())?;
    let mut config = flags(args).over(file);
    if config.remember_view == Some(true) && args.view.is_none() {
        // A name that an older version kept may be gone; then the usual view is shown.
        config.view = config::remembered().filter(|name| config::is_view(name)).or(config.view);
    }
    config.choose(&Environment::here(), length).map_err(|error| match error {
        ConfigError::Value { .. } => Usage(error.to_string()).into(),
        other => other.into(),
    })
}

/// What was said on the command line or in the environment.
fn flags(args: &DashboardArgs) -> Config {
    Config {
        theme: args.theme.clone(),
        colours: args.colours.clone(),
        ascii: args.ascii.then_some(true),
        mouse: args.no_mouse.then_some(false),
        refresh_ms: args.refresh.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        window: args.window.clone(),
        units: args.units.clone(),
        view: args.view.clone(),
        remember_view: args.remember_view.then_some(true),
    }
}

/// Print the configuration in force.
pub(super) fn print_config(chosen: &Chosen) -> anyhow::Result<()> {
    std::io::stdout().write_all(chosen.to_toml().as_bytes()).context("cannot write the configuration")
}

/// Write what is shown into two new files here: the screen as text, and the report of its window.
pub(super) fn export(exported: &Exported<'_>) -> Result<String, String> {
    // To the millisecond: nobody presses the key twice within one.
    let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S-%3f");
    let view: String = exported.view.chars().filter(char::is_ascii_alphabetic).collect();
    let name = format!("iovascope-{now}-{}", view.to_lowercase());
    write_new(&format!("{name}.txt"), exported.text.as_bytes())?;
    let (Some(window), Some(header)) = (exported.window, exported.header) else {
        return Ok(format!("{name}.txt written; there is no window to report"));
    };
    let report = Report::of(Recording::of_window(header.clone(), window.clone()));
    let json = serde_json::to_vec_pretty(&report).map_err(|error| error.to_string())?;
    write_new(&format!("{name}.json"), &json)?;
    Ok(format!("{name}.txt and .json written"))
}

/// A new file, never through a link, for its owner alone.
fn write_new(name: &str, bytes: &[u8]) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{name}: {error}");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(Path::new(name)).map_err(failed)?;
    file.write_all(bytes).map_err(failed)
}

/// Keep the view for the next time, where that was asked for.
pub(super) fn remember(chosen: &Chosen, view: usize) -> anyhow::Result<()> {
    if chosen.remember_view {
        config::remember(view).context("cannot keep the last view")?;
    }
    Ok(())
}
