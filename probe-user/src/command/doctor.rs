//! `iovascope doctor`: a diagnosis of this machine, or of a kernel file, to stdout.

use std::io::{self, Write as _};

use anyhow::Context as _;
use probe_model::clock::Clock;
use probe_model::company::{Company, Known};
use serde::Serialize;

use super::source;
use crate::cli::DoctorArgs;
use crate::doctor::kernel_file::{self, Judgement};
use crate::doctor::{self, Host, Machine, checks};
use crate::exit::Status;
use crate::source::clock;
use crate::source::kernel::company::Watcher;

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
    let mut machine = Machine::look(&Host::default());
    machine.trials = source::try_all(&machine);
    let mut diagnosis = doctor::judge(&machine);
    let source = clock::source().unwrap_or_else(|| "of unknown source".to_owned());
    diagnosis.checks.push(checks::clock(&Clock { source, step: clock::step() }));
    let company = Watcher::of_now(diagnosis.module).visible();
    write(args, &Diagnosed { diagnosis: &diagnosis, company: &company }, |out| {
        diagnosis.write_text(out)?;
        let mut label = "company:";
        for line in words(&company) {
            writeln!(out, "{label:<9}{line}")?;
            label = "";
        }
        Ok(())
    })?;
    Ok(if diagnosis.record.able { Status::Ok } else { Status::CannotRun })
}

/// The diagnosis, and who works on our functions now.
#[derive(Serialize)]
struct Diagnosed<'a> {
    #[serde(flatten)]
    diagnosis: &'a doctor::Diagnosis,
    company: &'a Company,
}

fn words(company: &Company) -> Vec<String> {
    match company.known() {
        Known::Alone | Known::Nothing => {
            vec!["nobody else works on the functions that are measured".to_owned()]
        }
        Known::NotAll => company.blind_spots(),
        Known::Others => {
            let mut lines = company.names();
            lines.push("what they do at these functions would be inside the latencies".to_owned());
            lines.extend(company.blind_spots());
            lines
        }
    }
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
