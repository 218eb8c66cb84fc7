//! `cargo xtask bench completeness`: of calls that wait on each other, which does a tool have?
//!
//! ```text
//! arm (data) ─► guest, one an arm and repeat ─► evidence ─► table ─► document (docs/completeness.md, README.md)
//! ```

mod arm;
mod document;
mod evidence;
mod table;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use self::arm::{ARMS, Arm, Tool};
use self::document::Facts;
use self::evidence::{Seen, Truth};
use self::table::Row;
use super::{newest, overhead};
use crate::cache::Cache;
use crate::debian::Mirror;
use crate::ui::Step;
use crate::{build, setup, tool, ui, workspace};

/// Boots per arm for the document.
const REPEATS: u8 = 3;

/// Which calls our backends and bpftrace see when 64 threads wait on each other inside `iopt_get_phys`.
///
/// Writes docs/completeness.md and the README's table when all arms were asked for. Fails if one of our backends
/// does not account for every call.
#[derive(Args)]
pub(crate) struct Completeness {
    /// Only arms with this in their name; may be given several times.
    #[arg(long = "arm", value_name = "TEXT")]
    arms: Vec<String>,
    /// Boots per arm.
    #[arg(long, value_name = "N", default_value_t = REPEATS, value_parser = clap::value_parser!(u8).range(1..=100))]
    repeats: u8,
    #[command(flatten)]
    mirror: Mirror,
}

/// What one boot gave.
struct Reading {
    seen: Seen,
    truth: Truth,
    kernel: String,
    version: Option<String>,
}

impl Completeness {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let step = Step::begin("bench", "calls that tools see when 64 threads wait on each other");
        let _lock = Cache::open()?.lock("bench-completeness")?;
        let folder = overhead::empty(&workspace::root().join("out/bench/completeness"))?;
        // Before building: the tree may move on while guests run.
        let commit = overhead::commit();
        let mut arms = self.chosen()?;
        setup::ensure(&self.mirror, &["mainline"])?;
        let kit = kit(folder.join("kit"), &build::binary(&self.mirror)?)?;
        let wants_newest = arms.iter().any(|arm| matches!(arm.tool, Tool::Newest(_)));
        let newest = if wants_newest { newest::find(&self.mirror) } else { None };
        arms.retain(|arm| newest.is_some() || !matches!(arm.tool, Tool::Newest(_)));
        let mut rows: Vec<Row> =
            arms.iter().map(|&arm| Row { arm, version: None, boots: Vec::new() }).collect();
        let mut kernel = String::new();
        for repeat in 1..=self.repeats {
            for row in &mut rows {
                ui::say(format!("[bench] {}, boot {repeat} of {}", row.arm.name, self.repeats));
                let out = folder.join(format!("{}-{repeat}", row.arm.name.replace([',', ' '], "")));
                let reading = boot(row.arm, &kit, newest.as_deref(), &out)
                    .with_context(|| format!("the arm {:?} has no result", row.arm.name))?;
                row.boots.push((reading.seen, reading.truth));
                row.version = reading.version;
                kernel = reading.kernel;
            }
        }
        table::check(&rows)?;
        let text = table::table(&rows)?;
        ui::answer(&text);
        if rows.len() == ARMS.len() && self.repeats >= REPEATS {
            document::write(&text, &Facts { kernel, commit, boots: usize::from(self.repeats) })?;
        }
        step.done();
        Ok(ExitCode::SUCCESS)
    }

    fn chosen(&self) -> Result<Vec<&'static Arm>> {
        let wanted =
            |arm: &&Arm| self.arms.is_empty() || self.arms.iter().any(|text| arm.name.contains(text));
        let chosen: Vec<&Arm> = ARMS.iter().filter(wanted).collect();
        if chosen.is_empty() {
            let known: Vec<&str> = ARMS.iter().map(|arm| arm.name).collect();
            bail!("no arm has that in its name; there are: {}", known.join("; "));
        }
        Ok(chosen)
    }
}

/// A folder with what runs in the guests. A copy, so that what is built meanwhile does not come into a run.
fn kit(folder: PathBuf, iovascope: &Path) -> Result<PathBuf> {
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let scripts = workspace::root().join("lab/bench");
    let listed = fs::read_dir(&scripts).with_context(|| format!("cannot list {}", scripts.display()))?;
    let files = listed.flatten().map(|entry| entry.path()).chain([iovascope.to_path_buf()]);
    for file in files {
        let name = file.file_name().unwrap_or_default();
        fs::copy(&file, folder.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    Ok(folder)
}

fn boot(arm: &Arm, kit: &Path, newest: Option<&Path>, out: &Path) -> Result<Reading> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut share = OsString::from("bench=");
    share.push(kit);
    let mut lab = tool::this();
    // Reserved at boot the huge pages adjoin each other: scans are long, and callers wait.
    lab.args(["lab", "run", "--no-build", "--append", "hugepages=72"]);
    lab.arg("--out").arg(out).arg("--share").arg(share);
    if let Some(folder) = newest.filter(|_| matches!(arm.tool, Tool::Newest(_))) {
        lab.arg("--share").arg(newest::share(folder));
    }
    lab.args(["--", "sh", "/lab/share/bench/contention.sh"]).args(arm.tool.words());
    tool::logged(&mut lab, &out.join("log"))?;
    let text =
        |name: &str| fs::read_to_string(out.join(name)).with_context(|| format!("its guest left no {name}"));
    let seen = match arm.tool {
        Tool::Ours(_) => evidence::ours(&text("tool.json")?, &text("strict")?)?,
        Tool::Bpftrace(_) | Tool::Newest(_) => evidence::bpftrace(&text("tool.json")?, &text("said")?)?,
    };
    let version = text("version").ok().map(|text| text.trim().to_owned());
    let kernel = text("kernel")?.trim().to_owned();
    Ok(Reading { seen, truth: evidence::driven(&text("driver.json")?)?, kernel, version })
}
