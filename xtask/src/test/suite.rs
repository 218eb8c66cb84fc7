//! The suites: which there are, and the command of each.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::Part;
use super::run::{Again, Judge, Suite};
use crate::cache::Cache;
use crate::debian::Mirror;
use crate::{build, judges, tool, workspace};

/// Variants of the lab, each with a module of tests of its name in probe-user/tests/lab.
pub(super) const VARIANTS: [&str; 10] = [
    "mainline",
    "rt",
    "workload",
    "slow-scan",
    "v5",
    "noiommu-off",
    "stock",
    "many-cpus",
    "linux-6-1",
    "linux-6-12",
];

/// Which of the guests' tests: those in modules called `long` are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Usual,
    Long,
}

impl Form {
    /// Whether a test belongs to it, by its path.
    fn holds(self, test: &str) -> bool {
        test.contains("::long::") == (self == Self::Long)
    }

    /// Seconds until a guest is stopped.
    fn limit(self) -> &'static str {
        match self {
            Self::Usual => "2700",
            Self::Long => "14400",
        }
    }
}

/// The suites of a part.
pub(super) fn of(part: Part, mirror: &Mirror, filter: Option<&str>) -> Result<Vec<Suite>> {
    match part {
        Part::Lint => Ok(lint()),
        Part::Unit => unit(mirror),
        Part::Judges => Ok(vec![judged(mirror)?]),
        Part::Lab => Ok(vec![lab()]),
        Part::Guest => guests(mirror, filter, Form::Usual),
        Part::Long => guests(mirror, filter, Form::Long),
    }
}

fn lint() -> Vec<Suite> {
    let status =
        |name: &str, command| Suite { name: name.to_owned(), command, judge: Judge::Status, again: None };
    let deny = ["-D", "warnings"];
    let mut bpf = cargo(
        &["clippy", "--package", "probe-ebpf", "-Zbuild-std=core", "--target", build::BPF_TARGET],
        &deny,
    );
    bpf.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", build::bpf_target_dir());
    vec![
        status("rustfmt", cargo(&["fmt", "--all"], &["--check"])),
        status(
            "clippy",
            cargo(
                &[
                    "clippy",
                    "--all-targets",
                    "--features",
                    "probe-user/bench,probe-user/lab,probe-user/judges,xtask/lab",
                ],
                &deny,
            ),
        ),
        status("clippy, BPF side", bpf),
    ]
}

fn unit(mirror: &Mirror) -> Result<Vec<Suite>> {
    let object = build::bpf_object(mirror)?;
    let tests = move |last: &[&str]| {
        // All of them, so that those that failed are all that there is to run again.
        let mut command = cargo(&["test", "--no-fail-fast"], last);
        command.env(build::OBJECT_VARIABLE, &object);
        command
    };
    let command = tests(&[]);
    let again: Again = Box::new(move |names| {
        let mut command = tests(&["--exact"]);
        command.args(names);
        Ok(command)
    });
    Ok(vec![Suite { name: "unit tests".to_owned(), command, judge: Judge::Harness, again: Some(again) }])
}

fn lab() -> Suite {
    let tests = || {
        cargo(
            &["test", "--package", "xtask", "--test", "lab", "--features", "lab"],
            &["--test-threads=1", "--exact"],
        )
    };
    let again: Again = Box::new(move |names| {
        let mut command = tests();
        command.args(names);
        Ok(command)
    });
    Suite { name: "the lab itself".to_owned(), command: tests(), judge: Judge::Guest, again: Some(again) }
}

