//! Opening recordings, the part of one that a command is asked for, and where its result goes.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use anyhow::Context as _;
use probe_model::origin::Header;
use probe_model::window::Window;

use crate::cli::RangeArgs;
use crate::recording::create;

/// A file, or stdin for `-`.
pub(super) fn open(name: &str) -> anyhow::Result<Box<dyn Read>> {
    if name == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(name).with_context(|| format!("cannot open {name}"))?;
    Ok(Box::new(BufReader::new(file)))
}

/// A new file, or stdout for `-`.
pub(super) fn create_output(path: &Path) -> anyhow::Result<Box<dyn Write>> {
    Ok(match path.to_str() {
        Some("-") => Box::new(BufWriter::new(io::stdout().lock())),
        _ => Box::new(BufWriter::new(create(path)?)),
    })
}

/// Part of a recording, in monotonic ns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    from: u64,
    to: u64,
}

impl Range {
    pub(super) fn of(args: &RangeArgs, header: &Header) -> Self {
        let started = header.started.monotonic;
        let at = |offset: std::time::Duration| {
            started.saturating_add(u64::try_from(offset.as_nanos()).unwrap_or(u64::MAX))
        };
        Self { from: args.from.map_or(0, at), to: args.to.map_or(u64::MAX, at) }
    }

    /// Windows are not cut: one belongs where it ends.
    pub(super) fn holds(self, window: &Window) -> bool {
        self.from < window.to.monotonic.max(1) && window.to.monotonic <= self.to
    }
}

/// The reader of our output has seen enough (`… | head`).
pub(super) fn reader_left(error: &anyhow::Error) -> bool {
    let is_pipe = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is_pipe))
}
