//! Readings to results to tables. Pure: no file, no clock, no guest.

use anyhow::{Result, bail};

use super::arm::{Arm, LOOPS, Loop, NONE, PEERS};

/// A baseline that does not repeat within this share of itself measures nothing.
const STEADY: f64 = 0.01;

/// Instructions per call of one arm in one loop, a value a repeat.
#[derive(Debug, Clone, Default)]
pub(super) struct Series(pub(super) Vec<f64>);

impl Series {
    /// The middle value, the upper one of two.
    fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The largest less the smallest.
    fn spread(&self) -> f64 {
        let (least, most) = self
            .0
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), &v| (least.min(v), most.max(v)));
        most - least
    }
}

/// All readings of one arm, in the order of [`LOOPS`].
#[derive(Debug)]
pub(super) struct Row {
    pub(super) arm: &'static Arm,
    pub(super) loops: Vec<Series>,
}

/// The rows of a run; the first is [`NONE`].
#[derive(Debug)]
pub(super) struct Results(pub(super) Vec<Row>);

impl Results {
    /// Fails when the baseline does not repeat, or when a probe costs nothing.
    pub(super) fn check(&self) -> Result<()> {
        for (index, each) in LOOPS.iter().enumerate() {
            let Some(none) = self.series(NONE, index) else { continue };
            if none.spread() > STEADY * none.median() {
                let (spread, median) = (none.spread(), none.median());
                bail!("the baseline of {:?} varies by {spread:.0} of {median:.0} instructions", each.title);
            }
            for row in &self.0 {
                if row.arm.name != NONE && self.added(row.arm.name, index).is_some_and(|added| added <= 0.0) {
                    bail!("{} adds nothing to {:?}: it cannot have been attached", row.arm.name, each.title);
                }
            }
        }
        Ok(())
    }

    fn series(&self, arm: &str, index: usize) -> Option<&Series> {
        self.0.iter().find(|row| row.arm.name == arm)?.loops.get(index)
    }

    /// Instructions of the bare call, in the first loop.
    pub(super) fn baseline(&self) -> Option<f64> {
        self.series(NONE, 0).map(Series::median)
    }

    /// Instructions per call above the baseline.
    fn added(&self, arm: &str, index: usize) -> Option<f64> {
        Some(self.series(arm, index)?.median() - self.series(NONE, index)?.median())
    }

    /// Instructions per page beyond the first: the loops of one page and of many, compared.
    fn per_page(&self, arm: &str, index: usize) -> Option<f64> {
        let further = f64::from(LOOPS[index].pages.checked_sub(LOOPS[0].pages).filter(|&pages| pages > 0)?);
        Some((self.series(arm, index)?.median() - self.series(arm, 0)?.median()) / further)
    }

    /// The cheapest of our backends that record everything.
    fn best(&self) -> Option<&'static str> {
        let ours = self.0.iter().filter(|row| row.arm.is_complete_backend());
        let costs = ours.filter_map(|row| Some((row.arm.name, self.added(row.arm.name, 0)?)));
        costs.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(name, _)| name)
    }

    /// A table a loop, as Markdown.
    pub(super) fn tables(&self) -> String {
        let measured = self.0.first().map_or(0, |row| row.loops.len());
        let tables = LOOPS.iter().take(measured).enumerate();
        tables.map(|(index, each)| self.table(index, each)).collect::<Vec<_>>().join("\n")
    }

    fn table(&self, index: usize, each: &Loop) -> String {
        let paged = self.per_page(NONE, index);
        let mut head = vec!["arm", "instructions", "added", "spread"];
        head.extend(["of bpftrace-fentry", "of bpftrace-kprobe"]);
        head.extend(paged.map(|_| "added per further page"));
        let mut rows = vec![head.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()];
        for row in &self.0 {
            let Some(series) = row.loops.get(index) else { continue };
            let name = row.arm.name;
            let added = (name != NONE).then(|| self.added(name, index)).flatten();
            let mut cells = vec![name.to_owned(), count(series.median())];
            cells.push(added.map_or(DASH.to_owned(), plus));
            cells.push(if series.0.len() > 1 { count(series.spread()) } else { DASH.to_owned() });
            for peer in PEERS {
                let ratio = added.zip(self.added(peer, index)).map(|(ours, peers)| ours / peers);
                cells.push(ratio.map_or(DASH.to_owned(), |ratio| format!("{:.0} %", ratio * 100.0)));
            }
            if let Some(none) = paged {
                let more = self.per_page(name, index).map(|own| own - none).filter(|_| name != NONE);
                cells.push(more.map_or_else(|| format!("(a page: {none:.1})"), |more| format!("{more:+.1}")));
            }
            rows.push(cells);
        }
        format!("## {}\n\n{}", each.title, markdown(&rows))
    }

    /// `overhead: best +N, …`, with the arms that were measured.
    pub(super) fn closing_line(&self) -> String {
        let best = self.best().map(|name| ("best", name));
        let named = ["kprobe", PEERS[0], PEERS[1]].map(|name| (name, name));
        let parts: Vec<String> = best
            .into_iter()
            .chain(named)
            .filter_map(|(label, name)| Some(format!("{label} {}", plus(self.added(name, 0)?))))
            .collect();
        let parts = if parts.is_empty() { "only the baseline, 0".to_owned() } else { parts.join(", ") };
        format!("overhead: {parts} instructions per GET_PA")
    }
}

