//! The laws of loss, and the kernel's own counters behind them, as bpftool reads them.

use std::collections::BTreeMap;
use std::process::Command;

use probe_common::site::{SITES, Site};
use serde_json::Value;

use crate::guest;

/// Names of both sites, outer first.
pub(crate) const BOTH: [&str; 2] = ["dispatch", "get_phys"];

/// The laws hold at a site with nothing in flight; calls that were lost, by cause.
#[track_caller]
pub(crate) fn balanced(report: &Value, site: &str) -> BTreeMap<String, u64> {
    let balance = &report["balance"][site];
    assert_eq!(balance["unexplained"].as_i64(), Some(0), "{site}: {balance}");
    assert_eq!(balance["in_flight"].as_u64(), Some(0), "{site}: {balance}");
    balanced_under_load(report, site, 0)
}

/// The laws hold at a site where somebody calls all the time, before and after the recording: at most so many
/// calls are in flight, and what is off is not more than what the report calls doubtful.
#[track_caller]
pub(crate) fn balanced_under_load(report: &Value, site: &str, callers: u64) -> BTreeMap<String, u64> {
    let balance = &report["balance"][site];
    let number = |key: &str| balance[key].as_i64().unwrap();
    let lost = balance["lost"].as_object().unwrap();
    let lost: BTreeMap<String, u64> =
        lost.iter().map(|(cause, count)| (cause.clone(), count.as_u64().unwrap())).collect();
    let doubt = report["end"]["doubt"].as_u64().unwrap();
    assert!(number("unexplained").unsigned_abs() <= doubt, "{site}: {balance}, {doubt} doubtful");
    assert!(number("in_flight").unsigned_abs() <= callers, "{site}: {balance}");
    let missing = i64::try_from(lost.values().sum::<u64>()).unwrap();
    let accounted = number("measured") + missing + number("in_flight") + number("unexplained");
    assert_eq!(accounted, number("calls"), "{site}: {balance}");
    lost
}

/// Both sites balance to the last call: `scans` began at the inner one, and it is said whether any was lost.
#[track_caller]
pub(crate) fn all_accounted_for(report: &Value, scans: u64) {
    let lost: u64 = BOTH.iter().flat_map(|site| balanced(report, site).into_values()).sum();
    assert_eq!(report["balance"]["get_phys"]["calls"].as_u64(), Some(scans), "{}", report["balance"]);
    assert_eq!(report["unclean"], Value::Null);
    assert_eq!(report["end"]["doubt"].as_u64(), Some(0));
    assert_eq!(report["complete"], lost == 0, "{}", report["balance"]);
}

/// What bpftool shows of links and programs while a recorder runs.
pub(crate) struct Shown {
    links: Vec<Value>,
    programs: Vec<Value>,
}

impl Shown {
    pub(crate) fn now() -> Self {
        let show = |kind: &str| {
            let shown = guest::succeed(Command::new("bpftool").args(["--json", kind, "show"]));
            let all: Value = serde_json::from_slice(&shown.stdout).unwrap();
            all.as_array().unwrap().clone()
        };
        Self { links: show("link"), programs: show("prog") }
    }

    /// The kernel's counters of a site's misses are those that the report accounts for.
    #[track_caller]
    pub(crate) fn agrees_with(&self, report: &Value) {
        let backend = report["header"]["backend"].as_str().unwrap();
        for site in &SITES {
            let flow = &report["balance"][site.name]["flow"];
            let ours = ["entry_missed", "return_missed", "return_recursion", "session_missed", "call_missed"]
                .map(|key| flow[key].as_u64().unwrap());
            assert_eq!(ours, self.misses(site, backend), "{backend}, {}: {flow}", site.name);
        }
    }

    /// Missed at entries, at returns for want of room, at returns by recursion, by a session, by a kprobe
    /// session.
    fn misses(&self, site: &Site, backend: &str) -> [u64; 5] {
        match backend {
            "fsession" => [0, 0, 0, self.recursion(site.fsession), 0],
            "kprobe-session" => [0, 0, 0, 0, self.missed_whole(site) + self.recursion(site.kprobe_session)],
            "fentry" => [self.recursion(site.fentry.entry), 0, self.recursion(site.fentry.exit), 0, 0],
            _ => {
                // A kretprobe's counter holds the kprobe's at the same place (kernel/kprobes.c, Linux 7.3).
                let (entry, exit) = (self.missed(site, false), self.missed(site, true));
                let recursion = [site.kprobe.entry, site.kprobe.exit].map(|name| self.recursion(name));
                [entry + recursion[0], exit - entry, recursion[1], 0, 0]
            }
        }
    }

    /// bpftool leaves out a counter that is 0.
    fn recursion(&self, program: &str) -> u64 {
        let found = self.programs.iter().find(|shown| shown["name"] == program);
        found.unwrap_or_else(|| panic!("no program {program}"))["recursion_misses"].as_u64().unwrap_or(0)
    }

    fn missed_whole(&self, site: &Site) -> u64 {
        let is_it = |link: &&Value| {
            let functions = link["funcs"].as_array().map_or(&[][..], Vec::as_slice);
            functions.iter().any(|function| function["func"] == site.symbol)
        };
        let found = self.links.iter().find(is_it);
        found.unwrap_or_else(|| panic!("no session on {}", site.symbol))["missed"].as_u64().unwrap_or(0)
    }

    fn missed(&self, site: &Site, at_return: bool) -> u64 {
        let is_it = |link: &&Value| {
            let function = link["func"].as_str().unwrap_or_default();
            function.ends_with(&format!(":{}", site.symbol)) && link["retprobe"] == at_return
        };
        let found = self.links.iter().find(is_it);
        found.unwrap_or_else(|| panic!("no probe on {}", site.symbol))["missed"].as_u64().unwrap_or(0)
    }
}
