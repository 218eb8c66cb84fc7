//! Opening recordings, and the part of one that a command is asked for.

use std::fs::File;
use std::io::{self, BufReader, Read};

use anyhow::Context as _;
use probe_model::origin::Header;
use probe_model::window::Window;

use crate::cli::RangeArgs;

/// A file, or stdin for `-`.
pub(super) fn open(name: &str) -> anyhow::Result<Box<dyn Read>> {
    if name == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(name).with_context(|| format!("cannot open {name}"))?;
    Ok(Box::new(BufReader::new(file)))
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
