//! Can this machine, or that kernel image, be observed? Looks, judges, and says what to do.
//!
//! Changes nothing: loads no module, sets no option, binds no device. Whoever has the kernel source may try backends
//! for it ([`refusal::Trials`]), which are attached and taken off again.

use std::io::{self, Write};

use probe_common::site::Backend;
use serde::Serialize;

use crate::exit::CannotRun;

pub mod checks;
pub mod config;
pub mod host;
pub mod kernel_file;
pub mod machine;
pub mod refusal;
pub mod symbols;
pub mod unpack;
pub mod verdict;

pub use host::Host;
pub use machine::Machine;

use checks::{Check, Need};
use verdict::Verdict;

/// Name and version of the JSON shape.
const SCHEMA: &str = "iovascope.doctor/1";

/// What `iovascope doctor` found.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    pub schema: &'static str,
    pub kernel: String,
    pub checks: Vec<Check>,
    /// Ways to attach that are open, best first; empty where `record` is not able.
    #[serde(serialize_with = "names")]
    pub ways: Vec<Backend>,
    pub record: Verdict,
    pub load: Verdict,
    /// The module that holds the probed functions; `None` where they are built in, or not there.
    #[serde(skip)]
    pub module: Option<&'static str>,
}

/// Look at `host` and judge it.
pub fn diagnose(host: &Host) -> Diagnosis {
    judge(&Machine::look(host))
}

/// Judge a machine that was looked at, and on which backends may have been tried.
pub fn judge(machine: &Machine) -> Diagnosis {
    let record = verdict::record(machine);
    Diagnosis {
        schema: SCHEMA,
        kernel: machine.release.clone(),
        checks: checks::all(machine),
        ways: if record.able { verdict::ways(machine) } else { Vec::new() },
        record,
        load: verdict::load(machine),
        module: machine.module,
    }
}

/// The facts about a machine whose kernel has what is recorded, or what it lacks. Whether the process may is found out
/// by trying.
pub fn require_record(host: &Host) -> Result<Machine, CannotRun> {
    let machine = Machine::look(host);
    verdict::require(&verdict::possible(&machine)).map(|()| machine)
}

impl Diagnosis {
    /// For a person.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        for check in &self.checks {
            let need = if check.need == Need::Load { " (load only)" } else { "" };
            writeln!(out, "{:<12}{:<22}{}{need}", check.state.word(), check.name, check.finding)?;
        }
        let ways: Vec<&str> = self.ways.iter().map(|way| way.name()).collect();
        writeln!(out)?;
        write_verdict(out, "record", &self.record, &format!("by {}", ways.join(", ")))?;
        write_verdict(out, "load", &self.load, "a no-IOMMU device is there")
    }
}

fn names<S: serde::Serializer>(ways: &[Backend], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ways.iter().map(|way| way.name()))
}

fn write_verdict(out: &mut dyn Write, name: &str, verdict: &Verdict, how: &str) -> io::Result<()> {
    if verdict.able {
        return writeln!(out, "{:<8}yes, {how}", format!("{name}:"));
    }
    let mut label = format!("{name}:");
    for obstacle in &verdict.obstacles {
        writeln!(out, "{label:<8}{}{}", if label.is_empty() { "    " } else { "no, " }, obstacle.why)?;
        writeln!(out, "{:<12}what to do: {}", "", obstacle.remedy)?;
        label.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
