//! `cargo xtask bench driver`: what the workload driver adds to a GET_PA, in guest instructions under icount.
//!
//! One guest: the bare loop of `probe-user/examples/bare_loop.rs`, then `iovascope load` in each mode over the
//! same memory and the same calls. Refuses to pass a fastest mode above [`LIMIT`].

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde_json::Value;

use crate::cache::Cache;
use crate::debian::Mirror;
use crate::ui::Step;
use crate::{build, setup, tool, ui, workspace};

/// Instructions that the fastest closed loop may add to a call.
const LIMIT: f64 = 200.0;
/// Calls of each loop.
const CALLS: u64 = 20_000;

/// The modes; the first is the fastest. A new one is a row here.
const MODES: [(&str, &str); 8] = [
    ("closed, one clock reading", "--queries page --one-clock"),
    ("closed", "--queries page"),
    ("closed, random", "--queries random"),
    ("closed, by run", "--queries returned"),
    ("closed, verified", "--queries page --verify"),
    ("closed, failures mixed in", "--queries page --errors flags=5%"),
    ("closed, by cap", "--memory anon --queries cap-sweep --size 4k"),
    ("open, always behind", "--queries page --rate 1000000"),
];

/// Instructions that `iovascope load` adds to a GET_PA, by mode.
///
/// Runs in the lab under icount, so the numbers do not depend on this machine.
/// Fails when the fastest mode adds more than 200.
#[derive(Args)]
pub(crate) struct Driver {
    #[command(flatten)]
    mirror: Mirror,
}

impl Driver {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let step = Step::begin("bench", "instructions that the workload driver adds to a GET_PA");
        let _lock = Cache::open()?.lock("bench-driver")?;
        setup::ensure(&self.mirror, &["mainline"])?;
        let folder = workspace::root().join("out/bench/driver");
        let kit = folder.join("kit");
        fs::create_dir_all(&kit).with_context(|| format!("cannot make {}", kit.display()))?;
        for (from, name) in
            [(build::binary(&self.mirror)?, "iovascope"), (build::example("bare_loop")?, "bare_loop")]
        {
            fs::copy(&from, kit.join(name)).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        let out = folder.join("guest");
        fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
        let mut share = OsString::from("bench=");
        share.push(&kit);
        let mut lab = tool::this();
        lab.args(["lab", "run", "--icount", "--no-build", "--mem", "1G"]);
        lab.arg("--out").arg(&out).arg("--share").arg(share).args(["--", "sh", "-euc", &script()]);
        tool::logged(&mut lab, &folder.join("log"))?;
        let bare = bare(&read(&out, "bare.json")?)?;
        let mut rows = vec![("bare loop", bare)];
        for (index, (name, _)) in MODES.iter().enumerate() {
            rows.push((name, per_call(&read(&out, &format!("{index}.json"))?)?));
        }
        ui::answer(table(&rows));
        let added = rows[1].1 - bare;
        ui::answer(format!("driver: the fastest closed loop adds {added:.0} instructions per GET_PA"));
        step.done();
        if added > LIMIT {
            bail!("that is more than the {LIMIT:.0} that are allowed");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn script() -> String {
    let mut lines = vec![
        // khugepaged would take turns with the loop.
        "echo never > /sys/kernel/mm/transparent_hugepage/enabled".to_owned(),
        "echo 8 > /proc/sys/vm/nr_hugepages".to_owned(),
        // From memory: a page of the program that has to be fetched would take its time.
        "cp /lab/share/bench/iovascope /tmp && /tmp/iovascope load --memory hugetlb --size 4M > first.txt"
            .to_owned(),
        format!("/lab/share/bench/bare_loop bare.json mapped:4096:{CALLS}"),
    ];
    for (index, (_, flags)) in MODES.iter().enumerate() {
        let memory = if flags.contains("--memory") { "" } else { "--memory hugetlb" };
        let size = if flags.contains("--size") { "" } else { "--size 4M" };
        lines.push(format!(
            "/tmp/iovascope load --json {memory} {size} --cap page --count {CALLS} --warm-up 5ms {flags} \
             > {index}.json"
        ));
    }
    lines.join("\n")
}

fn read(folder: &Path, name: &str) -> Result<Value> {
    let path = folder.join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("the guest left no {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}

fn bare(result: &Value) -> Result<f64> {
    let first = &result["loops"][0];
    ratio(&first["ns"], &first["calls"])
}

fn per_call(result: &Value) -> Result<f64> {
    let job = &result["jobs"][0];
    ratio(&job["elapsed_ns"], &job["calls"])
}

fn ratio(time: &Value, calls: &Value) -> Result<f64> {
    match (time.as_u64(), calls.as_u64()) {
        (Some(time), Some(calls @ 1..)) => Ok(time as f64 / calls as f64),
        _ => Err(anyhow!("a result holds no time, or no calls")),
    }
}

fn table(rows: &[(&str, f64)]) -> String {
    let bare = rows[0].1;
    let mut text = String::from("| loop | instructions per call | added |\n|---|---:|---:|\n");
    for (name, cost) in rows {
        let added = if *name == rows[0].0 { "–".to_owned() } else { format!("{:+.0}", cost - bare) };
        text += &["| ", *name, " | ", &format!("{cost:.0}"), " | ", &added, " |\n"].concat();
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn costs_are_read_and_compared() {
        let bare = bare(&json!({ "loops": [{ "ns": 1700, "calls": 1 }] })).unwrap();
        let ours = per_call(&json!({ "jobs": [{ "elapsed_ns": 3600, "calls": 2 }] })).unwrap();
        assert!(table(&[("bare loop", bare), ("closed", ours)]).contains("| closed | 1800 | +100 |"));
        assert!(per_call(&json!({ "jobs": [] })).is_err());
    }

    #[test]
    fn every_mode_runs_once() {
        let script = script();
        assert_eq!(script.matches("iovascope load --json").count(), MODES.len());
        assert_eq!(script.matches("--size").count(), MODES.len() + 1);
    }
}
