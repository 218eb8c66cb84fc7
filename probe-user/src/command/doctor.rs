//! `iovascope doctor`: a diagnosis of this machine, or of a kernel file, to stdout.

use std::io::{self, Write as _};

use anyhow::Context as _;
use serde::Serialize;

use crate::cli::DoctorArgs;
use crate::doctor::kernel_file::{self, Judgement};
use crate::doctor::{self, Host};
use crate::exit::Status;

pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<Status> {
    if let Some(path) = &args.kernel {
        let report = kernel_file::examine(path)?;
        write(args, &report, |out| report.write_text(out))?;
        return Ok(match report.judgement {
            Judgement::WillDo => Status::Ok,
            // Neither yes nor no: the question stays open.
            Judgement::Unknowable => Status::Failed,
            _ => Status::CannotRun,
        });
    }
    let diagnosis = doctor::diagnose(&Host::default());
    write(args, &diagnosis, |out| diagnosis.write_text(out))?;
    Ok(if diagnosis.record.able { Status::Ok } else { Status::CannotRun })
}

fn write(
    args: &DoctorArgs,
    value: &impl Serialize,
    text: impl Fn(&mut dyn io::Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = if args.json {
        serde_json::to_writer_pretty(&mut out, value).map_err(Into::into).and_then(|()| writeln!(out))
    } else {
        text(&mut out)
    };
    written.context("writing the diagnosis to stdout")
}
