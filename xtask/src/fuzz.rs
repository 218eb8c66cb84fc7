//! `cargo xtask fuzz`: the parsers of bytes from elsewhere, under libFuzzer and the address sanitizer.
//!
//! What a run finds stays in `out/fuzz`: a crash is a failure with the file that makes it, and with `--keep` the
//! smallest set of inputs that reaches as much goes to `fuzz/corpus`, which `cargo test` reads again ever after.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cache::Cache;
use crate::ui::{self, Step};
use crate::{Chore, tool, toolchain, workspace};

/// Memory that a parser may take, MiB.
const MOST_MEMORY: u32 = 512;
/// Longest input that is made, bytes.
const MOST_BYTES: u32 = 16 << 10;
/// What stays in the repository of a parser's inputs: about so many, of every size, and so many bytes in all.
const MOST_INPUTS: usize = 60;
const MOST_KEPT: u64 = 96 << 10;

/// Fuzz the parsers, each for a time.
///
/// Needs the sanitizer's runtime, which rustup's toolchain for x86-64 brings.
#[derive(Args)]
pub(crate) struct Fuzz {
    /// Parsers, by their names in fuzz/targets; default: all.
    #[arg(value_name = "PARSER")]
    parsers: Vec<String>,
    /// Seconds for each.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    time: u32,
    /// Put what reaches more than the corpus did into the corpus.
    #[arg(long)]
    keep: bool,
}

impl Chore for Fuzz {
    fn run(self) -> Result<ExitCode> {
        let known = targets()?;
        if let Some(unknown) = self.parsers.iter().find(|parser| !known.contains(parser)) {
            bail!("there is no parser {unknown}; there are: {}", known.join(" "));
        }
        let parsers = if self.parsers.is_empty() { known } else { self.parsers.clone() };
        let program = toolchain::cargo_fuzz(&Cache::open()?)?;
        let step = Step::begin("fuzz", format!("{} s each: {}", self.time, parsers.join(" ")));
        let mut crashed = Vec::new();
        for parser in &parsers {
            if let Err(error) = self.one(&program, parser) {
                ui::error(&error);
                crashed.push(parser.as_str());
            }
        }
        step.done();
        if !crashed.is_empty() {
            bail!("parsers that did not hold: {}", crashed.join(" "));
        }
        ui::answer(format!("fuzz: {} parsers, {} s each, none failed", parsers.len(), self.time));
        Ok(ExitCode::SUCCESS)
    }
}

impl Fuzz {
    fn one(&self, program: &Path, parser: &str) -> Result<()> {
        let [found, artifacts] = ["corpus", "crashes"].map(|what| out().join(what).join(parser));
        for folder in [&found, &artifacts] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let kept = corpus(parser);
        let log = out().join(format!("{parser}.log"));
        let mut run = cargo_fuzz(program, "run", parser);
        // What is found goes to the first folder.
        run.arg(&found).arg(&kept).arg("--");
        run.arg(format!("-max_total_time={}", self.time))
            .arg(format!("-rss_limit_mb={MOST_MEMORY}"))
            // A request that is refused is an error to be told, like any other: what counts is what is used.
            .arg("-malloc_limit_mb=1000000000")
            .env("ASAN_OPTIONS", "allocator_may_return_null=1")
            .arg(format!("-max_len={MOST_BYTES}"))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args(["-timeout=10", "-print_final_stats=1"]);
        tool::logged(&mut run, &log)
            .with_context(|| format!("{parser} crashed, hung or took too much memory"))?;
        let text = fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
        ui::answer(format!(
            "{parser}: {} inputs tried, {} that reach more",
            stat(&text, "number_of_executed_units")?,
            stat(&text, "new_units_added")?
        ));
        if self.keep { keep(program, parser, &found, &kept) } else { Ok(()) }
    }
}

/// Add to the corpus, of the smallest inputs that reach what it and `found` do.
fn keep(program: &Path, parser: &str, found: &Path, kept: &Path) -> Result<()> {
    for (path, _) in files(kept)? {
        let copy = found.join(path.file_name().unwrap_or_default());
        fs::copy(&path, &copy).with_context(|| format!("cannot copy {}", path.display()))?;
    }
    let mut least = cargo_fuzz(program, "cmin", parser);
    least.arg(found);
    tool::logged(&mut least, &out().join(format!("{parser}.cmin.log")))?;
    let mut room = MOST_KEPT;
    let all = files(found)?;
    for (path, size) in all.iter().step_by(all.len().div_ceil(MOST_INPUTS).max(1)) {
        let Some(rest) = room.checked_sub(*size) else { break };
        room = rest;
        let to = kept.join(path.file_name().unwrap_or_default());
        fs::copy(path, &to).with_context(|| format!("cannot copy {}", path.display()))?;
    }
    Ok(())
}

/// A folder's files with their sizes, smallest first.
fn files(folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let list = || -> std::io::Result<Vec<(PathBuf, u64)>> {
        fs::read_dir(folder)?
            .map(|file| file.and_then(|file| Ok((file.path(), file.metadata()?.len()))))
            .collect()
    };
    let mut files = list().with_context(|| format!("cannot list {}", folder.display()))?;
    files.sort_by(|(a, size), (b, other)| (size, a).cmp(&(other, b)));
    Ok(files)
}

fn cargo_fuzz(program: &Path, verb: &str, parser: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["fuzz", verb, "--fuzz-dir", "fuzz", parser])
        .current_dir(workspace::root())
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", workspace::target().join("fuzz"));
    command
}

/// A figure that libFuzzer prints at its end.
fn stat<'a>(log: &'a str, name: &str) -> Result<&'a str> {
    let line =
        log.lines().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':'));
    line.map(str::trim).with_context(|| format!("the fuzzer printed no {name}"))
}

fn targets() -> Result<Vec<String>> {
    let folder = workspace::root().join("fuzz/targets");
    let names =
        files(&folder)?.into_iter().filter_map(|(path, _)| Some(path.file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

fn corpus(parser: &str) -> PathBuf {
    workspace::root().join("fuzz/corpus").join(parser)
}

fn out() -> PathBuf {
    workspace::root().join("out/fuzz")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_corpus_and_a_line_in_the_manifest() {
        let manifest = fs::read_to_string(workspace::root().join("fuzz/Cargo.toml")).unwrap();
        let targets = targets().unwrap();
        assert!(!targets.is_empty());
        for target in targets {
            assert!(!files(&corpus(&target)).unwrap().is_empty(), "{target}");
            assert!(manifest.contains(&format!("path = \"targets/{target}.rs\"")), "{target}");
        }
    }

    #[test]
    fn what_libfuzzer_says_at_its_end_is_read() {
        let log = "Done 9 runs\nstat::number_of_executed_units: 1342\nstat::new_units_added:          7\n";
        assert_eq!(stat(log, "number_of_executed_units").unwrap(), "1342");
        assert_eq!(stat(log, "new_units_added").unwrap(), "7");
        assert!(stat(log, "peak_rss_mb").is_err());
    }
}
