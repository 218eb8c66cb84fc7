//! `iovascope report`: a recording summed up.

use std::io::{self, Write as _};

use anyhow::Context as _;

use super::input;
use crate::cli::{ReportArgs, ReportFormat};
use crate::exit::Status;
use crate::recording::Reader;
use crate::report::{Report, write_text};

pub(super) fn run(args: &ReportArgs) -> anyhow::Result<Status> {
    let report = Report::of(Reader::begin(input::open(&args.file)?, args.file.clone())?.whole()?);
    let mut out = io::stdout().lock();
    let written = match args.format {
        ReportFormat::Text => write_text(&report, &mut out),
        ReportFormat::Json => serde_json::to_writer_pretty(&mut out, &report)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
    };
    match written.and_then(|()| out.flush()) {
        // The reader has seen enough (`… | head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        other => other.context("cannot write the report")?,
    }
    Ok(if args.strict && !report.complete { Status::Incomplete } else { Status::Ok })
}
