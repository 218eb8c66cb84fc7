//! Loss & cost: what became of every call, by cause; whether the probes were alive; what they cost.

use std::collections::BTreeMap;

use probe_model::canary::Pulse;
use probe_model::company::Known;
use probe_model::loss::{Balance, Flow};
use probe_model::share::{self, Amount, Share, Without};
use probe_model::unit;
use ratatui::layout::Rect;

use super::View;
use crate::tui::app::{App, State};
use crate::tui::canvas::{Canvas, FILL, columns, rows};
use crate::tui::shown::Shown;
use crate::tui::text;
use crate::tui::tone::Tone;
use crate::tui::widgets::facts::{self, Fact};

pub(super) struct Loss;

impl View for Loss {
    fn name(&self) -> &'static str {
        "Loss & cost"
    }

    fn draw(&self, app: &App, canvas: &mut Canvas<'_>, area: Rect) {
        let Some(now) = &app.shown else { return };
        if area.width < 70 || area.height < 16 {
            let mut lines = Vec::new();
            for (site, (flow, balance)) in &now.balances {
                lines.push(Fact::toned(site.clone(), "", Tone::Head));
                lines.extend(identity(*flow, balance));
            }
            lines.extend(pulse(now));
            facts::draw(canvas, area, 11, &lines);
            return;
        }
        let [above, below] = rows(area, [FILL, (area.height / 2).clamp(8, 14)]);
        let [left, right] = columns(above, [FILL, FILL]);
        for (area, (site, (flow, balance))) in [left, right].into_iter().zip(&now.balances) {
            let verdict = if balance.is_complete() { "✓ complete" } else { "✗ not complete" };
            let tone = if site == "get_phys" { Tone::Scan } else { Tone::Dispatch };
            let inner = canvas.panel(area, &format!("{site}  {verdict}"), tone);
            facts::draw(canvas, inner, 12, &identity(*flow, balance));
        }
        let [left, right] = columns(below, [FILL, FILL]);
        let inner = canvas.panel(left, "probes", Tone::Head);
        facts::draw(canvas, inner, 12, &probes(app, now));
        let inner = canvas.panel(right, "own cost", Tone::Head);
        cost(app, now, canvas, inner);
    }
}

fn identity(flow: Flow, balance: &Balance) -> Vec<Fact> {
    let mut lines = vec![
        Fact::toned("began", unit::count(balance.calls), Tone::Head),
        Fact::new("= measured", unit::count(balance.measured)),
    ];
    for &(cause, count) in &balance.lost {
        lines.push(Fact::toned("+ lost", unit::count(count), Tone::Bad));
        lines.push(Fact::toned("", cause.describe(), Tone::Dim));
    }
    if balance.lost.is_empty() {
        lines.push(Fact::toned("+ lost", "0", Tone::Good));
    }
    lines.push(Fact::new("+ in flight", unit::count(balance.in_flight)));
    if balance.unexplained != 0 {
        let text = format!("{}  please report this", balance.unexplained);
        lines.push(Fact::toned("unexplained", text, Tone::Bad));
    }
    if balance.unmatched > 0 {
        let text = format!("{}  begun before, or lost above", unit::count(balance.unmatched));
        lines.push(Fact::toned("unmatched", text, Tone::Dim));
    }
    if balance.is_biased() {
        lines.push(Fact::toned("biased", "percentiles are too low: the slow are lost", Tone::Bad));
    }
    if flow.canary > 0 {
        lines.push(Fact::toned(
            "heartbeats",
            format!("{}  in none of the above", unit::count(flow.canary)),
            Tone::Dim,
        ));
    }
    lines
}

fn pulse(now: &Shown) -> Vec<Fact> {
    let canary = &now.window.counters.canary;
    let mut lines = vec![match canary.pulse() {
        Pulse::Alive => {
            Fact::toned("alive", format!("{} of {} heartbeats seen", canary.sent, canary.sent), Tone::Good)
        }
        Pulse::Unknown => Fact::toned("alive", "not asked: no heartbeat in this window", Tone::Dim),
        Pulse::Dark => Fact::toned(
            "DARK",
            format!("for at most {}: a count of 0 means nothing", unit::nanos(canary.dark)),
            Tone::Bad,
        ),
    }];
    for (site, unseen) in &canary.unseen {
        lines.push(Fact::toned(
            text::cells(site.as_bytes()),
            format!("{unseen} of {} heartbeats NOT seen", canary.sent),
            Tone::Bad,
        ));
    }
    if canary.failed > 0 {
        lines.push(Fact::toned("not sent", format!("{}: is the module gone?", canary.failed), Tone::Bad));
    }
    lines.extend(company(now));
    lines
}

/// Who else works on our functions; nothing where it was not looked for.
fn company(now: &Shown) -> Vec<Fact> {
    let company = now.window.counters.company.visible();
    let seen = |name: String| Fact::toned("company", name, Tone::Bad);
    match company.known() {
        Known::Nothing => Vec::new(),
        Known::Alone => vec![Fact::toned("company", "none on our functions", Tone::Good)],
        Known::NotAll => {
            company.blind_spots().into_iter().map(|line| Fact::toned("company", line, Tone::Warn)).collect()
        }
        Known::Others => company.names().into_iter().map(seen).collect(),
    }
}

