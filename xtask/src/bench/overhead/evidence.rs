//! What a guest left behind, read: the driver's times and counts, and the tool's own counts, which must be
//! the same. An arm whose tool cannot show that it saw every call has no result. Pure: text in, values out.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde_json::Value;

/// Calls by outcome: `ok` or the errno's name.
pub(super) type Counts = BTreeMap<String, u64>;

/// GET_PA as iommufd's headers number it (`_IO(';', 0x95)`, include/uapi/linux/iommufd.h, Linux 7.3).
const GET_PA: &str = "15253";
const GET_PA_NAME: &str = "IOAS_NOIOMMU_GET_PA";
/// The driver's calls while the kernel counts runs, with its warm-up: `inside.sh`.
const SHOWN_CALLS: u64 = 1000;

/// What the driver did.
#[derive(Debug)]
pub(super) struct Driven {
    /// Guest instructions per call, by the loops' specs.
    pub(super) per_call: BTreeMap<String, f64>,
    /// The same of the driver's own thread, whatever else ran on its CPU.
    pub(super) own_per_call: BTreeMap<String, f64>,
    /// All its GET_PA calls, warm-up included.
    pub(super) calls: Counts,
}

/// Reads `driver.json`.
pub(super) fn driven(text: &str) -> Result<Driven> {
    #[derive(Deserialize)]
    struct Raw {
        loops: Vec<Timed>,
        get_pa: Vec<Counted>,
    }
    #[derive(Deserialize)]
    struct Timed {
        #[serde(rename = "loop")]
        spec: String,
        calls: u64,
        ns: u64,
        own_ns: u64,
    }
    #[derive(Deserialize)]
    struct Counted {
        outcome: String,
        count: u64,
    }
    let raw: Raw = serde_json::from_str(text).context("driver.json is not what bare_loop writes")?;
    let (mut per_call, mut own_per_call) = (BTreeMap::new(), BTreeMap::new());
    for timed in raw.loops {
        if timed.calls == 0 || timed.ns == 0 {
            bail!("the loop {} took no time: is this an icount guest?", timed.spec);
        }
        own_per_call.insert(timed.spec.clone(), timed.own_ns as f64 / timed.calls as f64);
        per_call.insert(timed.spec, timed.ns as f64 / timed.calls as f64);
    }
    let calls = raw.get_pa.into_iter().map(|counted| (counted.outcome, counted.count)).collect();
    Ok(Driven { per_call, own_per_call, calls })
}

/// Reads `load.json`: instructions per call of the workload driver's own loop.
pub(super) fn load(text: &str) -> Result<f64> {
    let load: Value = serde_json::from_str(text).context("load.json is no JSON")?;
    let calls = load["jobs"][0]["service_ns"]["ok"]["count"].as_u64();
    match (load["jobs"][0]["elapsed_ns"].as_u64(), calls) {
        (Some(elapsed), Some(calls @ 1..)) => Ok(elapsed as f64 / calls as f64),
        _ => bail!("load.json lacks elapsed_ns or service_ns.ok.count of its job"),
    }
}

/// Fails unless `iovascope report --format json` has exactly the driven calls at both sites, by `backend`.
pub(super) fn check_ours(report: &str, backend: &str, driven: &Counts) -> Result<()> {
    let report: Value = serde_json::from_str(report).context("iovascope's report is no JSON")?;
    let used = report["header"]["backend"].as_str().unwrap_or("none that it names");
    if used != backend {
        bail!("the recorder was to use the backend {backend}, and used {used}");
    }
    agree("dispatch", &ours(&report["dispatch"][GET_PA_NAME])?, driven)?;
    agree("get_phys", &ours(&report["get_phys"])?, driven)?;
    if report["complete"] != true {
        bail!("the report does not say that it is complete");
    }
    Ok(())
}

fn ours(cell: &Value) -> Result<Counts> {
    let ok = cell["ok"]["count"].as_u64().ok_or_else(|| anyhow!("the report has no GET_PA at a site"))?;
    let errors = cell["errors"].as_object().into_iter().flatten();
    let failed = errors.map(|(name, count)| (name.clone(), count.as_u64().unwrap_or(0)));
    Ok(counts(failed.chain([("ok".to_owned(), ok)])))
}

/// Samples, or frames, that a watched run must have at least: it lasts for more than a second.
const LOOKS: u64 = 10;

