//! The workload driver, on a machine with a second device and a huge page of 1 GiB.

mod binding;
mod jobs;
mod pace;
mod patterns;

use serde_json::Value;

use crate::guest;

/// `iovascope load --json` with these flags, which must succeed.
fn load(flags: &str) -> Value {
    let output = guest::succeed(guest::iovascope(&["load", "--json"]).args(flags.split_whitespace()));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A number of the first job.
fn number(load: &Value, pointer: &str) -> u64 {
    let value = guest::job(load).pointer(pointer).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("no {pointer} in {load:#}"))
}
