//! Why two sides may not be comparable: what bars a verdict, what is only said, and what makes a side no
//! evidence at all.

use std::collections::BTreeSet;

use super::FEWEST_BLOCKS;
use super::measure::Bars;
use super::mix::{Mix, Mixes};
use super::rare;
use super::side::{Block, Side};
use crate::errno;
use crate::origin::Header;
use crate::share;
use crate::unit;

/// A side that lost more of its slow calls than this has percentiles that are too low.
const LOST: f64 = 0.001;
/// Failed calls of one errno that are this share of all are named.
const NAMED: usize = 3;

/// A header's field, as values of all recordings of a side.
fn values(side: &Side, of: fn(&Header) -> String) -> BTreeSet<String> {
    side.headers().map(of).filter(|value| !value.is_empty()).collect()
}

/// Both sides' values where they are known and not one and the same.
fn differ(a: &Side, b: &Side, of: fn(&Header) -> String) -> Option<(String, String)> {
    let (of_a, of_b) = (values(a, of), values(b, of));
    let known = !of_a.is_empty() && !of_b.is_empty();
    let words = |values: BTreeSet<String>| values.into_iter().collect::<Vec<_>>().join(" and ");
    (known && (of_a != of_b || of_a.len() > 1)).then(|| (words(of_a), words(of_b)))
}

fn backend(header: &Header) -> String {
    header.backend.clone()
}

fn clock_source(header: &Header) -> String {
    header.host.clocksource.clone().unwrap_or_default()
}

fn abi(header: &Header) -> String {
    header.abi.clone()
}

fn page_size(header: &Header) -> String {
    unit::bytes(header.page_size)
}

/// What bars verdicts on latencies.
pub(super) fn bars(a: &Side, b: &Side, mix: &Mix) -> Bars {
    let instrument = if differ(a, b, backend).is_some() {
        Some("backends differ, and the probes' share with them".to_owned())
    } else if differ(a, b, clock_source).is_some() {
        Some("clock sources differ, and what reading them takes".to_owned())
    } else if a.lost_slow > LOST || b.lost_slow > LOST {
        Some("slow calls were lost".to_owned())
    } else {
        None
    };
    let mix = match mix.mixes {
        Mixes::Alike | Mixes::Near { .. } if differ(a, b, page_size).is_some() => {
            Some("page sizes differ".to_owned())
        }
        Mixes::Alike | Mixes::Near { .. } => None,
        Mixes::Differ { .. } => Some("scan lengths differ".to_owned()),
        Mixes::Unknown => Some("scan lengths are not known on both sides".to_owned()),
    };
    Bars { instrument, mix }
}

/// Why it cannot be known that both sides were asked for the same.
pub(super) fn other_questions(a: &Side, b: &Side) -> Option<String> {
    differ(a, b, abi).map(|_| "ABIs differ".to_owned())
}

/// Why a side is no evidence, or less than was given.
pub(super) fn unfit(a: &Side, b: &Side) -> Vec<String> {
    let mut all = Vec::new();
    for (name, side) in [("A", a), ("B", b)] {
        for (copy, of) in &side.copies {
            all.push(format!("{name}'s recording {copy} is recording {of} again: it is counted once"));
        }
        match side.windows() {
            0 => all.push(format!("{name} holds no call: nothing can be compared")),
            1 => {
                all.push(format!(
                    "{name} has calls in one window only, which cannot show how much they vary"
                ));
            }
            _ => {}
        }
    }
    let shared = a.shared(b);
    if !shared.is_empty() && (shared.len() < a.files() || shared.len() < b.files()) {
        let places =
            shared.iter().map(|(of_a, of_b)| format!("A's {of_a} is B's {of_b}")).collect::<Vec<_>>();
        all.push(format!("recordings are on both sides ({}): the sides are not apart", places.join(", ")));
    }
    all
}

/// What was seen that no verdict can be made of.
pub(super) fn findings(mix: &Mix, a: &Block, b: &Block) -> Vec<String> {
    let mut all = rare::longest(mix, a, b);
    let failed = |block: &Block| {
        if block.failed == 0 {
            return "none".to_owned();
        }
        let mut by: Vec<(u64, u32)> = block.errors.iter().map(|(&errno, &count)| (count, errno)).collect();
        by.sort_unstable_by_key(|&(count, errno)| (std::cmp::Reverse(count), errno));
        let named = by
            .iter()
            .take(NAMED)
            .map(|&(count, errno)| format!("{} {}", unit::count(count), errno::name(errno)));
        format!("{} ({})", unit::count(block.failed), named.collect::<Vec<_>>().join(", "))
    };
    if a.failed + b.failed > 0 {
        all.push(format!(
            "failed GET_PA calls: {} of A's {}, {} of B's {}",
            failed(a),
            unit::count(a.asked()),
            failed(b),
            unit::count(b.asked()),
        ));
    }
    all
}