fn probes(app: &App, now: &Shown) -> Vec<Fact> {
    let mut lines = pulse(now);
    if let Some(header) = &app.header {
        lines.push(Fact::new("backend", text::cells(header.backend.as_bytes())));
        lines.extend(by_backend(now));
        for declined in &header.declined {
            let why = declined.why.lines().next().unwrap_or_default();
            let why = text::cells(format!("not {}: {why}", declined.backend).as_bytes());
            lines.push(Fact::toned("", why, Tone::Dim));
        }
        lines.push(Fact::new(
            "kernel",
            text::cells(format!("{} {}", header.kernel, header.machine).as_bytes()),
        ));
        lines.push(Fact::new("GET_PA", text::cells(header.abi.as_bytes())));
        lines.push(Fact::new("CPUs", header.cpus.to_string()));
        let source = header.host.clocksource.as_deref().unwrap_or("unknown");
        let clock = match (app.clock_step(), header.host.clock_step) {
            (1, None) => format!("{source}, step not measured"),
            (step, _) => format!("{source}, steps of {}", unit::nanos(step)),
        };
        lines.push(Fact::new("clock", text::cells(clock.as_bytes())));
    }
    if let State::Ended(ended) = &app.state {
        if let Some(why) = &ended.unclean {
            lines.push(Fact::toned("unclean", text::cells(why.as_bytes()), Tone::Warn));
        }
        if let Some(end) = &ended.end {
            lines.push(Fact::new("ended", format!("{:?}", end.reason).to_lowercase()));
            if end.doubt > 0 {
                lines.push(Fact::toned("doubt", format!("losses may be off by {}", end.doubt), Tone::Warn));
            }
        }
    }
    if app.timeline.dropped() > 0 {
        let text =
            format!("{} samples, {} left out: totals are whole", app.timeline.len(), app.timeline.dropped());
        lines.push(Fact::toned("kept", text, Tone::Dim));
    }
    lines
}

/// Who measured the calls of the window, where one backend took over from another in it.
fn by_backend(now: &Shown) -> Vec<Fact> {
    let counters = &now.window.counters;
    if counters.by_backend.len() < 2 {
        return Vec::new();
    }
    let share = |(backend, flows): (&String, &BTreeMap<String, Flow>)| {
        let balances: Vec<Balance> = flows.values().map(Flow::balance).collect();
        let measured: u64 = balances.iter().map(|balance| balance.measured).sum();
        let lost: u64 = balances.iter().map(Balance::lost_calls).sum();
        let what = format!("{backend}: {} measured, {} lost", unit::count(measured), unit::count(lost));
        Fact::toned("", text::cells(what.as_bytes()), if lost > 0 { Tone::Warn } else { Tone::Dim })
    };
    counters.by_backend.iter().map(share).collect()
}

fn cost(app: &App, now: &Shown, canvas: &mut Canvas<'_>, area: Rect) {
    let programs = &now.window.counters.programs;
    let shares =
        app.header.as_ref().map(|header| (header.shares.of(&header.backend), &header.shares.unknown));
    let mut lines = match shares {
        Some((Some(share), _)) => added(share, now),
        Some((None, Some(why))) => {
            vec![Fact::toned("not known", text::cells(why.as_bytes()), Tone::Warn)]
        }
        _ => Vec::new(),
    };
    if programs.is_empty() && lines.is_empty() {
        let text = "What the probes add was not measured before this recording. docs/overhead.md has their \
                    instructions by workload.";
        facts::wrapped(canvas, area, text, Tone::Dim);
        return;
    }
    for (name, cost) in programs {
        let each = cost.nanos.checked_div(cost.runs).map_or_else(|| "-".to_owned(), unit::nanos);
        let text = format!("{each} a run, {} runs", unit::count(cost.runs));
        lines.push(Fact::new(text::cells(name.as_bytes()), text));
    }
    if !programs.is_empty() {
        let all: u64 = programs.values().map(|cost| cost.nanos).sum();
        let share = all as f64 / now.window.duration().as_nanos().max(1) as f64;
        lines.push(Fact::toned("in all", format!("{:.3} % of one CPU", 100.0 * share), Tone::Head));
    }
    facts::draw(canvas, area, 18, &lines);
}

/// What the probes add to calls, and the medians of this window without it.
fn added(share: &Share, now: &Shown) -> Vec<Fact> {
    let counters = &now.window.counters;
    let mut lines = Vec::new();
    let mut add = |name: &str, without: Option<Without>| {
        let Some(Without { inside, outside, at_least, p50, .. }) = without else { return };
        let (more, less) = if at_least { ("≥ ", "≤ ") } else { ("", "") };
        let text = format!("{more}{} inside, {} outside", amount(inside), amount(outside));
        lines.push(Fact::toned(name, text, Tone::Head));
        let bare = p50.map_or_else(
            || "not known".to_owned(),
            |bare| format!("{less}{} ± {}", unit::nanos(bare.nanos), unit::nanos(bare.plus_minus)),
        );
        lines.push(Fact::new("  p50 without", bare));
    };
    let name = "IOAS_NOIOMMU_GET_PA";
    if let Some(calls) = counters.dispatch.get(name) {
        let without = share::of_command(share, name, calls, counters);
        add("GET_PA", without.ok);
        add("GET_PA, failed", without.failed);
    }
    if let Some(scans) = &counters.get_phys {
        let without = share::of_scans(share, scans);
        add("scan", without.ok);
        add("scan, failed", without.failed);
    }
    if let Some(statistics) = share.statistics {
        lines.push(Fact::new("by statistics", format!("{} of a GET_PA", amount(statistics.get_pa))));
    }
    lines
}

fn amount(amount: Amount) -> String {
    if amount.is_known() {
        unit::nanos(amount.nanos)
    } else {
        format!("< {}", unit::nanos(amount.noise.max(1)))
    }
}
