//! What the probes add, against the truth: what calls take without probes, by the clock of this process, in a guest
//! whose nanosecond is an instruction.
//!
//! The dispatch's truth is the caller's time less that of the same ioctl on a file without ioctls; the scan's is the
//! caller's time less that of calls that leave the scan out, which this variant's kernel can.

use std::fs;
use std::path::Path;
use std::time::Instant;

use iovascope::workload::iommufd::{Iommufd, Query};
use iovascope::workload::memory::Memory;
use iovascope::workload::quantity::Iova;
use rustix::io::Errno;
use serde_json::Value;

use crate::driver::{Buffer, Caller};
use crate::guest::{self, Running};

/// What calls give without going into the scan: 0 goes in, 1 is success, an errno is itself.
const SKIP: &str = "/sys/module/iommufd/parameters/scan_skip";
const GET_PA: &str = "IOAS_NOIOMMU_GET_PA";
const NEAR: f64 = 0.03;
/// Instructions that a call of the scan takes beside the call itself, more than leaving it out does: its arguments
/// (objdump of this variant's module).
const ARGUMENTS: f64 = 4.0;

/// Pages of a call; none fails.
const ONE: u64 = 1;
const MANY: u64 = 512;
const UNMAPPED: u64 = 0;

fn ask(caller: Caller<'_>, pages: u64) -> Result<u64, Errno> {
    let (offset, pages) = if pages == UNMAPPED { (4 * caller.bytes(), 1) } else { (0, pages) };
    caller.ask(offset, pages * 4096).map(|answer| answer.length)
}

/// The time of a call, ns: the least of many averages.
fn time(mut call: impl FnMut()) -> f64 {
    let mut average = || {
        let begin = Instant::now();
        (0..16).for_each(|_| call());
        begin.elapsed().as_nanos() as f64 / 16.0
    };
    (0..24).map(|_| average()).fold(f64::INFINITY, f64::min)
}

/// What a call of so many pages takes in the dispatch and in the scan, ns.
fn truth(caller: Caller<'_>, pages: u64) -> [f64; 2] {
    let expected = if pages == UNMAPPED { Err(Errno::NOENT) } else { Ok(pages * 4096) };
    let whole = time(|| assert_eq!(ask(caller, pages), expected));
    fs::write(SKIP, if pages == UNMAPPED { "-2" } else { "1" }).unwrap();
    let skipped = time(|| assert_eq!(ask(caller, pages).is_ok(), expected.is_ok()));
    fs::write(SKIP, "0").unwrap();
    let null = Iommufd::open(Path::new("/dev/null")).unwrap();
    let query = Query { ioas: caller.ioas(), flags: 0, iova: Iova(0), length: 4096 };
    let entry = time(|| assert_eq!(null.get_pa_uncounted(query).err(), Some(Errno::NOTTY)));
    [whole - entry, whole - skipped - ARGUMENTS]
}

/// Note a corrected latency that is not near the truth.
fn hold(far: &mut Vec<String>, what: &str, measured: &Value, bare: &Value, truth: f64) {
    let nanos = bare["nanos"].as_f64().unwrap_or_else(|| panic!("{what}: not known: {bare}"));
    let is_near = (nanos / truth - 1.0).abs() <= NEAR;
    if !is_near {
        far.push(format!("{what}: measured {measured}, without {bare}, in truth {truth:.0}"));
    }
}

/// A recording of one-page calls, which are the median, of long ones beyond it, and of failures.
fn recorded(backend: &str, options: &[&str], caller: Caller<'_>) -> Value {
    let recorder = Running::begin_with(backend, "share", options);
    for (pages, calls) in [(ONE, 600), (MANY, 200), (UNMAPPED, 400)] {
        for _ in 0..calls {
            assert_eq!(ask(caller, pages).is_ok(), pages > 0);
        }
    }
    let report = guest::report(&recorder.end_recording());
    let calls = guest::dispatched(&report);
    assert_eq!(guest::count(&calls, GET_PA, "ok"), 800, "{calls:?}");
    assert_eq!(guest::count(&calls, GET_PA, "ENOENT"), 400, "{calls:?}");
    assert_eq!(report["balance"]["dispatch"]["measured"], 1200, "calls of the calibration are in no figure");
    assert_eq!(report["complete"], true);
    report
}

/// Note the medians without the probes that are not near the truth.
fn check(far: &mut Vec<String>, backend: &str, report: &Value, truths: [[f64; 2]; 3]) {
    let dispatch = &report["dispatch"][GET_PA];
    for (site, place, at) in [("dispatch", dispatch, 0), ("scan", &report["get_phys"], 1)] {
        let rows = [("ok", "p50"), ("ok", "p90"), ("failed", "p50")];
        for ((outcome, percentile), truth) in rows.into_iter().zip(truths) {
            let what = format!("{backend}, {site}, {outcome}, {percentile}");
            let bare = &place["without_probes"][outcome][percentile];
            hold(far, &what, &place[outcome][percentile], bare, truth[at]);
        }
    }
}

#[test]
fn latencies_without_the_probes_are_those_of_calls_without_probes() {
    guest::huge_pages(4);
    let buffer = Buffer::of(Memory::HUGETLB, 4 << 20);
    let caller = buffer.caller();
    let truths = [ONE, MANY, UNMAPPED].map(|pages| truth(caller, pages));
    let mut plain = Value::Null;
    let mut far = Vec::new();
    for backend in ["fsession", "fentry", "kprobe-session", "kprobe"] {
        let report = recorded(backend, &["--calibrate"], caller);
        check(&mut far, backend, &report, truths);
        if backend == "fsession" {
            plain = report;
        }
    }
    // Statistics disturb every latency, by as much as is said.
    let costly = recorded("fsession", &["--self-cost"], caller);
    check(&mut far, "fsession --self-cost", &costly, truths);
    let p50 = |report: &Value| report["dispatch"][GET_PA]["ok"]["p50"].as_f64().unwrap();
    let said = costly["header"]["shares"]["known"][0]["statistics"]["get_pa"]["nanos"].as_f64().unwrap();
    let disturbed = p50(&costly) - p50(&plain);
    assert!(disturbed > 50.0 && (disturbed / said - 1.0).abs() < 0.1, "{disturbed} measured, {said} said");
    assert!(far.is_empty(), "not within 3 % of the truth: {far:#?}");
    buffer.close();
}
