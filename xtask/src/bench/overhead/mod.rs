//! `cargo xtask bench overhead`: what a probe costs, in guest instructions under icount.
//!
//! ```text
//! arm (data) ─► guest (boots, one an arm and repeat) ─► evidence (times; counts, which must agree)
//!                                                            └─► table ─► document (docs/overhead.md)
//! ```

mod arm;
mod document;
mod evidence;
mod guest;
mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result};
use clap::Args;

use self::arm::{Arm, LOOPS};
use self::document::Facts;
pub(super) use self::document::commit;
use self::guest::{Boot, Kit, Reading};
pub(super) use self::table::markdown;
use self::table::{Results, Row, Series};
use super::newest;
use crate::cache::Cache;
use crate::debian::Mirror;
use crate::ui::Step;
use crate::{build, setup, ui, workspace};

/// Repeats of which docs/overhead.md is made.
const REPEATS: usize = 3;

/// Instructions that probes add to a GET_PA: ours by backend, empty ones, and bpftrace doing the same work.
///
/// Runs in the lab under icount, where a guest nanosecond is one executed instruction, so the numbers do not
/// depend on this machine. Fails when a tool did not count every call that was driven.
/// A run of everything rewrites docs/overhead.md.
#[derive(Args)]
pub(crate) struct Overhead {
    /// Measure only this arm, beside none; may be given several times.
    #[arg(long = "arm", value_name = "NAME")]
    arms: Vec<String>,
    /// Boots per arm [default: 3; 1 with --quick].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    repeats: Option<u8>,
    /// One page per call only, and one guest for all arms.
    #[arg(long)]
    quick: bool,
    /// Guests at a time [default: one a CPU of this host].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: Option<u8>,
    /// Measure this static binary instead of building one.
    #[arg(long, value_name = "FILE")]
    iovascope: Option<PathBuf>,
    #[command(flatten)]
    mirror: Mirror,
}

impl Overhead {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let step = Step::begin("bench", "instructions that probes add to a GET_PA");
        let name = if self.quick { "overhead-quick" } else { "overhead" };
        let _lock = Cache::open()?.lock(&format!("bench-{name}"))?;
        let folder = empty(&workspace::root().join("out/bench").join(name))?;
        // Before building: the tree may move on while guests run.
        let commit = commit();
        let mut kit = self.kit(&folder)?;
        let (mut arms, missing) = arm::choose(&self.arms, &kit.binary)?;
        for arm in &missing {
            step.note(format!("this iovascope has no backend for the arm {}: left out", arm.name));
        }
        let wants_newest = arms.iter().any(|arm| arm.is_newest());
        kit.newest = if wants_newest { newest::find(&self.mirror) } else { None };
        arms.retain(|arm| kit.newest.is_some() || !arm.is_newest());
        let loops = if self.quick { &LOOPS[..1] } else { &LOOPS[..] };
        let jobs =
            self.jobs.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from);
        let readings = guest::run_all(self.boots(&arms, &folder), &kit, loops, jobs)?;
        let results = gather(&arms, &readings, loops.len());
        results.check()?;
        ui::answer(results.tables());
        let facts = Facts::gather(&readings, commit, self.repeats(), &missing)?;
        if self.is_whole() && kit.newest.is_some() {
            document::write(&results, &facts)?;
        }
        ui::answer(document::driver_line(&results, &facts));
        ui::answer(results.closing_line());
        step.done();
        Ok(ExitCode::SUCCESS)
    }

    fn repeats(&self) -> usize {
        self.repeats.map_or(if self.quick { 1 } else { REPEATS }, usize::from)
    }

    /// Whether the document can be made of it: it shows all arms, and the tree's own binary.
    fn is_whole(&self) -> bool {
        !self.quick && self.arms.is_empty() && self.iovascope.is_none() && self.repeats() >= REPEATS
    }

    /// Builds what runs in the guests, and the lab.
    fn kit(&self, folder: &Path) -> Result<Kit> {
        setup::ensure(&self.mirror, &["mainline"])?;
        let iovascope = match &self.iovascope {
            Some(named) => named.clone(),
            None => build::binary(&self.mirror)?,
        };
        Kit::assemble(folder.join("kit"), &iovascope, &build::example("bare_loop")?)
    }

    /// A fresh guest for each arm and repeat. A quick run has two a repeat: bpftrace starts slowly, so its
    /// arms go together, beside the others.
    fn boots(&self, arms: &[&'static Arm], folder: &Path) -> Vec<Boot> {
        let (slow, fast): (Vec<_>, Vec<_>) = arms.iter().partition(|arm| arm.is_by_bpftrace());
        let groups: Vec<(&str, Vec<&'static Arm>)> = if self.quick {
            vec![("iovascope", fast), ("bpftrace", slow)]
        } else {
            arms.iter().map(|&arm| (arm.name, vec![arm])).collect()
        };
        let boot = |repeat: usize| {
            groups.iter().filter(|(_, arms)| !arms.is_empty()).map(move |(name, arms)| {
                let name = format!("{name}-{repeat}");
                Boot { out: folder.join(&name), arms: arms.clone(), name }
            })
        };
        (1..=self.repeats()).flat_map(boot).collect()
    }
}

fn gather(arms: &[&'static Arm], readings: &[Reading], loops: usize) -> Results {
    let row = |arm: &&'static Arm| {
        let own: Vec<&Reading> = readings.iter().filter(|reading| reading.arm == arm.name).collect();
        let series = |index: usize| {
            Series(own.iter().filter_map(|reading| reading.per_call.get(index).copied()).collect())
        };
        Row { arm, loops: (0..loops).map(series).collect() }
    };
    Results(arms.iter().map(row).collect())
}

/// The folder of the last run gives way to this one's.
pub(super) fn empty(folder: &Path) -> Result<PathBuf> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(folder),
    }
    .with_context(|| format!("cannot empty {}", folder.display()))?;
    Ok(folder.to_path_buf())
}
