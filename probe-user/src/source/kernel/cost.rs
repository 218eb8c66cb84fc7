//! The instrument's own cost, measured on this machine before the recording begins.

use probe_model::cost::Calibration;

use super::backend::Probes;
use super::read::Reader;
use super::{Canary, Config, SourceError, load};

/// Calls per average: long enough to measure, short enough to be left alone by the scheduler.
const CALLS: u32 = 64;
/// Averages taken of each kind.
const ROUNDS: u32 = 64;

/// Time canaries without probes, with the dispatch site's, and with all. `None` where canaries do not
/// get as far as `get_phys`.
pub(super) fn calibrate(
    config: &Config,
    canary: &mut dyn Canary,
) -> Result<Option<Calibration>, SourceError> {
    let sent = canary.send();
    if sent.failed || sent.get_phys == 0 {
        return Ok(None);
    }
    let Some(mut bare) = averages(canary) else { return Ok(None) };
    let mut programs = load::load(config)?;
    let reader = Reader::new(&programs, config)?;
    reader.arm(true);
    let mut with = Vec::new();
    let probes = Probes::attach(&mut programs, config, &mut || with.extend(averages(canary).map(least)))?;
    drop(probes);
    let (&[dispatch, both], Some(again)) = (&with[..], averages(canary)) else { return Ok(None) };
    bare.extend(again);
    bare.sort_unstable();
    let better_half = &bare[..bare.len() / 2];
    let noise = better_half.last().copied().unwrap_or(0) - least(bare.clone());
    Ok(Some(Calibration { calls: CALLS, rounds: ROUNDS, bare: least(bare), dispatch, both, noise }))
}

fn averages(canary: &mut dyn Canary) -> Option<Vec<u64>> {
    (0..ROUNDS).map(|_| canary.time(CALLS)).collect()
}

fn least(averages: Vec<u64>) -> u64 {
    averages.into_iter().min().unwrap_or(0)
}
