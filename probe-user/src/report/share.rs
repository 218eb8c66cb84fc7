//! The instrument's share, in words: what the probes add to a call, inside the latencies beside it and outside, and
//! what is left without it.

use std::collections::BTreeMap;

use probe_model::cost::ProgramCost;
use probe_model::share::{Amount, Bare, Share, Without};
use probe_model::{text, unit};

use super::Report;

/// One distribution: what it is of, its measured median, and the rest.
pub(super) struct Row<'a> {
    pub(super) name: String,
    pub(super) measured: Option<u64>,
    pub(super) without: &'a Without,
}

/// Every distribution of latencies whose share was asked for.
pub(super) fn rows(report: &Report) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let mut add = |name: String, measured, without| {
        if let Some(without) = without {
            rows.push(Row { name, measured, without });
        }
    };
    for (name, calls) in &report.dispatch {
        add(name.clone(), calls.ok.p50, calls.without_probes.ok.as_ref());
        add(format!("{name}, failed"), calls.failed.p50, calls.without_probes.failed.as_ref());
    }
    if let Some(scans) = &report.get_phys {
        let of_ok = scans.ok.as_ref().and_then(|ok| ok.p50);
        add("scans".to_owned(), of_ok, scans.without_probes.ok.as_ref());
        add("scans, failed".to_owned(), scans.failed.p50, scans.without_probes.failed.as_ref());
    }
    rows
}

/// What is to be known beside the rows.
pub(super) fn notes(report: &Report) -> Vec<String> {
    let shares = &report.header.shares;
    let mut notes = Vec::new();
    match (shares.of(&report.header.backend), &shares.unknown) {
        (Some(share), _) => notes.extend(of_share(share, report)),
        (None, Some(why)) => {
            notes.push(format!("what the probes add is not known: {}", text::visible(why.as_bytes())));
        }
        (None, None) => {}
    }
    notes.extend(programs(&report.programs));
    notes
}

fn of_share(share: &Share, report: &Report) -> Vec<String> {
    let mut notes = vec![format!(
        "by {} calls of our own, hot, before counting began; without probes one takes {}",
        unit::count(u64::from(share.calls) * u64::from(share.rounds)),
        amount(share.bare)
    )];
    if rows(report).iter().any(|row| row.without.at_least) {
        notes.push("≥: scans that end before their cap cost a look-up more".to_owned());
    }
    if let Some(statistics) = share.statistics {
        notes.push(format!(
            "of it by the kernel's BPF statistics (--self-cost): {} of a GET_PA, {} of a scan",
            amount(statistics.get_pa),
            amount(statistics.scan)
        ));
    }
    notes
}

/// Run times of our programs; none where statistics were off.
pub(super) fn programs(programs: &BTreeMap<String, ProgramCost>) -> Vec<String> {
    let line = |(name, cost): (&String, &ProgramCost)| {
        let each = unit::nanos(cost.nanos / cost.runs);
        format!("{name:<20}{:>11} runs of {each}, program body alone", unit::count(cost.runs))
    };
    programs.iter().filter(|(_, cost)| cost.runs > 0).map(line).collect()
}

/// A time, and the noise where it is more than nothing.
pub(super) fn amount(amount: Amount) -> String {
    if !amount.is_known() {
        return format!("< {}", unit::nanos(amount.noise.max(1)));
    }
    format!("{} ± {}", unit::nanos(amount.nanos), unit::nanos(amount.noise))
}

/// What is added inside and outside, the measured median, and without them.
pub(super) fn cells(row: &Row<'_>) -> [String; 4] {
    let Without { inside, outside, at_least, p50, .. } = row.without;
    let short = |amount: &Amount| {
        if amount.is_known() {
            unit::nanos(amount.nanos)
        } else {
            format!("< {}", unit::nanos(amount.noise.max(1)))
        }
    };
    let (more, less) = if *at_least { ("≥ ", "≤ ") } else { ("", "") };
    let bare = |bare: &Bare| format!("{less}{} ± {}", unit::nanos(bare.nanos), unit::nanos(bare.plus_minus));
    [
        format!("{more}{}", short(inside)),
        short(outside),
        row.measured.map_or_else(|| "-".to_owned(), unit::nanos),
        p50.as_ref().map_or_else(|| "not known".to_owned(), bare),
    ]
}
