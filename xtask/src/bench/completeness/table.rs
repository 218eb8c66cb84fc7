//! Readings to the table. Pure.

use anyhow::{Result, anyhow, bail};
use probe_model::unit;

use super::arm::{ARMS, Arm, Tool};
use super::evidence::{CALLS, Range, Seen, Truth};
use crate::bench::overhead::markdown;

/// One arm's boots.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) arm: &'static Arm,
    pub(super) boots: Vec<(Seen, Truth)>,
}

impl Row {
    /// The boot with the median number of calls seen.
    fn middle(&self) -> Option<&(Seen, Truth)> {
        let mut sorted: Vec<&(Seen, Truth)> = self.boots.iter().collect();
        sorted.sort_by_key(|(seen, _)| seen.calls);
        sorted.get(sorted.len() / 2).copied()
    }
}

/// Fails when the run shows nothing: the point is calls that some tool misses.
pub(super) fn check(rows: &[Row]) -> Result<()> {
    if rows.iter().any(|row| row.boots.is_empty()) {
        bail!("an arm has no result");
    }
    let pool_ran_empty = |row: &Row| {
        row.arm.tool == Tool::Ours("kprobe") && row.boots.iter().all(|(seen, _)| seen.calls < CALLS)
    };
    if rows.len() == ARMS.len() && !rows.iter().any(pool_ran_empty) {
        bail!("no kretprobe was missed: the calls did not wait on each other, and the table shows nothing");
    }
    Ok(())
}

/// The table as Markdown.
pub(super) fn table(rows: &[Row]) -> Result<String> {
    let head = ["tool", "calls it has, of 640", "p50 and p99 it shows", "and in truth", "says is missing"];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    for row in rows {
        let (seen, truth) = row.middle().ok_or_else(|| anyhow!("{} has no result", row.arm.name))?;
        let mut counts: Vec<u64> = row.boots.iter().map(|(seen, _)| seen.calls).collect();
        counts.sort_unstable();
        let counts: Vec<String> = counts.iter().map(u64::to_string).collect();
        cells.push(vec![
            row.arm.name.to_owned(),
            counts.join(", "),
            shown(seen),
            format!("{}; {}", unit::nanos(truth.median), unit::nanos(truth.p99)),
            missing(seen),
        ]);
    }
    Ok(markdown(&cells))
}

fn shown(seen: &Seen) -> String {
    match (seen.median, seen.p99) {
        (Some(median), Some(p99)) => format!("{}; {}", range(median), range(p99)),
        _ => "–".to_owned(),
    }
}

fn range((least, most): Range) -> String {
    if least == most { unit::nanos(most) } else { format!("{} to {}", unit::nanos(least), unit::nanos(most)) }
}

fn missing(seen: &Seen) -> String {
    let words = seen.said.join(", ");
    match (seen.calls == CALLS, seen.warned) {
        (true, _) if words.is_empty() => "nothing, rightly".to_owned(),
        (_, true) => words,
        (_, false) if words.is_empty() => "nothing".to_owned(),
        (_, false) => format!("nothing ({words})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(calls: u64, said: &[&str], warned: bool) -> (Seen, Truth) {
        let said = said.iter().map(|&word| word.to_owned()).collect();
        let seen =
            Seen { calls, median: Some((1000, 1999)), p99: Some((2_000_000, 2_000_000)), said, warned };
        (seen, Truth { median: 3000, p99: 4_000_000 })
    }

    #[test]
    fn a_row_has_every_boot_and_the_middle_ones_figures() {
        let boots = vec![seen(300, &["a"], true), seen(100, &["b"], true), seen(200, &["c"], true)];
        let text = table(&[Row { arm: &ARMS[2], boots }]).unwrap();
        let cells: Vec<&str> = text.lines().nth(2).unwrap().split('|').map(str::trim).collect();
        let want =
            ["", ARMS[2].name, "100, 200, 300", "1.00 µs to 2.00 µs; 2.00 ms", "3.00 µs; 4.00 ms", "c", ""];
        assert_eq!(cells, want);
    }

    #[test]
    fn silence_is_told_from_a_warning() {
        let words = |(seen, _): (Seen, Truth)| missing(&seen);
        assert_eq!(words(seen(640, &[], false)), "nothing, rightly");
        assert_eq!(words(seen(158, &[], false)), "nothing");
        assert_eq!(
            words(seen(158, &["32 threads left in its map"], false)),
            "nothing (32 threads left in its map)"
        );
        assert_eq!(words(seen(158, &["482 return-missed"], true)), "482 return-missed");
    }

    #[test]
    fn a_run_in_which_nothing_waited_proves_nothing() {
        let rows = |kprobe: u64| -> Vec<Row> {
            let calls = |arm: &Arm| if arm.tool == Tool::Ours("kprobe") { kprobe } else { CALLS };
            ARMS.iter().map(|arm| Row { arm, boots: vec![seen(calls(arm), &[], false)] }).collect()
        };
        check(&rows(158)).unwrap();
        assert!(check(&rows(640)).is_err());
    }
}
