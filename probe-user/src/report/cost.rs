//! What the instrument itself cost, in words: for those who read latencies beside it.

use std::collections::BTreeMap;

use probe_model::cost::{Calibration, ProgramCost};
use probe_model::unit;

/// The lines; none where nothing was measured.
pub(super) fn lines(
    calibration: Option<&Calibration>,
    programs: &BTreeMap<String, ProgramCost>,
) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(calibration) = calibration {
        lines.extend(calibrated(calibration));
    }
    for (name, cost) in programs.iter().filter(|(_, cost)| cost.runs > 0) {
        let each = unit::nanos(cost.nanos / cost.runs);
        lines.push(format!("{name:<20}{:>11} runs of {each}, program body alone", unit::count(cost.runs)));
    }
    lines
}

fn calibrated(calibration: &Calibration) -> Vec<String> {
    let [added, inner, noise, bare] =
        [calibration.added(), calibration.inner(), calibration.noise, calibration.bare].map(unit::nanos);
    if !calibration.is_known() {
        return vec![format!("what the probes add to a GET_PA is less than this machine's noise of {noise}")];
    }
    vec![
        format!("the probes add {added} to a GET_PA that takes {bare} without, ± {noise}"),
        format!("{inner} of it are get_phys's probes: inside dispatch latency, outside get_phys's"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_said_with_their_noise_or_not_at_all() {
        let calibration =
            Calibration { calls: 64, rounds: 64, bare: 900, dispatch: 1100, both: 1400, noise: 20 };
        let programs = [("get_phys_both".to_owned(), ProgramCost { runs: 1000, nanos: 150_000 })].into();
        let said = lines(Some(&calibration), &programs);
        assert_eq!(said[0], "the probes add 500 ns to a GET_PA that takes 900 ns without, ± 20 ns");
        assert!(said[1].starts_with("300 ns of it"));
        assert!(said[2].contains("1,000 runs of 150 ns"));
        let noisy = Calibration { noise: 600, ..calibration };
        assert!(
            lines(Some(&noisy), &BTreeMap::new())[0].contains("less than this machine's noise of 600 ns")
        );
        assert!(lines(None, &BTreeMap::new()).is_empty());
    }
}