/// Fails unless the counters were looked at while the loops ran: as many samples or frames.
pub(super) fn check_watched(looks: &str) -> Result<()> {
    match looks.trim().parse::<u64>() {
        Ok(looks) if looks >= LOOKS => Ok(()),
        _ => bail!("it looked {:?} times while the loops ran, not {LOOKS} or more", looks.trim()),
    }
}

/// Fails unless bpftrace's maps have exactly the driven calls at both sites.
pub(super) fn check_bpftrace(output: &str, driven: &Counts) -> Result<()> {
    let maps = maps(output)?;
    let map = |name: &str| maps.get(name).unwrap_or(&Value::Null);
    let mut dispatch = vec![("ok".to_owned(), buckets(&map("@dispatch_ok")[GET_PA]))];
    for (key, count) in map("@dispatch_errno").as_object().into_iter().flatten() {
        if let Some(errno) = key.strip_prefix(GET_PA).and_then(|rest| rest.strip_prefix(',')) {
            dispatch.push((errno_name(errno), count.as_u64().unwrap_or(0)));
        }
    }
    let scans = map("@get_phys_ok").as_object().into_iter().flatten().map(|(_, hist)| buckets(hist)).sum();
    let mut get_phys = vec![("ok".to_owned(), scans)];
    for (errno, count) in map("@get_phys_errno").as_object().into_iter().flatten() {
        get_phys.push((errno_name(errno), count.as_u64().unwrap_or(0)));
    }
    agree("dispatch", &counts(dispatch.into_iter()), driven)?;
    agree("get_phys", &counts(get_phys.into_iter()), driven)
}

/// Everything that `bpftrace -f json` printed of its maps, by name.
fn maps(output: &str) -> Result<BTreeMap<String, Value>> {
    let mut maps = BTreeMap::new();
    for line in output.lines().filter(|line| !line.trim().is_empty()) {
        let mut line: Value =
            serde_json::from_str(line).context("bpftrace printed something else than JSON")?;
        if let Value::Object(data) = line["data"].take() {
            maps.extend(data);
        }
    }
    Ok(maps)
}

fn buckets(histogram: &Value) -> u64 {
    histogram.as_array().into_iter().flatten().filter_map(|bucket| bucket["count"].as_u64()).sum()
}

/// The only errno that the loops cause has its name; the others show as numbers.
fn errno_name(number: &str) -> String {
    if number == "2" { "ENOENT".to_owned() } else { format!("errno {number}") }
}

fn counts(all: impl Iterator<Item = (String, u64)>) -> Counts {
    all.filter(|(_, count)| *count > 0).collect()
}

fn agree(site: &str, seen: &Counts, driven: &Counts) -> Result<()> {
    if seen == driven {
        return Ok(());
    }
    bail!("the tool saw {seen:?} at {site}, and {driven:?} were driven")
}

/// Fails unless `programs` programs ran once a call, by the kernel's count (`bpftool --json prog show`).
pub(super) fn check_empty(shown: &str, programs: usize) -> Result<()> {
    #[derive(Deserialize)]
    struct Program {
        #[serde(default)]
        run_cnt: u64,
    }
    let shown: Vec<Program> = serde_json::from_str(shown).context("bpftool printed no list of programs")?;
    let ran = shown.iter().filter(|program| program.run_cnt >= SHOWN_CALLS).count();
    if ran != programs {
        bail!("{ran} programs ran at every call, and {programs} should have: the probes are not attached");
    }
    Ok(())
}

/// A loaded program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) name: String,
    /// Instructions that the verifier looked at.
    pub(super) verified: u64,
    /// Bytes of machine code.
    pub(super) jited: u64,
}

