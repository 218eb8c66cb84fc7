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

/// Widest line.
const WIDTH: usize = 79;
/// A column of values.
const VALUE: usize = 10;

/// Write `comparison` of two sides, by their names.
pub fn write(comparison: &Comparison, a: &str, b: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut text = String::new();
    line!(text, "A  {a}");
    line!(text, "B  {b}");
    for warning in comparison.unfit.iter().chain(&comparison.warnings) {
        wrapped(&mut text, "!  ", warning);
    }
    line!(text);
    table(&mut text, comparison);
    line!(text);
    costs(&mut text, comparison);
    for finding in &comparison.findings {
        wrapped(&mut text, "*  ", finding);
    }
    if !comparison.findings.is_empty() {
        line!(text);
    }
    distribution(&mut text, comparison);
    conclusion(&mut text, comparison);
    out.write_all(text.as_bytes())
}

fn table(text: &mut String, comparison: &Comparison) {
    let names = comparison.measures.iter().map(|row| row.measure.chars().count());
    let name = names.max().unwrap_or(0).max(15);
    line!(text, "{:<name$}{:>VALUE$}{:>VALUE$}  B against A", "", "A", "B");
    for measure in &comparison.measures {
        let value =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| shown(measure.unit, value));
        let (of_a, of_b) = (value(measure.a), value(measure.b));
        let first = format!("{:<name$}{of_a:>VALUE$}{of_b:>VALUE$}  ", measure.measure);
        wrapped(text, &first, &verdict(measure));
    }
}

/// What a scan costs on each side, in the words of every report.
fn costs(text: &mut String, comparison: &Comparison) {
    let sides = [("A", &comparison.costs.a), ("B", &comparison.costs.b)];
    for (name, cost) in sides {
        if let Some(cost) = cost {
            wrapped(text, "   ", &format!("A scan on {name}: {}.", cost.sentence()));
        }
    }
    if sides.iter().any(|(_, cost)| cost.is_some()) {
        line!(text);
    }
}

/// A value with its unit.
fn shown(of: &str, value: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded for people")]
    let whole = value.abs().round() as u64;
    let sign = if value < 0.0 { "-" } else { "" };
    match of {
        "ns" if value.abs() < 100.0 => format!("{value:.1} ns"),
        "ns" => format!("{sign}{}", unit::nanos(whole)),
        "bytes" => unit::bytes(whole),
        _ => percent(value),
    }
}

/// A share with two digits that mean something, or as many as are not behind the point.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    match percent.abs() {
        0.0 => "0 %".to_owned(),
        ..0.001 => "< 0.001 %".to_owned(),
        ..0.0095 => format!("{percent:.3} %"),
        ..0.095 => format!("{percent:.2} %"),
        ..9.95 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

/// `12 of 3,000 against none of 2,000`, B's first.
fn counted([a, b]: [(u64, u64); 2]) -> String {
    let of = |(some, all): (u64, u64)| match some {
        0 => format!("none of {}", unit::count(all)),
        some => format!("{} of {}", unit::count(some), unit::count(all)),
    };
    format!("{} against {}", of(b), of(a))
}

fn verdict(measure: &Compared) -> String {
    let word = match (measure.unit, measure.change.is_none_or(|change| change > 0.0)) {
        ("ns", true) => "slower by",
        ("ns", false) => "faster by",
        ("bytes", true) => "longer by",
        ("bytes", false) => "shorter by",
        (_, true) => "more by",
        (_, false) => "fewer by",
    };
    let by = match (measure.counts, measure.change.zip(measure.margin)) {
        (Some(counts), _) => counted(counts),
        (None, Some((change, margin))) => format!("{word} {} ± {}", percent(change.abs()), percent(margin)),
        (None, None) => word.to_owned(),
    };
    match &measure.verdict {
        Verdict::Worse { regression: true } => format!("WORSE: {by}"),
        Verdict::Worse { regression: false } => format!("a little worse: {by}"),
        Verdict::Better => format!("better: {by}"),
        Verdict::Same { would_have_seen } => {
            format!("no change; cannot tell less than {}", percent(*would_have_seen))
        }
        Verdict::Unknown { why } => match measure.counts.filter(|[a, b]| a.0 + b.0 > 0) {
            Some(counts) => format!("cannot tell: {why} ({})", counted(counts)),
            None => format!("cannot tell: {why}"),
        },
    }
}

fn distribution(text: &mut String, comparison: &Comparison) {
    match (comparison.distribution, comparison.distributions_differ()) {
        (Some(chance), Some(true)) => wrapped(
            text,
            "",
            &format!(
                "The latencies of GET_PA as a whole differ: two halves of one recording would look so different \
                 in {} of 100 cases.",
                if chance < 0.01 { "less than 1".to_owned() } else { format!("{:.0}", 100.0 * chance) }
            ),
        ),
        (Some(_), _) if comparison.findings.is_empty() => {
            wrapped(text, "", "The latencies of GET_PA as a whole are not seen to differ.");
        }
        (Some(_), _) => wrapped(
            text,
            "",
            "The latencies of GET_PA as a whole are not seen to differ, but for what is said above.",
        ),
        (None, _) => wrapped(
            text,
            "",
            "The latencies of GET_PA as a whole are not compared: that takes one recording a side, of five windows or \
             more, measured alike, with the same scan lengths.",
        ),
    }
}

