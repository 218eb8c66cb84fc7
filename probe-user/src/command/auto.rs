//! A source whose backend may change: where the choice was ours, and the cheap backend loses more than is bearable,
//! the complete one takes over while counting.
//!
//! Decides when; how is the source's business. What was asked for by name is never changed.

use std::collections::BTreeMap;

use probe_model::backends::Change;
use probe_model::origin::Mark;
use probe_model::sample::{Counters, Sample};
use probe_model::unit::count;

use crate::source::kernel::{Changed, Config, KernelSource, SourceError};

/// A source, and the backend that may take over.
pub(super) struct Watched {
    pub(super) source: KernelSource,
    /// How the complete backend would be started; `None` where nothing is to change any more.
    complete: Option<Config>,
    /// Fates at the last sample.
    last: Counters,
}

/// A sample, and what it led to.
pub(super) struct Step {
    pub(super) sample: Sample,
    pub(super) turn: Option<Turn>,
}

/// A change of backends, or that there can be none.
pub(super) struct Turn {
    /// Everything until the change.
    pub(super) sample: Option<Sample>,
    pub(super) mark: Mark,
}

impl Watched {
    /// `complete`: how the complete backend would be started, where the choice is ours and it could.
    pub(super) fn new(mut source: KernelSource, complete: Option<Config>) -> Self {
        if complete.is_some() {
            source.may_change();
        }
        Self { source, complete, last: Counters::default() }
    }

    /// Read every counter; go over to the complete backend if the window that ends here lost too much.
    pub(super) fn sample(&mut self) -> Result<Step, SourceError> {
        let sample = self.source.sample()?;
        let now = fates(&sample.counters);
        let lost = now.since(&self.last).unbearable(self.source.backend().name());
        self.last = now;
        let (Some(lost), Some(config)) = (lost, self.complete) else {
            return Ok(Step { sample, turn: None });
        };
        self.complete = None;
        let turn = match self.source.change(&config)? {
            Ok(changed) => {
                self.last = fates(&changed.sample.counters);
                turn(changed, lost)
            }
            Err(error) => {
                let why = anyhow::Error::from(error);
                let text = format!("{} stays: {why:#}", self.source.backend().name());
                Turn { sample: None, mark: Mark { at: sample.at, text, ..Mark::default() } }
            }
        };
        Ok(Step { sample, turn: Some(turn) })
    }
}

fn fates(counters: &Counters) -> Counters {
    let (flow, by_backend) = (counters.flow.clone(), counters.by_backend.clone());
    Counters { flow, by_backend, ..Counters::default() }
}

fn turn(changed: Changed, (lost, calls): (u64, u64)) -> Turn {
    let Changed { sample, from, to, slips } = changed;
    let change = Change { from: from.name().to_owned(), to: to.name().to_owned(), slips };
    let text = format!(
        "{} after {}, which lost {} of {} calls; {}",
        change.to,
        change.from,
        count(lost),
        count(calls),
        slipped(&change)
    );
    let mark = Mark { at: sample.at, text, change: Some(change), ..Mark::default() };
    Turn { sample: Some(sample), mark }
}

/// What the change itself did, for people.
fn slipped(change: &Change) -> String {
    let sites: BTreeMap<_, _> =
        change.slips.iter().filter(|(_, slip)| slip.missed + slip.twice > 0).collect();
    if sites.is_empty() {
        return "the change missed none".to_owned();
    }
    let site = |(site, slip): (&&String, &&probe_model::backends::Slip)| match (slip.missed, slip.twice) {
        (missed, 0) => format!("at most {} of {site}", count(missed)),
        (missed, twice) => format!("at most {} of {site}, and counted {} twice", count(missed), count(twice)),
    };
    format!("the change missed {}", sites.iter().map(site).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use probe_model::backends::Slip;

    #[test]
    fn what_a_change_did_is_said() {
        let change = |missed, twice| Change {
            from: "fsession".to_owned(),
            to: "kprobe-session".to_owned(),
            slips: [
                ("get_phys".to_owned(), Slip { missed, twice }),
                ("dispatch".to_owned(), Slip::default()),
            ]
            .into(),
        };
        assert_eq!(slipped(&change(0, 0)), "the change missed none");
        assert_eq!(slipped(&change(2, 0)), "the change missed at most 2 of get_phys");
        assert_eq!(slipped(&change(0, 1)), "the change missed at most 0 of get_phys, and counted 1 twice");
    }
}