/// The programs that a tool held: bpftool's list, and the tool's own `/proc/PID/fdinfo`, concatenated.
pub(super) fn programs(shown: &str, fdinfo: &str) -> Result<Vec<Program>> {
    let shown: Value = serde_json::from_str(shown).context("bpftool printed no list of programs")?;
    let mut verified = BTreeMap::new();
    let mut last = None;
    for line in fdinfo.lines() {
        match line.split_once(':').map(|(key, value)| (key, value.trim().parse::<u64>())) {
            Some(("prog_id", Ok(id))) => last = Some(id),
            Some(("verified_insns", Ok(count))) => drop(last.take().map(|id| verified.insert(id, count))),
            _ => {}
        }
    }
    let programs = shown.as_array().into_iter().flatten().filter_map(|program| {
        Some(Program {
            name: program["name"].as_str()?.to_owned(),
            verified: *verified.get(&program["id"].as_u64()?)?,
            jited: program["bytes_jited"].as_u64()?,
        })
    });
    Ok(programs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Counts {
        [("ok".to_owned(), 30), ("ENOENT".to_owned(), 5)].into()
    }

    #[test]
    fn the_driver_is_read() {
        let text = r#"{"loops":[{"loop":"mapped:4096:20","calls":20,"ns":34800,"own_ns":34000}],
                       "get_pa":[{"outcome":"ok","count":30},{"outcome":"ENOENT","count":5}]}"#;
        let driven = driven(text).unwrap();
        assert_eq!(driven.per_call["mapped:4096:20"].to_string(), "1740");
        assert_eq!(driven.own_per_call["mapped:4096:20"].to_string(), "1700");
        assert_eq!(driven.calls, two());
        assert!(super::driven("{}").is_err());
        let still = r#"{"loops":[{"loop":"l","calls":20,"ns":0,"own_ns":0}],"get_pa":[]}"#;
        assert!(super::driven(still).is_err());
    }

    #[test]
    fn a_run_that_nobody_watched_is_none() {
        check_watched("12\n").unwrap();
        assert!(check_watched("9\n").is_err() && check_watched("").is_err());
    }

    #[test]
    fn the_workload_driver_is_read() {
        let text = r#"{"jobs": [{"elapsed_ns": 400, "service_ns": {"ok": {"count": 20}}}]}"#;
        assert_eq!(load(text).unwrap().to_string(), "20");
        assert!(load("{}").is_err());
    }

    #[test]
    fn our_counts_must_be_the_drivers_at_both_sites() {
        let report = |dispatch: u32, scans: u32, complete: bool| {
            format!(
                r#"{{"header": {{"backend": "fentry"}}, "dispatch": {{"IOAS_NOIOMMU_GET_PA": {{"ok": {{"count": {dispatch}}}, "errors": {{"ENOENT": 5}}}}}},
                     "get_phys": {{"ok": {{"count": {scans}}}, "errors": {{"ENOENT": 5}}}}, "complete": {complete}}}"#
            )
        };
        check_ours(&report(30, 30, true), "fentry", &two()).unwrap();
        assert!(check_ours(&report(30, 30, true), "fsession", &two()).is_err());
        for (dispatch, scans, complete) in [(29, 30, true), (30, 31, true), (30, 30, false)] {
            assert!(check_ours(&report(dispatch, scans, complete), "fentry", &two()).is_err());
        }
        assert!(check_ours("{}", "fentry", &two()).is_err());
    }

    #[test]
    fn bpftraces_counts_must_be_the_drivers_at_both_sites() {
        let good = r#"{"type": "attached_probes", "data": {"probes": 4}}
{"type": "map", "data": {"@dispatch_errno": {"15253,2": 5, "15232,22": 1}}}
{"type": "hist", "data": {"@dispatch_ok": {"15232": [{"min": 1, "count": 1}], "15253": [{"min": 1, "count": 10}, {"min": 2, "count": 20}]}}}
{"type": "map", "data": {"@get_phys_errno": {"2": 5}}}
{"type": "hist", "data": {"@get_phys_ok": {"9": [{"count": 10}], "0": [{"count": 20}, {"count": 0}]}}}
"#;
        check_bpftrace(good, &two()).unwrap();
        for (from, to) in [("\"15253,2\": 5", "\"15253,2\": 4"), ("[{\"count\": 10}]", "[{\"count\": 9}]")] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert!(check_bpftrace(&bad, &two()).is_err());
        }
        assert!(check_bpftrace("{\"data\": {}}", &two()).is_err());
        assert!(check_bpftrace("ERROR: no", &two()).is_err());
    }

    #[test]
    fn empty_programs_must_have_run() {
        let shown = r#"[{"id": 1, "run_cnt": 1251}, {"id": 2, "run_cnt": 1255}, {"id": 3}]"#;
        check_empty(shown, 2).unwrap();
        assert!(check_empty(shown, 4).is_err());
        assert!(check_empty("[]", 1).is_err());
    }

    #[test]
    fn programs_are_those_the_tool_holds() {
        let shown = r#"[{"id": 7, "name": "ours", "bytes_jited": 900}, {"id": 8, "name": "other", "bytes_jited": 5}]"#;
        let fdinfo = "pos:\t0\nprog_type:\t2\nprog_id:\t7\nrun_cnt:\t0\nverified_insns:\t321\nlink_id:\t3\nprog_id:\t7\n";
        let want = Program { name: "ours".to_owned(), verified: 321, jited: 900 };
        assert_eq!(programs(shown, fdinfo).unwrap(), [want]);
    }
}