fn conclusion(text: &mut String, comparison: &Comparison) {
    line!(text);
    let threshold = percent(comparison.threshold);
    let of = |is: &dyn Fn(&Verdict) -> bool| {
        let rows = comparison.measures.iter().filter(|row| is(&row.verdict));
        rows.map(|row| row.measure.as_str()).collect::<Vec<_>>()
    };
    let compared = of(&|verdict| !matches!(verdict, Verdict::Unknown { .. }));
    let blind = of(
        &|verdict| matches!(verdict, Verdict::Same { would_have_seen } if *would_have_seen > comparison.threshold),
    );
    let said = if comparison.has_regression() {
        let worse = of(&|verdict| *verdict == Verdict::Worse { regression: true });
        format!("B is worse than A by more than {threshold}: {}.", worse.join(", "))
    } else if compared.is_empty() {
        "Nothing could be compared: whether B is worse than A is not known.".to_owned()
    } else {
        let blind = match blind.len() {
            0 => String::new(),
            _ => format!(" So little could not have been told of {}.", blind.join(", ")),
        };
        format!(
            "Of the {} measures that could be compared, none is seen to be worse by more than {threshold}.{blind}",
            compared.len()
        )
    };
    wrapped(text, "", &said);
    line!(text);
    wrapped(
        text,
        "",
        &format!(
            "How to read it: \"slower by 12 % ± 3 %\" means that the true difference lies between 9 % and 15 % in 95 \
             of 100 such comparisons. The ± comes from how much the recordings vary within themselves, and between each \
             other where there are several. \"worse\" and \"better\" are said only where chance alone would say any of \
             them in less than 5 of 100 comparisons; {} that can have a verdict share these 5, so each is judged the \
             more strictly. \"cannot tell less than 4 %\" means that a difference of 4 % would have been found four \
             times of five; smaller ones may be there. Scans are compared as if both sides had had one mix of lengths. \
             \"GET_PA less scan\" is a mean; a slow scan takes ten times the median of its length, a slow GET_PA ten \
             times the 99 %.",
            comparison.judged
        ),
    );
}

/// Words in lines under 80 columns; `first` stands before the first, its width before the others.
fn wrapped(text: &mut String, first: &str, words: &str) {
    let mut line = first.to_owned();
    let indent = " ".repeat(first.chars().count());
    for word in words.split(' ') {
        if line.chars().count() + word.chars().count() > WIDTH
            && line.chars().count() > indent.chars().count()
        {
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
    use probe_model::compare::{Class, Costs, Mix, Mixes};

    fn row(measure: &str, unit: &'static str, verdict: Verdict) -> Compared {
        Compared {
            measure: measure.to_owned(),
            unit,
            more_is_worse: unit != "bytes",
            a: Some(2000.0),
            b: Some(2240.0),
            change: Some(0.12),
            margin: Some(0.031),
            counts: None,
            verdict,
        }
    }

    fn counts(measure: &str, counts: [(u64, u64); 2], verdict: Verdict) -> Compared {
        let share = |(some, all): (u64, u64)| Some(some as f64 / all as f64);
        let (a, b) = (share(counts[0]), share(counts[1]));
        Compared { a, b, change: None, margin: None, counts: Some(counts), ..row(measure, "share", verdict) }
    }

    fn comparison(measures: Vec<Compared>) -> Comparison {
        Comparison {
            measures,
            judged: 6,
            mix: Mix { mixes: Mixes::Alike, classes: Vec::<Class>::new() },
            costs: Costs { a: None, b: None },
            distribution: Some(0.003),
            findings: vec!["2 of B's 3,002 scans of 1 page took longer than any of A's".into()],
            warnings: vec!["backend differs (fsession; kprobe): the probes' own cost differs".into()],
            unfit: Vec::new(),
            threshold: 0.05,
        }
    }

    fn text(comparison: &Comparison) -> String {
        let mut out = Vec::new();
        write(comparison, "a.iova", "b.iova", &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
        text
    }

    #[test]
    fn every_verdict_is_told_in_words() {
        insta::assert_snapshot!(text(&comparison(vec![
            row("GET_PA median", "ns", Verdict::Worse { regression: true }),
            row("GET_PA 99 %", "ns", Verdict::Worse { regression: false }),
            row("scan median", "ns", Verdict::Same { would_have_seen: 0.04 }),
            row("scan, 300-511 pages", "ns", Verdict::Same { would_have_seen: 0.4 }),
            row("mean run", "bytes", Verdict::Better),
            row("a further page", "ns", Verdict::Unknown { why: "one length only".into() }),
            counts("failed calls", [(0, 3000), (16, 3000)], Verdict::Worse { regression: true }),
            counts(
                "slow scans",
                [(0, 3000), (2, 3002)],
                Verdict::Unknown { why: "too few for a verdict".into() }
            ),
            counts(
                "slow GET_PA",
                [(0, 3000), (0, 3002)],
                Verdict::Unknown { why: "none on both sides".into() }
            ),
        ])));
    }

    #[test]
    fn nothing_compared_is_not_nothing_worse() {
        let unknown = row("GET_PA median", "ns", Verdict::Unknown { why: "too few windows".into() });
        let nothing = Comparison {
            distribution: None,
            unfit: vec!["B has calls in one window only".into()],
            ..comparison(vec![unknown])
        };
        let said = text(&nothing);
        assert!(said.contains("Nothing could be compared") && !said.contains("none is seen"), "{said}");
        assert!(said.contains("!  B has calls in one window only"), "{said}");
    }
}
