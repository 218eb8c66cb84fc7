//! `iovascope report`: a recording summed up.

use anyhow::Context as _;
use probe_model::window::Window;

use super::input;
use crate::cli::{ReportArgs, ReportFormat};
use crate::exit::Status;
use crate::recording::Reader;
use crate::report::html::Timeline;
use crate::report::{Report, write_html, write_markdown, write_text};

pub(super) fn run(args: &ReportArgs) -> anyhow::Result<Status> {
    let reader = Reader::begin(input::open(&args.file)?, args.file.clone())?;
    let range = input::Range::of(&args.range, reader.header());
    let mut timeline = Timeline::new(reader.header().started.monotonic);
    let recording = reader.sum_up(|window: &Window| -> anyhow::Result<bool> {
        let wanted = range.holds(window);
        if wanted {
            timeline.add(window);
        }
        Ok(wanted)
    })?;
    let counters = recording.window.counters.clone();
    let mut report = Report::of(recording);
    report.keep(args.command.as_deref(), args.process.as_deref());
    let mut out = input::create_output(&args.output)?;
    let written = match args.format {
        ReportFormat::Text => write_text(&report, &mut out),
        ReportFormat::Markdown => write_markdown(&report, &mut out),
        ReportFormat::Html => write_html(&report, &counters, &timeline, &mut out),
        ReportFormat::Json => serde_json::to_writer_pretty(&mut out, &report)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out)),
    };
    match written.and_then(|()| out.flush()).context("cannot write the report") {
        Err(error) if input::reader_left(&error) => {}
        other => other?,
    }
    Ok(if args.strict && !report.complete { Status::Incomplete } else { Status::Ok })
}
