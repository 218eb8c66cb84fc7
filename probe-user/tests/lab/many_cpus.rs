//! A machine with 64 possible CPUs: every one has counters of its own. And, because few tests follow: lockdown, which
//! stays until a guest ends.

use std::fs;

use probe_common::wire::Block;
use serde_json::Value;

use crate::guest;

/// Kernel memory of the maps of one recorder, bytes.
const LIMIT: u64 = 64 << 20;
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

#[test]
fn the_maps_of_sessions_take_at_most_64_mib() {
    the_maps_take_at_most_64_mib("fsession");
}

#[test]
fn the_maps_of_kprobe_sessions_take_at_most_64_mib() {
    the_maps_take_at_most_64_mib("kprobe-session");
}

#[test]
fn the_maps_of_kprobes_take_at_most_64_mib() {
    the_maps_take_at_most_64_mib("kprobe");
}

fn the_maps_take_at_most_64_mib(backend: &str) {
    assert_eq!(fs::read_to_string(POSSIBLE).unwrap().trim(), "0-63");
    let file = guest::file(format!("maps-{backend}.iova"));
    let mut record = guest::iovascope(&["record", "--backend", backend, "-o"]);
    record.arg(&file).args(["--", "bpftool", "--json", "map", "show"]);
    let maps: Value = serde_json::from_slice(&guest::succeed(&mut record).stdout).unwrap();
    let maps = maps.as_array().unwrap();
    let memory = |map: &Value| map["bytes_memlock"].as_u64().unwrap();
    let blocks = maps.iter().find(|map| map["name"] == "BLOCKS").expect("the map of counters");
    // One element with a block for each.
    assert_eq!(blocks["bytes_value"], 64 * size_of::<Block>());
    let sum: u64 = maps.iter().map(memory).sum();
    let mut kept: Vec<String> = maps.iter().map(|map| format!("{}: {}", map["name"], memory(map))).collect();
    kept.push(format!("bytes in all: {sum}; a CPU: {}", size_of::<Block>()));
    fs::write(guest::file(format!("maps-{backend}.txt")), kept.join("\n")).unwrap();
    assert!(sum <= LIMIT, "{sum} bytes: {maps:#?}");
    assert_eq!(guest::report(&file)["header"]["cpus"], 64);
    guest::nothing_left();
}

/// Last: lockdown stays until the guest ends.
#[test]
fn under_lockdown_to_confidentiality_what_works_is_used() {
    let level = "/sys/kernel/security/lockdown";
    if !std::path::Path::new(level).exists() {
        guest::succeed(std::process::Command::new("mount").args([
            "-t",
            "securityfs",
            "none",
            "/sys/kernel/security",
        ]));
    }
    fs::write(level, "confidentiality").unwrap();
    assert!(fs::read_to_string(level).unwrap().contains("[confidentiality]"));

    let said = guest::stdout(&guest::succeed(&mut guest::iovascope(&["doctor"])));
    assert!(said.contains("record: yes, by fsession, fentry, kprobe-session\n"), "{said}");
    for backend in ["fsession", "fentry", "kprobe-session"] {
        let recorded = guest::record_load_by(backend, "lockdown", "--size 1M --count 27 --threads 1");
        let calls = guest::count(&guest::dispatched(&recorded.report), "IOAS_NOIOMMU_GET_PA", "ok");
        assert_eq!(calls, 27, "{backend}: {}", recorded.report);
        assert_eq!(recorded.report["complete"], true, "{backend}: {}", recorded.report["balance"]);
    }
    let output = guest::iovascope(&["record", "--backend", "kprobe", "-d", "50ms", "-o", "/tmp/k.iova"])
        .output()
        .unwrap();
    let said = guest::stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("confidentiality") && said.contains("what to do: fsession"), "{said}");
}
