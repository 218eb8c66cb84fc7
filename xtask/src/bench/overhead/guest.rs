//! The guests of a run: what they share, starting them under icount, and reading what an arm left.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, anyhow};

use super::arm::{self, Arm, Binary, Loop, Tool};
use super::evidence::{self, Program};
use crate::bench::newest;
use crate::{tool, ui, workspace};

/// Huge pages that the drivers need at once, and some to spare.
const HUGE_PAGES: u32 = 8;
/// khugepaged (nice 19) would take 15/1039 of the CPU whenever it has a large process to look through.
const QUIET: &str = "echo never > /sys/kernel/mm/transparent_hugepage/enabled";

/// A folder that every guest sees at `/lab/share/bench`: the programs under test and the scripts. A copy,
/// so that what is built meanwhile does not come into a run.
pub(super) struct Kit {
    folder: PathBuf,
    /// The newest bpftrace, where it was asked for and can be had.
    pub(super) newest: Option<PathBuf>,
    pub(super) binary: Binary,
}

impl Kit {
    pub(super) fn assemble(folder: PathBuf, iovascope: &Path, bare_loop: &Path) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let put = |from: &Path, name: &Path| {
            fs::copy(from, folder.join(name)).with_context(|| format!("cannot copy {}", from.display()))
        };
        put(iovascope, Path::new("iovascope"))?;
        put(bare_loop, Path::new("bare_loop"))?;
        let scripts = workspace::root().join("lab/bench");
        let listed = fs::read_dir(&scripts).with_context(|| format!("cannot list {}", scripts.display()))?;
        for entry in listed {
            let entry = entry.with_context(|| format!("cannot list {}", scripts.display()))?;
            put(&entry.path(), Path::new(&entry.file_name()))?;
        }
        let binary = Binary::ask(&folder.join("iovascope"))?;
        Ok(Self { folder, newest: None, binary })
    }
}

/// One guest: some arms, one after the other.
pub(super) struct Boot {
    pub(super) name: String,
    pub(super) arms: Vec<&'static Arm>,
    pub(super) out: PathBuf,
}

impl Boot {
    /// Boots, runs the arms, and reads them.
    fn run(&self, kit: &Kit, loops: &[Loop]) -> Result<Vec<Reading>> {
        fs::create_dir_all(&self.out).with_context(|| format!("cannot make {}", self.out.display()))?;
        let mut share = OsString::from("bench=");
        share.push(&kit.folder);
        let mut lab = tool::this();
        lab.args(["lab", "run", "--icount", "--no-build", "--mem", "1G"]);
        lab.arg("--out").arg(&self.out).arg("--share").arg(share);
        if let Some(folder) = &kit.newest {
            lab.arg("--share").arg(newest::share(folder));
        }
        lab.args(["--", "sh", "-euc", &self.script(kit, loops)]);
        tool::logged(&mut lab, &self.out.join("log"))?;
        let read = |arm: &&'static Arm| {
            Reading::take(arm, &self.out.join(arm.name), loops)
                .with_context(|| format!("the arm {} has no result", arm.name))
        };
        self.arms.iter().map(read).collect()
    }

    fn script(&self, kit: &Kit, loops: &[Loop]) -> String {
        let arm = |arm: &&Arm| {
            let specs = loops.iter().map(|each| arm.spec(each)).collect::<Vec<_>>().join(" ");
            let words = arm.words(&kit.binary).join(" ");
            format!("sh /lab/share/bench/arm.sh {} '{specs}' {words}", arm.name)
        };
        let pages = format!("echo {HUGE_PAGES} > /proc/sys/vm/nr_hugepages");
        [QUIET.to_owned(), pages].into_iter().chain(self.arms.iter().map(arm)).collect::<Vec<_>>().join("\n")
    }
}

/// Runs all boots, `jobs` at a time. Counting instructions, guests do not disturb each other's numbers.
pub(super) fn run_all(boots: Vec<Boot>, kit: &Kit, loops: &[Loop], jobs: usize) -> Result<Vec<Reading>> {
    let total = boots.len();
    let queue = Mutex::new(boots.into_iter().enumerate());
    let work = || -> Result<Vec<Reading>> {
        let mut readings = Vec::new();
        loop {
            let next = queue.lock().map_err(|_| anyhow!("another guest's thread panicked"))?.next();
            let Some((index, boot)) = next else { return Ok(readings) };
            ui::say(format!("[bench] guest {} of {total}: {}", index + 1, boot.name));
            match boot.run(kit, loops) {
                Ok(more) => readings.extend(more),
                Err(error) => {
                    // One failure decides: the others need not begin.
                    while queue.lock().is_ok_and(|mut rest| rest.next().is_some()) {}
                    return Err(error);
                }
            }
        }
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for one in running {
            all.extend(one.join().map_err(|_| anyhow!("a guest's thread panicked"))??);
        }
        Ok(all)
    })
}

/// What one arm gave in one guest, its counts checked.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) arm: &'static str,
    /// Instructions per call, in the order of the loops.
    pub(super) per_call: Vec<f64>,
    /// Instructions per call of `iovascope load`, where it was measured.
    pub(super) load: Option<f64>,
    pub(super) programs: Vec<Program>,
    /// `uname -r`.
    pub(super) kernel: String,
    /// What the tool says of its version, where it was asked.
    pub(super) version: Option<String>,
}

impl Reading {
    fn take(arm: &'static Arm, folder: &Path, loops: &[Loop]) -> Result<Self> {
        let text = |name: &str| {
            fs::read_to_string(folder.join(name)).with_context(|| format!("its guest left no {name}"))
        };
        let driven = evidence::driven(&text("driver.json")?)?;
        let load = if arm.tool == Tool::Nothing { Some(evidence::load(&text("load.json")?)?) } else { None };
        match arm.tool {
            Tool::Nothing => {}
            Tool::Empty { programs, .. } => evidence::check_empty(&text("programs.json")?, programs)?,
            Tool::Ours { backend, .. } => evidence::check_ours(&text("tool.json")?, backend, &driven.calls)?,
            Tool::Watched { .. } => {
                evidence::check_ours(&text("tool.json")?, arm::WATCHED_BY, &driven.calls)?;
                evidence::check_watched(&text("looks")?)?;
            }
            Tool::Bpftrace { .. } | Tool::Newest { .. } => {
                evidence::check_bpftrace(&text("tool.json")?, &driven.calls)?;
            }
        }
        let programs = match arm.tool {
            Tool::Nothing => Vec::new(),
            _ => evidence::programs(&text("programs.json")?, &text("fdinfo")?)?,
        };
        let version = if folder.join("version").is_file() { Some(text("version")?) } else { None };
        let per_call = loops.iter().map(|each| per_call(arm, &driven, each)).collect::<Result<_>>()?;
        Ok(Self {
            arm: arm.name,
            per_call,
            load,
            programs,
            kernel: text("kernel")?.trim().to_owned(),
            version: version.map(|text| text.trim().to_owned()),
        })
    }
}

fn per_call(arm: &Arm, driven: &evidence::Driven, each: &Loop) -> Result<f64> {
    // There is one CPU: what reads the counters meanwhile takes time from the loop, and none of its own.
    let watched = matches!(arm.tool, Tool::Watched { .. });
    let measured = if watched { &driven.own_per_call } else { &driven.per_call };
    let spec = arm.spec(each);
    measured.get(spec).copied().ok_or_else(|| anyhow!("driver.json lacks the loop {spec}"))
}
