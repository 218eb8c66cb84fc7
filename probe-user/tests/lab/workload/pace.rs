//! Open and closed loops, seeds, and progress.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{load, number};
use crate::guest;

/// A driver with `--progress ndjson`, once it has told of `calls` calls.
fn driving(flags: &str, calls: u64) -> Child {
    let mut command = guest::iovascope(&["load", "--json", "--progress", "ndjson"]);
    command.args(flags.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = loop {
        let line = lines.next().expect("the driver ended early").unwrap();
        let progress: Value = serde_json::from_str(&line).unwrap();
        let job = &progress["jobs"][0];
        if job["calls"].as_u64().is_some_and(|seen| seen >= calls) {
            break job.clone();
        }
    };
    // Let the rest of it flow: a full pipe would stall the driver.
    std::thread::spawn(move || lines.for_each(drop));
    assert_eq!(told["intended_per_second"], 1000.0);
    assert!(told["service_ns"]["ok"]["count"].as_u64() > Some(0), "{told}");
    assert!(told["response_ns"]["ok"]["buckets"].is_object() && told["left_ns"].is_u64(), "{told}");
    child
}

fn signal(child: &Child, name: &str) {
    guest::succeed(Command::new("kill").args([format!("-{name}"), child.id().to_string()]));
}

#[test]
fn a_stop_of_the_driver_is_seen_in_response_time_and_not_in_service_time() {
    let flags = "--size 4M --queries random --rate 1000 --duration 10s";
    let child = driving(flags, 3000);
    signal(&child, "STOP");
    // The stop itself: what is measured.
    std::thread::sleep(Duration::from_millis(500));
    signal(&child, "CONT");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    std::fs::write(guest::file("stopped.load.json"), &output.stdout).unwrap();
    let p99 = |kind: &str| number(&result, &format!("/{kind}/ok/p99"));
    let (response, service) = (p99("response_ns"), p99("service_ns"));
    assert!(response >= 200_000_000, "p99 of response: {response} ns");
    assert!(service < 100_000_000, "p99 of service: {service} ns");
    assert!(number(&result, "/response_ns/ok/max") >= 450_000_000);
    // No call was dropped: those that were due meanwhile were made up for.
    let (calls, owed) = (number(&result, "/calls"), number(&result, "/rate/owed"));
    assert_eq!(calls + owed, 10_000);
}

#[test]
fn a_closed_loop_has_no_response_time_and_a_warm_up_is_not_measured() {
    let result = load("--size 1M --queries page --count 500 --warm-up 50ms");
    assert_eq!(guest::job(&result)["response_ns"], Value::Null);
    assert_eq!(number(&result, "/calls"), 500);
    let all = guest::count(&guest::driven(&result), "IOAS_NOIOMMU_GET_PA", "ok");
    let warm = number(&result, "/warm_up/0/count");
    assert!(warm > 0 && all == 500 + warm, "{all} calls, {warm} to warm up");
}

#[test]
fn a_rate_beyond_the_machine_is_said_to_be() {
    let result = load("--size 1M --queries page --rate 100000000 --duration 100ms");
    assert!(number(&result, "/rate/owed") > 1_000_000);
    let text = guest::succeed(&mut guest::iovascope(&["load", "--size=1M", "--rate=1e8", "--duration=50ms"]));
    assert!(guest::stdout(&text).contains("never began"), "{}", guest::stdout(&text));
}

#[test]
fn the_same_seed_gives_the_same_calls() {
    let hash = |flags: &str| {
        let flags = format!("--size 4M --threads 3 --count 2000 --errors unmapped=5%,flags=40 {flags}");
        guest::job(&load(&flags))["arguments_hash"].as_str().unwrap().to_owned()
    };
    for queries in ["random", "unaligned", "page", "cap-sweep"] {
        let first = hash(&format!("--queries {queries} --seed 7"));
        assert_eq!(first, hash(&format!("--queries {queries} --seed 7")), "{queries}");
    }
    assert_ne!(hash("--queries random --seed 7"), hash("--queries random --seed 8"));
    assert_ne!(hash("--queries random --seed 7"), hash("--queries unaligned --seed 7"));
}

#[test]
fn threads_are_pinned_where_they_should_be() {
    let result = load("--size 1M --count 100 --threads 2 --cpus 0-1");
    assert_eq!(guest::job(&result)["not_pinned"], Value::Null);
    let result = load("--size 1M --count 100 --cpus 63");
    assert_eq!(guest::job(&result)["not_pinned"], "EINVAL");
}
