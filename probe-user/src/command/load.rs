//! `iovascope load`: arguments to a plan, signals to a flag, the result to stdout or a file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::{LoadArgs, LoadFormat};
use crate::exit::{Status, Usage};
use crate::workload::drive::Limit;
use crate::workload::result::Report;
use crate::workload::verify::Addresses;
use crate::workload::{self, Plan, WorkloadError};

pub(super) fn run(args: LoadArgs) -> anyhow::Result<Status> {
    let output = args.output.clone();
    let format = args.format();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // The first one asks for the orderly end. Should a scan hold that up, the second ends at once:
        // registered first, it sees the flag only when an earlier signal has set it.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .with_context(|| format!("watching for signal {signal}"))?;
    }
    let plan = plan(args)?;
    // Before the run: a file that cannot be made should not cost one.
    let file = output.as_deref().map(create).transpose()?;
    let report = match workload::run(&plan, &stop) {
        Ok(report) => report,
        Err(error) => {
            if let Some(path) = &output {
                // Empty and ours; should it stay, the error that follows says why it is empty.
                let _ = std::fs::remove_file(path);
            }
            return Err(match error {
                WorkloadError::CannotRun(cannot) => cannot.into(),
                other => other.into(),
            });
        }
    };
    match (file, &output) {
        (Some(file), Some(path)) => {
            write_json(file, &report).with_context(|| format!("writing the result to {}", path.display()))?;
        }
        _ => write_stdout(format, &report)?,
    }
    Ok(if report.holds() { Status::Ok } else { Status::Failed })
}

fn plan(args: LoadArgs) -> anyhow::Result<Plan> {
    if args.show_addresses && !args.verify {
        return Err(Usage("--show-addresses shows what --verify finds; give both".to_owned()).into());
    }
    let addresses = if args.show_addresses { Addresses::Show } else { Addresses::Hide };
    let limit = match (args.count, args.duration) {
        (None, None) => Limit { count: Some(LoadArgs::DEFAULT_COUNT), duration: None },
        (count, duration) => Limit { count, duration },
    };
    Ok(Plan {
        device: args.device,
        memory: args.memory,
        size: args.size,
        pin_limit: args.pin_limit,
        iova: args.iova,
        cap: args.cap,
        step: args.step,
        limit,
        threads: args.threads,
        faults: args.errors.unwrap_or_default(),
        verify: args.verify.then_some(addresses),
    })
}

fn write_stdout(format: LoadFormat, report: &Report) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        LoadFormat::Text => report.write_text(&mut out),
        LoadFormat::Json => write_json(out, report),
    }
    .context("writing the result to stdout")
}

fn write_json(mut out: impl io::Write, report: &Report) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut out, report)?;
    writeln!(out)
}

/// A new file, for its owner alone: a root process must not write through what another user put there.
fn create(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("creating {} for the result (it must not exist yet)", path.display()))
}