const DASH: &str = "–";

/// `1234.4` to `1,234`.
pub(super) fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let mut text = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn plus(value: f64) -> String {
    let text = count(value);
    if text.starts_with('-') { text } else { format!("+{text}") }
}

/// A table that also reads well as text: the first column left, the others right.
pub(in crate::bench) fn markdown(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = widths.iter().enumerate().map(|(column, &width)| match column {
        0 => "-".repeat(width + 2),
        _ => "-".repeat(width + 1) + ":",
    });
    let rule = format!("|{}|\n", rule.collect::<Vec<_>>().join("|"));
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.insert(lines.len().min(1), rule);
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::super::arm::ARMS;
    use super::*;

    fn row(name: &str, loops: &[&[f64]]) -> Row {
        let arm = ARMS.iter().find(|arm| arm.name == name).unwrap();
        Row { arm, loops: loops.iter().map(|values| Series(values.to_vec())).collect() }
    }

    fn results() -> Results {
        Results(vec![
            row("none", &[&[1739.0, 1740.0, 1738.5], &[115_181.0; 3]]),
            row("fsession", &[&[2739.0, 2739.0, 2741.0], &[116_181.0; 3]]),
            row("kprobe", &[&[5000.0; 3], &[118_953.0; 3]]),
            row("bpftrace-fentry", &[&[5739.0; 3], &[119_181.0; 3]]),
        ])
    }

    #[test]
    fn a_series_is_its_middle_and_its_spread() {
        let series = Series(vec![3.0, 1.0, 2.5]);
        assert_eq!((series.median().to_string(), series.spread().to_string()), ("2.5".into(), "2".into()));
    }

    #[test]
    fn the_closing_line_names_the_best_and_what_was_measured() {
        let line = results().closing_line();
        assert_eq!(
            line,
            "overhead: best +1,000, kprobe +3,261, bpftrace-fentry +4,000 instructions per GET_PA"
        );
        let alone = Results(vec![row("none", &[&[1739.0]])]);
        assert_eq!(alone.closing_line(), "overhead: only the baseline, 0 instructions per GET_PA");
    }

    #[test]
    fn a_table_has_the_added_the_spread_the_ratio_and_the_pages() {
        let text = results().tables();
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let ours: Vec<_> = text.lines().filter(|line| line.starts_with("| fsession")).map(cells).collect();
        assert_eq!(ours[0], ["", "fsession", "2,739", "+1,000", "2", "25 %", "–", ""]);
        assert_eq!(ours[1], ["", "fsession", "116,181", "+1,000", "0", "25 %", "–", "+0.0", ""]);
        assert!(text.contains("(a page: 222.0)"), "{text}");
        let widths: Vec<usize> = text
            .lines()
            .filter(|line| line.starts_with('|'))
            .take(6)
            .map(|line| line.chars().count())
            .collect();
        assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
    }

    #[test]
    fn a_restless_baseline_and_a_probe_that_costs_nothing_fail() {
        results().check().unwrap();
        let restless = Results(vec![row("none", &[&[1739.0, 1760.0]])]);
        assert!(restless.check().unwrap_err().to_string().contains("varies by 21"));
        let absent = Results(vec![row("none", &[&[1739.0]]), row("kprobe", &[&[1739.0]])]);
        assert!(absent.check().unwrap_err().to_string().contains("kprobe adds nothing"));
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([count(5.4), count(1_739.2), count(-1_234_567.0)], ["5", "1,739", "-1,234,567"]);
    }
}
