//! What a guest left behind, read: the driver's calls, the calls that the tool has, and its words. Pure: text
//! in, values out.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

/// Calls that `drive.sh` makes.
pub(super) const CALLS: u64 = 640;

/// Latencies as somebody tells them, ns: bounds of a bucket, or twice the same value.
pub(super) type Range = (u64, u64);

/// What a tool has to say of the driver's calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Calls in its result.
    pub(super) calls: u64,
    /// Where its result is a distribution.
    pub(super) median: Option<Range>,
    pub(super) p99: Option<Range>,
    /// What it says of the calls that it does not have; empty: nothing.
    pub(super) said: Vec<String>,
    /// Whether it warns that something is missing.
    pub(super) warned: bool,
}

/// What the driver's own clock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Truth {
    pub(super) median: u64,
    pub(super) p99: u64,
}

/// Reads `driver.json`: all calls must have been made, and none have failed.
pub(super) fn driven(text: &str) -> Result<Truth> {
    let load: Value = serde_json::from_str(text).context("driver.json is no JSON")?;
    let times = &load["jobs"][0]["service_ns"];
    let ok = &times["ok"];
    let number = |key: &str| {
        ok[key].as_u64().ok_or_else(|| anyhow!("driver.json lacks service_ns.ok.{key} of its job"))
    };
    if number("count")? != CALLS || !times["failed"].is_null() {
        bail!("the driver was to make {CALLS} calls that succeed: {times}");
    }
    Ok(Truth { median: number("p50")?, p99: number("p99")? })
}

/// Reads our report. It must account for every call, and say by its exit status whether any was lost.
pub(super) fn ours(report: &str, strict: &str) -> Result<Seen> {
    let report: Value = serde_json::from_str(report).context("iovascope's report is no JSON")?;
    let balance = &report["balance"]["get_phys"];
    let number = |key: &str| balance[key].as_u64().ok_or_else(|| anyhow!("the report lacks {key}"));
    let (calls, measured) = (number("calls")?, number("measured")?);
    let lost = balance["lost"].as_object().ok_or_else(|| anyhow!("the report lacks its losses"))?;
    let lost: BTreeMap<&str, u64> =
        lost.iter().map(|(cause, count)| (cause.as_str(), count.as_u64().unwrap_or(0))).collect();
    let missing: u64 = lost.values().sum();
    if calls != CALLS || measured + missing + number("in_flight")? != CALLS || balance["unexplained"] != 0 {
        bail!("iovascope does not account for the {CALLS} calls: {balance}");
    }
    let told = strict.trim() == "4";
    if told != (report["complete"] == false) || (missing > 0 && !told) {
        bail!("{missing} calls are lost, and the exit status under --strict is {}", strict.trim());
    }
    let mut said: Vec<String> = lost.iter().map(|(cause, count)| format!("{count} {cause}")).collect();
    if balance["biased"] == true {
        said.push("percentiles too low".to_owned());
    }
    let quantile = |key: &str| report["get_phys"]["ok"][key].as_u64().map(|value| (value, value));
    Ok(Seen { calls: measured, median: quantile("p50"), p99: quantile("p99"), said, warned: missing > 0 })
}

/// Reads what bpftrace printed of its maps, and what it said beside.
pub(super) fn bpftrace(output: &str, words: &str) -> Result<Seen> {
    let mut maps: BTreeMap<String, Value> = BTreeMap::new();
    for line in output.lines().filter(|line| !line.trim().is_empty()) {
        let mut line: Value =
            serde_json::from_str(line).context("bpftrace printed something else than JSON")?;
        if let Value::Object(data) = line["data"].take() {
            maps.extend(data);
        }
    }
    // Its compiler's remarks on the script are of the kind `…/seen-kprobe.bt:5:13-18: WARNING`, and lines indented below.
    let of_script = |line: &str| line.contains(".bt:") || line.starts_with([' ', '\t']);
    let said = words.lines().filter(|line| !line.trim().is_empty() && !of_script(line));
    let mut said: Vec<String> = said.map(str::to_owned).collect();
    let warned = !said.is_empty();
    let mut seen = match (maps.get("@ns"), maps.get("@seen")) {
        (Some(histogram), _) => distribution(histogram)?,
        (None, Some(count)) => {
            let entries = maps.get("@entries").and_then(Value::as_u64);
            said.extend(entries.map(|entries| format!("{entries} entries")));
            let calls = count.as_u64().ok_or_else(|| anyhow!("@seen is no number"))?;
            Seen { calls, median: None, p99: None, said: Vec::new(), warned }
        }
        _ => bail!("bpftrace has no result: {output}"),
    };
    let open = maps.get("@start").and_then(Value::as_object).map_or(0, serde_json::Map::len);
    if open > 0 {
        said.push(format!("{open} threads left in its map"));
    }
    seen.said = said;
    seen.warned = warned;
    Ok(seen)
}

