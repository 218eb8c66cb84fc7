//! PID 1 of the lab's guest: mounts, loads, runs one command, says how it ended, powers off.
//!
//! Refuses to be clever: any step that fails ends the guest with a verdict that names the step. Uses no
//! program of the guest's root before the root is complete.

mod boot;
mod device;
mod modules;
mod mounts;
mod ports;
mod run;

use std::fs;

use lab_init::path;
use lab_init::spec::Spec;
use lab_init::verdict::Verdict;
use rustix::system::{RebootCommand, reboot};

use crate::ports::Ports;

/// What failed, in words for the host's terminal.
type Failure = String;

fn main() {
    let verdict = mounts::early().and_then(|()| boot::load_modules()).and_then(|()| Ports::open());
    match verdict {
        Ok(mut ports) => {
            let verdict = serve(&mut ports).unwrap_or_else(Verdict::Failed);
            ports.conclude(&verdict);
        }
        // Without ports the console is the only way out; the host shows its tail.
        Err(reason) => drop(fs::write("/dev/kmsg", format!("<2>lab-init: {reason}\n"))),
    }
    rustix::fs::sync();
    // On success this does not return; on failure PID 1 ends, the kernel panics, and the host sees it.
    let _ = reboot(RebootCommand::PowerOff);
}

fn serve(ports: &mut Ports) -> Result<Verdict, Failure> {
    boot::enter_root()?;
    let text = fs::read_to_string(path::SPEC).map_err(|e| format!("read {}: {e}", path::SPEC))?;
    let spec = Spec::decode(&text).map_err(|e| e.to_string())?;
    mounts::shares(&spec)?;
    modules::load_all(&spec.modules)?;
    if spec.noiommu_device {
        device::prepare()?;
    }
    device::check_nodes(&spec.present, &spec.absent)?;
    run::command(&spec, ports)
}
