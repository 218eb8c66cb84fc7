//! What each backend measured, where one took over from another: their probes add different times to a call, so
//! percentiles over both are of a mixture.

use std::collections::BTreeMap;

use probe_model::figures::Figures;
use probe_model::loss::Cause;
use probe_model::origin::Recording;
use probe_model::sample::Counters;
use serde::Serialize;

/// What one backend measured.
#[derive(Debug, Clone, Serialize)]
pub struct BackendReport {
    pub backend: String,
    /// By site.
    pub calls: BTreeMap<String, Share>,
    /// Latency of successful `GET_PA` calls and of successful scans, ns, of all that was counted until the change, or
    /// after it: calls that were inside then are in the later one's. Only where nothing was left out.
    pub get_pa: Option<Figures>,
    pub scans: Option<Figures>,
}

/// Calls of a site.
#[derive(Debug, Clone, Serialize)]
pub struct Share {
    pub calls: u64,
    pub measured: u64,
    pub lost: BTreeMap<Cause, u64>,
}

/// The backends of a recording, in the order in which they counted; none where one counted everything.
pub(super) fn of(recording: &Recording) -> Vec<BackendReport> {
    let whole = &recording.window.counters;
    if whole.by_backend.len() < 2 {
        return Vec::new();
    }
    let first =
        recording.changes().next().map_or(recording.header.backend.as_str(), |(_, change)| &change.from);
    let mut names: Vec<&String> = whole.by_backend.keys().collect();
    names.sort_by_key(|name| name.as_str() != first);
    let parts = recording.earlier.as_ref().map(|earlier| (earlier.clone(), whole.since(earlier)));
    let report = |name: &String| {
        let part = parts.as_ref().map(|(earlier, later)| if name == first { earlier } else { later });
        BackendReport {
            backend: name.clone(),
            calls: shares(whole, name),
            get_pa: part.and_then(get_pa),
            scans: part.and_then(scans),
        }
    };
    names.into_iter().map(report).collect()
}

fn shares(counters: &Counters, backend: &str) -> BTreeMap<String, Share> {
    let share = |site: &String| {
        let balance = counters.balances_by_backend(site).into_iter().find(|(name, _)| *name == backend)?.1;
        let lost = balance.lost.into_iter().collect();
        Some((site.clone(), Share { calls: balance.calls, measured: balance.measured, lost }))
    };
    counters.flow.keys().filter_map(share).collect()
}

fn get_pa(counters: &Counters) -> Option<Figures> {
    counters.dispatch.get("IOAS_NOIOMMU_GET_PA").map(|calls| Figures::of_latency(&calls.ok))
}

fn scans(counters: &Counters) -> Option<Figures> {
    counters.get_phys.as_ref()?.latency().as_ref().map(Figures::of_latency)
}