/// What is said of the two sides.
pub(super) fn warnings(a: &Side, b: &Side, mix: &Mix) -> Vec<String> {
    let mut all = Vec::new();
    let mut said = |what: &str, of: fn(&Header) -> String, why: &str| {
        if let Some((of_a, of_b)) = differ(a, b, of) {
            all.push(format!("{what} differs ({of_a}; {of_b}): {why}"));
        }
    };
    said("GET_PA's ABI", abi, "calls do not mean the same");
    said("backend", backend, "the probes' own cost differs");
    said("page size", page_size, "a scan of as many bytes has other steps, and a page is another one");
    said("machine", |header| header.machine.clone(), "this compares machines");
    said("processor", |header| header.host.cpu.clone().unwrap_or_default(), "this compares machines");
    said("number of CPUs", |header| header.cpus.to_string(), "this compares machines");
    said("clock source", clock_source, "reading the clock costs otherwise");
    all.extend(a.headers().next().zip(b.headers().next()).and_then(|(a, b)| share::difference(a, b)));
    for (name, side) in [("A", a), ("B", b)] {
        if side.incomplete > 0 {
            all.push(format!("{name} is not complete: calls were lost, or it was cut off"));
        }
        if side.lost_slow > 0.0 {
            all.push(format!("{name} lost slow calls: its percentiles are too low"));
        }
    }
    let shared = a.shared(b);
    if !shared.is_empty() && shared.len() == a.files() && shared.len() == b.files() {
        all.push("both sides are the same recordings".to_owned());
    }
    all.extend(single(a, b));
    if let (Some(of_a), Some(of_b)) = (rate(a), rate(b))
        && !(0.5..=2.0).contains(&(of_b / of_a))
    {
        all.push(format!("load differs ({of_a:.0} and {of_b:.0} GET_PA a second)"));
    }
    all.extend(lengths(mix));
    all
}

fn single(a: &Side, b: &Side) -> Option<String> {
    let single = match (a.files(), b.files()) {
        (1, 1) => "each side is one recording",
        (1, _) => "A is one recording",
        (_, 1) => "B is one recording",
        _ => return None,
    };
    let few = [a, b].iter().any(|side| side.independent() < FEWEST_BLOCKS);
    let of_windows = if few { "" } else { "the ± is how much its windows vary, and cannot know " };
    let unknown = if few { "it cannot be known " } else { "" };
    Some(format!(
        "{single}: {of_windows}{unknown}how much another run of the same setting would differ; to know, record both \
         several times and give all, as A1,A2,A3 B1,B2,B3"
    ))
}

/// GET_PA calls a second.
fn rate(side: &Side) -> Option<f64> {
    let whole = side.whole();
    let seconds = whole.duration as f64 / 1e9;
    (seconds > 0.0 && whole.asked() > 0).then(|| whole.asked() as f64 / seconds)
}

fn lengths(mix: &Mix) -> Vec<String> {
    let mut all = Vec::new();
    match mix.mixes {
        Mixes::Differ { by } => all.push(format!(
            "scan lengths differ (by {} of the scans): a percentile over all calls is of other work on each side, and \
             gets no verdict; scans are compared length by length, and over the mean of both mixes",
            share(by)
        )),
        Mixes::Near { by } => all.push(format!(
            "scan lengths differ a little (by {} of the scans): percentiles over all calls have a margin for it",
            share(by)
        )),
        Mixes::Alike | Mixes::Unknown => {}
    }
    for class in &mix.classes {
        if let Some(why) = class.left_out {
            all.push(format!(
                "scans of {} are left out: {why} ({} of A's scans, {} of B's)",
                class.name(),
                share(class.share_a),
                share(class.share_b)
            ));
        }
    }
    all
}

fn share(of: f64) -> String {
    match 100.0 * of {
        0.0 => "none".to_owned(),
        percent if percent < 0.1 => "less than 0.1 %".to_owned(),
        percent if percent < 9.95 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}
