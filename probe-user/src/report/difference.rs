//! A comparison as text, under 80 columns, for who knows no statistics.

use std::fmt::Write as _;
use std::io::{self, Write};

use probe_model::compare::{Compared, Comparison, Verdict};
use probe_model::unit;

/// Writing to a string does not fail.
macro_rules! line {
    ($text:expr) => { $text.push('\n') };
    ($text:expr, $($part:tt)*) => {{ let _ = writeln!($text, $($part)*); }};
}

/// Write `comparison` of two sides, by their names.
pub fn write(comparison: &Comparison, a: &str, b: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut text = String::new();
    line!(text, "A  {a}");
    line!(text, "B  {b}");
    for warning in &comparison.warnings {
        wrapped(&mut text, "!  ", warning);
    }
    line!(text);
    line!(text, "{:<15}{:>10}{:>10}  B against A", "", "A", "B");
    for measure in &comparison.measures {
        let value =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| shown(measure.unit, value));
        let (of_a, of_b) = (value(measure.a), value(measure.b));
        line!(text, "{:<15}{of_a:>10}{of_b:>10}  {}", measure.measure, verdict(measure));
    }
    line!(text);
    distribution(&mut text, comparison.distribution);
    conclusion(&mut text, comparison);
    out.write_all(text.as_bytes())
}

/// A value with its unit.
fn shown(of: &str, value: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded for people")]
    let whole = value.round() as u64;
    match of {
        "ns" if value < 100.0 => format!("{value:.1} ns"),
        "ns" => unit::nanos(whole),
        "bytes" => unit::bytes(whole),
        _ => percent(value),
    }
}

fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent.abs() >= 9.95 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

fn verdict(measure: &Compared) -> String {
    let (change, margin) = (measure.change.unwrap_or(0.0), measure.margin.unwrap_or(0.0));
    let by = format!("{} ± {}", percent(change.abs()), percent(margin));
    let word = match (measure.unit, change > 0.0) {
        ("ns", true) => "slower by",
        ("ns", false) => "faster by",
        ("bytes", true) => "longer by",
        ("bytes", false) => "shorter by",
        (_, true) => "more by",
        (_, false) => "fewer by",
    };
    match measure.verdict {
        Verdict::Worse { regression: true } => format!("WORSE: {word} {by}"),
        Verdict::Worse { regression: false } => format!("a little worse: {word} {by}"),
        Verdict::Better => format!("better: {word} {by}"),
        Verdict::Same { would_have_seen } => {
            format!("no difference seen, would have seen {}", percent(would_have_seen))
        }
        Verdict::Unknown { why } => format!("cannot tell: {why}"),
    }
}

fn distribution(text: &mut String, chance: Option<f64>) {
    match chance {
        Some(chance) if chance < 0.05 => wrapped(
            text,
            "",
            &format!(
                "The latencies of GET_PA as a whole differ: two halves of one recording would look so different \
                 in {} of 100 cases.",
                if chance < 0.01 { "less than 1".to_owned() } else { format!("{:.0}", 100.0 * chance) }
            ),
        ),
        Some(_) => wrapped(text, "", "The latencies of GET_PA as a whole look the same on both sides."),
        None => wrapped(text, "", "There are too few windows to compare the latencies of GET_PA as a whole."),
    }
}

fn conclusion(text: &mut String, comparison: &Comparison) {
    line!(text);
    let threshold = percent(comparison.threshold);
    if comparison.has_regression() {
        line!(text, "B is worse than A by more than {threshold}.");
    } else {
        line!(text, "No measure is seen to be worse by more than {threshold}.");
    }
    line!(text);
    wrapped(
        text,
        "",
        "How to read it: \"slower by 12 % ± 3 %\" means that the true difference lies between 9 % and 15 % in 95 of \
         100 such comparisons. The ± comes from how much the recordings vary within themselves, and between \
         each other where there are several. \"worse\" and \"better\" are said only where chance alone would say \
         any of them in less than 5 of 100 comparisons. \"would have seen 4 %\" means that a difference of 4 % \
         would have been found four times of five; smaller ones may be there.",
    );
}

/// Words in lines under 80 columns; `first` stands before the first, its width before the others.
fn wrapped(text: &mut String, first: &str, words: &str) {
    let mut line = first.to_owned();
    let indent = " ".repeat(first.chars().count());
    for word in words.split(' ') {
        if line.chars().count() + word.chars().count() > 77 {
            line!(text, "{}", line.trim_end());
            line.clone_from(&indent);
        }
        line.push_str(word);
        line.push(' ');
    }
    line!(text, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(measure: &'static str, unit: &'static str, verdict: Verdict) -> Compared {
        Compared {
            measure,
            unit,
            more_is_worse: unit != "bytes",
            a: Some(2000.0),
            b: Some(2240.0),
            change: Some(0.12),
            margin: Some(0.031),
            verdict,
        }
    }

    #[test]
    fn every_verdict_is_told_in_words() {
        let comparison = Comparison {
            measures: vec![
                row("GET_PA median", "ns", Verdict::Worse { regression: true }),
                row("GET_PA 99 %", "ns", Verdict::Worse { regression: false }),
                row("scan median", "ns", Verdict::Same { would_have_seen: 0.04 }),
                row("mean run", "bytes", Verdict::Better),
                row("failed calls", "share", Verdict::Unknown { why: "0 on both sides" }),
            ],
            distribution: Some(0.003),
            warnings: vec!["backend differs (fsession; kprobe): the probes' own cost differs".into()],
            threshold: 0.05,
        };
        let mut out = Vec::new();
        write(&comparison, "a.iova", "b.iova", &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
        insta::assert_snapshot!(text);
    }
}
