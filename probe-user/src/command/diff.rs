//! `iovascope diff`: two sides compared, a verdict for each measure.

use std::io::{self, Write as _};

use anyhow::Context as _;
use probe_model::company::{self, Company};
use probe_model::compare::{Comparison, Side};
use probe_model::window::Window;

use super::input;
use crate::cli::{DiffArgs, DiffFormat};
use crate::exit::Status;
use crate::recording::Reader;
use crate::report::difference;

/// Draws at random are the same for the same recordings: a result can be had again.
const SEED: u64 = 0x10_7a5c_09e5;

pub(super) fn run(args: &DiffArgs) -> anyhow::Result<Status> {
    let mut complete = true;
    let mut company = [Company::default(), Company::default()];
    let a = side(&args.a, &mut complete, &mut company[0])?;
    let b = side(&args.b, &mut complete, &mut company[1])?;
    let mut comparison = Comparison::of(&a, &b, args.threshold, SEED);
    comparison.warnings.extend(company::differ(&company[0], &company[1]));
    let mut out = io::stdout().lock();
    let written = match args.format {
        DiffFormat::Text => difference::write(&comparison, &args.a.join(", "), &args.b.join(", "), &mut out),
        DiffFormat::Json => serde_json::to_writer_pretty(&mut out, &comparison)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
    };
    match written.and_then(|()| out.flush()).context("cannot write the comparison") {
        Err(error) if input::reader_left(&error) => {}
        other => other?,
    }
    Ok(status(&comparison, args.strict, complete))
}

/// How a comparison ends; `complete` says that every recording is.
fn status(comparison: &Comparison, strict: bool, complete: bool) -> Status {
    match comparison.has_regression() {
        true => Status::Regression,
        false if strict && !(complete && comparison.is_whole()) => Status::Incomplete,
        false => Status::Ok,
    }
}

fn side(files: &[String], complete: &mut bool, company: &mut Company) -> anyhow::Result<Side> {
    let mut side = Side::default();
    for file in files {
        let reader = Reader::begin(input::open(file)?, file.clone())?;
        side.begin(reader.header());
        let whole = reader.sum_up(|window: &Window| -> anyhow::Result<bool> {
            side.window(window);
            Ok(true)
        })?;
        company.append(&whole.window.counters.company);
        *complete &= whole.is_complete();
        side.end(&whole);
    }
    Ok(side)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_that_are_no_evidence_are_incomplete_where_that_is_asked_for() {
        let empty = Comparison::of(&Side::default(), &Side::default(), 0.05, SEED);
        assert_eq!(status(&empty, true, true), Status::Incomplete);
        assert_eq!(status(&empty, false, true), Status::Ok);
    }
}
