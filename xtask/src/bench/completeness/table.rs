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
    /// What the tool says of its version, where it was asked.
    pub(super) version: Option<String>,
    pub(super) boots: Vec<(Seen, Truth)>,
}

impl Row {
    /// The boots by the number of calls seen.
    fn sorted(&self) -> Vec<&(Seen, Truth)> {
        let mut sorted: Vec<&(Seen, Truth)> = self.boots.iter().collect();
        sorted.sort_by_key(|(seen, _)| seen.calls);
        sorted
    }

    /// The arm's name, with the version in place of the tool's: `bpftrace v0.23.2` is what it says.
    fn name(&self) -> String {
        match (&self.version, self.arm.name.split_once(", ")) {
            (Some(version), Some((_, how))) => format!("{}, {how}", version.replacen(" v", " ", 1)),
            _ => self.arm.name.to_owned(),
        }
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
    let head = [
        "tool",
        "calls it has, of 640",
        "p50 and p99 it shows",
        "and in truth",
        "of the missing ones it says",
    ];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    for row in rows {
        let sorted = row.sorted();
        let none = || anyhow!("{} has no result", row.arm.name);
        let (seen, truth) = sorted.get(sorted.len() / 2).copied().ok_or_else(none)?;
        let counts: Vec<String> = sorted.iter().map(|(seen, _)| seen.calls.to_string()).collect();
        cells.push(vec![
            row.name(),
            counts.join(", "),
            shown(seen),
            format!("{}; {}", unit::nanos(truth.median), unit::nanos(truth.p99)),
            missing(row.arm, seen),
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

/// What a tool says of the calls that it does not have. Ours always says something: the balance.
fn missing(arm: &Arm, seen: &Seen) -> String {
    let words = seen.said.join(", ");
    let is_ours = matches!(arm.tool, Tool::Ours(_));
    match (is_ours || seen.warned, words.is_empty()) {
        (true, true) => "none missing".to_owned(),
        (true, false) => words,
        (false, true) => "no word".to_owned(),
        (false, false) => format!("no word ({words})"),
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
        let text = table(&[Row { arm: &ARMS[2], version: None, boots }]).unwrap();
        let cells: Vec<&str> = text.lines().nth(2).unwrap().split('|').map(str::trim).collect();
        let want =
            ["", ARMS[2].name, "100, 200, 300", "1.00 µs to 2.00 µs; 2.00 ms", "3.00 µs; 4.00 ms", "c", ""];
        assert_eq!(cells, want);
        let version = Some("bpftrace v0.27.1".to_owned());
        let row = Row { arm: &ARMS[7], version, boots: Vec::new() };
        assert_eq!(row.name(), "bpftrace 0.27.1, fentry + fexit");
    }

    #[test]
    fn silence_is_told_from_a_warning() {
        let (ours, bpftrace) = (&ARMS[0], &ARMS[4]);
        assert!(matches!((ours.tool, bpftrace.tool), (Tool::Ours(_), Tool::Bpftrace(_))));
        let words = |arm, (seen, _): (Seen, Truth)| missing(arm, &seen);
        assert_eq!(words(ours, seen(640, &[], false)), "none missing");
        assert_eq!(words(ours, seen(158, &["482 return-missed"], true)), "482 return-missed");
        assert_eq!(words(bpftrace, seen(640, &[], false)), "no word");
        assert_eq!(words(bpftrace, seen(158, &[], false)), "no word");
        let left = &["32 threads left in its map"];
        assert_eq!(words(bpftrace, seen(158, left, false)), "no word (32 threads left in its map)");
        assert_eq!(words(bpftrace, seen(158, left, true)), "32 threads left in its map");
    }

    #[test]
    fn a_run_in_which_nothing_waited_proves_nothing() {
        let rows = |kprobe: u64| -> Vec<Row> {
            let calls = |arm: &Arm| if arm.tool == Tool::Ours("kprobe") { kprobe } else { CALLS };
            ARMS.iter()
                .map(|arm| Row { arm, version: None, boots: vec![seen(calls(arm), &[], false)] })
                .collect()
        };
        check(&rows(158)).unwrap();
        assert!(check(&rows(640)).is_err());
    }
}
