//! What a scan costs, as names and values: the same in the text, the markdown and the page.

use probe_model::scan_cost::{MEAN, Told};

use super::Report;

/// The rows; none without scans.
pub(super) fn rows(report: &Report) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if let Some(Told { cost, .. }) = &report.scan_cost {
        if let Some((fixed, further)) = cost.parts() {
            rows.push(("fixed cost", fixed.to_string()));
            rows.push(("a further page", further.to_string()));
            rows.push(("how sure", cost.known()));
        } else {
            rows.push(("cost of a scan", cost.known()));
        }
    }
    rows.extend(report.mean_nanos_per_page.map(|nanos| (MEAN, format!("{nanos:.1} ns"))));
    rows
}