/// The tests run inside the judges' root, beside the tools that they ask.
fn judged(mirror: &Mirror) -> Result<Suite> {
    let tests = build::test_binary(mirror, "judges", &["judges"])?;
    let program = build::binary(mirror)?;
    let cache = Cache::open()?;
    let root = judges::ensure(&cache, mirror)?;
    let receiver = judges::receiver::ensure(&cache, mirror)?;
    let work = empty_folder("judges")?;
    for (from, name) in [(&tests, "judges"), (&program, "iovascope"), (&receiver, "prometheus")] {
        fs::copy(from, work.join(name)).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    for folder in ["dashboards", "docs", "packaging"] {
        copy_folder(&workspace::root().join(folder), &work.join(folder))?;
    }
    let tests = move || {
        // A judge that hangs is stopped, and that is a failure.
        let mut command = judges::command(&root, &work, "/usr/bin/timeout");
        command.args(["--kill-after=5", "1500", "/lab/build/judges", "--test-threads=2", "--exact"]);
        command
    };
    let command = tests();
    let again: Again = Box::new(move |names| {
        let mut command = tests();
        command.args(names);
        Ok(command)
    });
    Ok(Suite { name: "other people's tools".to_owned(), command, judge: Judge::Guest, again: Some(again) })
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", from.display()))?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_folder(&path, &to)?;
        } else {
            fs::copy(&path, &to).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

fn guests(mirror: &Mirror, filter: Option<&str>, form: Form) -> Result<Vec<Suite>> {
    let binary = build::test_binary(mirror, "lab", &["lab"])?;
    build::binary(mirror)?;
    // The binary is static: what runs in the guest can be asked here.
    let listed = tool::output(Command::new(&binary).args(["--list", "--format", "terse"]))?;
    let tests: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let mut suites = Vec::new();
    for variant in VARIANTS {
        let module = format!("{}::", variant.replace('-', "_"));
        let ours = tests.iter().filter(|test| test.starts_with(&module) && form.holds(test));
        let wanted: Vec<&str> =
            ours.copied().filter(|test| filter.is_none_or(|text| test.contains(text))).collect();
        // Without a filter an empty module runs too, and fails as a run without a test.
        if (filter.is_none() && form == Form::Usual) || !wanted.is_empty() {
            let command = guest(variant, variant, &binary, &wanted, form)?;
            let binary = binary.clone();
            let again: Again = Box::new(move |names| {
                // Beside what the first run left, for who wants to look at that.
                guest(variant, &format!("{variant}-again"), &binary, names, form)
            });
            suites.push(Suite {
                name: format!("iovascope on {variant}"),
                command,
                judge: Judge::Guest,
                again: Some(again),
            });
        }
    }
    match filter {
        Some(text) if suites.is_empty() => bail!("no test of the guests has {text:?} in its name"),
        _ => Ok(suites),
    }
}

fn guest(
    variant: &str,
    out: &str,
    binary: &Path,
    tests: &[impl AsRef<OsStr>],
    form: Form,
) -> Result<Command> {
    let folder = binary.parent().ok_or_else(|| anyhow!("{} has no folder", binary.display()))?;
    let name = binary.file_name().ok_or_else(|| anyhow!("{} has no name", binary.display()))?;
    let (mut share, mut program) = (OsString::from("tests="), OsString::from("/lab/share/tests/"));
    share.push(folder);
    program.push(name);
    let mut command = tool::this();
    command.args(["lab", "run", "--no-build", "--timeout", form.limit(), "--variant", variant]);
    command.arg("--out").arg(empty_folder(out)?).arg("--share").arg(share).arg("--");
    // In turn: the tests share one machine, and count everything that happens on it.
    command.arg(program).args(["--test-threads=1", "--exact"]).args(tests);
    if tests.is_empty() {
        command.arg("none");
    }
    Ok(command)
}

/// Where a variant's guest leaves recordings and its console: kept for who wants to look.
fn empty_folder(variant: &str) -> Result<PathBuf> {
    let folder = workspace::root().join("out/test").join(variant);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(&folder),
    }
    .with_context(|| format!("cannot empty {}", folder.display()))?;
    Ok(folder)
}

fn cargo(arguments: &[&str], last: &[&str]) -> Command {
    let mut command = Command::new(workspace::cargo());
    command.args(arguments).current_dir(workspace::root());
    if !last.is_empty() {
        command.arg("--").args(last);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_forms_are_told_by_their_module() {
        for (test, long) in [("mainline::residue::long::killed", true), ("mainline::long_runs::all", false)] {
            assert_eq!((Form::Long.holds(test), Form::Usual.holds(test)), (long, !long));
        }
    }

    #[test]
    fn every_variant_of_the_lab_is_tested() {
        let mut known = crate::lab::variants().unwrap();
        let mut tested = VARIANTS.map(str::to_owned);
        known.sort();
        tested.sort();
        assert_eq!(known, tested);
    }
}