/// A `hist()`: buckets with `min`, `max` and `count`, ascending.
fn distribution(histogram: &Value) -> Result<Seen> {
    let buckets = histogram.as_array().ok_or_else(|| anyhow!("@ns is no histogram"))?;
    let number = |bucket: &Value, key: &str| bucket[key].as_u64().unwrap_or(0);
    let calls: u64 = buckets.iter().map(|bucket| number(bucket, "count")).sum();
    // Nearest rank.
    let quantile = |percent: u64| {
        let rank = (calls * percent).div_ceil(100).max(1);
        let mut below = 0;
        let holds = |bucket: &&Value| {
            below += number(bucket, "count");
            below >= rank
        };
        buckets.iter().find(holds).map(|bucket| (number(bucket, "min"), number(bucket, "max")))
    };
    Ok(Seen { calls, median: quantile(50), p99: quantile(99), said: Vec::new(), warned: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_must_have_made_all_calls() {
        let text = |count: u64, failed: &str| {
            let ok = format!(r#"{{"count":{count},"p50":7,"p99":9}}"#);
            format!(r#"{{"jobs":[{{"service_ns":{{"ok":{ok},"failed":{failed}}}}}]}}"#)
        };
        assert_eq!(driven(&text(640, "null")).unwrap(), Truth { median: 7, p99: 9 });
        assert!(driven(&text(639, "null")).is_err());
        assert!(driven(&text(640, r#"{"count":1}"#)).is_err());
    }

    fn report(calls: u64, measured: u64, lost: u64, complete: bool) -> String {
        format!(
            r#"{{"balance":{{"get_phys":{{"calls":{calls},"measured":{measured},"in_flight":0,"unexplained":0,
                 "lost":{{"return-missed":{lost}}},"biased":true}}}},"complete":{complete},
                 "get_phys":{{"ok":{{"p50":5,"p99":6}}}}}}"#
        )
    }

    #[test]
    fn ours_must_account_for_every_call_and_say_so() {
        let seen = ours(&report(640, 158, 482, false), "4\n").unwrap();
        assert_eq!((seen.calls, seen.median, seen.warned), (158, Some((5, 5)), true));
        assert_eq!(seen.said, ["482 return-missed", "percentiles too low"]);
        for (report, strict) in [
            (report(639, 157, 482, false), "4"),
            (report(640, 158, 481, false), "4"),
            (report(640, 158, 482, false), "0"),
            (report(640, 158, 482, true), "4"),
        ] {
            assert!(ours(&report, strict).is_err(), "{report} {strict}");
        }
    }

    #[test]
    fn bpftraces_result_is_what_it_printed() {
        let output = r#"{"type": "attached_probes", "data": {"probes": 2}}
{"type": "hist", "data": {"@ns": [{"min": 4, "max": 7, "count": 150}, {"min": 8, "max": 15, "count": 8}]}}
{"type": "map", "data": {"@start": {"12": 99, "13": 98}}}
"#;
        let seen = bpftrace(output, "").unwrap();
        assert_eq!((seen.calls, seen.median, seen.p99), (158, Some((4, 7)), Some((8, 15))));
        assert_eq!(
            (seen.said.as_slice(), seen.warned),
            (&["2 threads left in its map".to_owned()][..], false)
        );
        let counts = r#"{"type": "map", "data": {"@entries": 640, "@seen": 592}}"#;
        let remark = "/a/b.bt:6:2-21: WARNING: Return value discarded.\n    delete(@start, tid);\n    ~~~~\n";
        assert!(!bpftrace(counts, remark).unwrap().warned);
        let seen = bpftrace(counts, "WARNING: something\n").unwrap();
        assert_eq!((seen.calls, seen.median, seen.warned), (592, None, true));
        assert_eq!(seen.said, ["WARNING: something", "640 entries"]);
        assert!(bpftrace("{\"data\": {}}", "").is_err());
    }
}
