//! A kernel whose contiguity scan is made slower while it runs: `diff` finds that, and nothing where nothing
//! changed. Time is deterministic here: a nanosecond of the guest is an instruction. So what the probes add to a latency
//! is held against the truth here too ([`share`]).

mod share;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::guest;

/// Rounds of idle work a page, of two instructions each; a page of a scan takes about 222 without.
const KNOB: &str = "/sys/module/iommufd/parameters/scan_rounds";
const TEN_PERCENT: u32 = 11;

/// Scans of 256 pages, over more than twenty windows.
fn recorded(name: &str, rounds: u32) -> PathBuf {
    guest::huge_pages(4);
    fs::write(KNOB, rounds.to_string()).unwrap();
    assert_eq!(fs::read_to_string(KNOB).unwrap().trim(), rounds.to_string());
    let path = guest::file(format!("{name}.iova"));
    let mut record = guest::iovascope(&["record", "--quiet", "-i", "10ms", "-o"]);
    let load = "iovascope load --json --memory hugetlb --size 4M --cap 1M --queries returned --count 5000";
    let output = guest::succeed(record.arg(&path).arg("--").args(load.split(' ')));
    let load: Value = serde_json::from_slice(&output.stdout).unwrap();
    let report = guest::report(&path);
    assert_eq!(guest::dispatched(&report), guest::driven(&load));
    assert_eq!(report["complete"], true);
    path
}

/// Exit status, text and JSON of `iovascope diff`.
fn diff(a: &Path, b: &Path) -> (Option<i32>, String, Value) {
    let run = |form: &str| guest::iovascope(&["diff", "-f", form]).arg(a).arg(b).output().unwrap();
    let (text, json) = (run("text"), run("json"));
    assert_eq!(text.status.code(), json.status.code());
    (text.status.code(), guest::stdout(&text), serde_json::from_slice(&json.stdout).unwrap())
}

fn measure<'a>(comparison: &'a Value, name: &str) -> &'a Value {
    let measures = comparison["measures"].as_array().unwrap();
    measures.iter().find(|row| row["measure"] == name).unwrap()
}

#[test]
fn a_tenth_made_on_purpose_is_found_and_nothing_else_is() {
    let plain = recorded("plain", 0);
    let again = recorded("again", 0);
    let slow = recorded("slow", TEN_PERCENT);

    let (status, text, comparison) = diff(&plain, &slow);
    println!("{text}");
    assert_eq!(status, Some(5), "{text}");
    for name in ["scan median", "GET_PA median", "GET_PA 90 %"] {
        let row = measure(&comparison, name);
        let change = row["change"].as_f64().unwrap();
        assert!((0.08..=0.12).contains(&change), "{name}: {row}");
        assert_eq!(row["verdict"]["regression"], true, "{name}: {row}");
    }
    // Scans end where they ended before.
    assert_eq!(measure(&comparison, "mean run")["verdict"]["is"], "same", "{text}");
    assert!(text.contains("B is worse than A by more than 5.0 %: "), "{text}");
    assert!(text.contains("one recording"), "{text}");

    let (_, text, comparison) = diff(&slow, &plain);
    assert_eq!(measure(&comparison, "scan median")["verdict"]["is"], "better", "{text}");

    // Not the highest percentiles nor the mean, where interrupts are: chance has a part in those even here.
    let (_, text, comparison) = diff(&plain, &again);
    for name in ["scan median", "GET_PA median", "GET_PA 90 %"] {
        let row = measure(&comparison, name);
        assert!(row["change"].as_f64().unwrap().abs() < 0.02, "{name}: {text}");
        assert_ne!(row["verdict"]["regression"], true, "{name}: {text}");
    }
}

/// `cargo xtask test long`.
mod long {
    use std::fs;

    #[test]
    fn of_twenty_comparisons_of_one_setting_at_most_one_is_a_regression() {
        let mut regressions = 0;
        for time in 0..20 {
            let (a, b) = (super::recorded("one", 0), super::recorded("other", 0));
            let (status, text, _) = super::diff(&a, &b);
            println!("{time}: {status:?}\n{text}");
            regressions += usize::from(status != Some(0));
            fs::remove_file(a).unwrap();
            fs::remove_file(b).unwrap();
        }
        assert!(regressions <= 1, "{regressions} of 20");
    }
}
