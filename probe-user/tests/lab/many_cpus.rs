//! A machine with 64 possible CPUs: every one has counters of its own. Its clock counts ticks (`clocksource=jiffies`). And,
//! because few tests follow: lockdown, which stays until a guest ends.

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

/// Nearly every call is shorter than a tick: no face of the recording says that it took 0 ns.
#[test]
fn less_than_a_tick_is_said_to_be_less() {
    let recorded = guest::record_load("ticks", "--size 1M --cap page --count 300");
    let host = &recorded.report["header"]["host"];
    assert_eq!(host["clocksource"], "jiffies");
    let step = host["clock_step"].as_u64().unwrap();
    assert!((1_000_000..=10_000_000).contains(&step), "{step}");
    let ok = &recorded.report["dispatch"]["IOAS_NOIOMMU_GET_PA"]["ok"];
    assert_eq!(
        (&ok["count"], &ok["p50"], &ok["resolution"]),
        (&300.into(), &Value::Null, &step.into()),
        "{ok}"
    );
    let less = probe_model::clock::below(step);
    let face =
        |arguments: &[&str]| guest::stdout(&guest::succeed(guest::iovascope(arguments).arg(&recorded.file)));
    let escaped = less.replace('<', "&lt;");
    for (arguments, said) in [
        (&["report"][..], &less),
        (&["report", "--format", "markdown"], &less),
        (&["report", "--format", "html"], &escaped),
        (&["export", "-f", "svg"], &escaped),
    ] {
        let text = face(arguments);
        assert!(text.contains(said.as_str()), "{arguments:?}: {text}");
        // Of forms that have a line a row; a page is one line, with the times of its axes.
        let zero = text.lines().find(|line| line.contains("GET_PA") && line.contains(" 0 ns"));
        assert!(zero.is_none() || text.contains("<svg"), "{arguments:?}: {zero:?}");
    }
    let csv = face(&["export", "-f", "csv"]);
    let cells = csv.lines().filter(|line| line.contains(",dispatch.IOAS_NOIOMMU_GET_PA.ok,"));
    let medians: Vec<&str> = cells.map(|line| line.split(',').nth(7).unwrap()).collect();
    assert!(!medians.is_empty() && medians.iter().all(|median| *median != "0"), "{csv}");
    assert!(face(&["export", "-f", "hlog"]).contains("the clock moves in steps of"));
    let doctor = guest::stdout(&guest::iovascope(&["doctor"]).output().unwrap());
    assert!(doctor.lines().any(|line| line.starts_with("coarse ") && line.contains("jiffies")), "{doctor}");
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
