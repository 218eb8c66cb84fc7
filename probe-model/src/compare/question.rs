//! Contiguity: whether both sides were asked the same.
//!
//! What a call asked for is not recorded, but a run that ended before it says what it would have been under any
//! longer cap, and a run that filled its cap says what that was. So the mean run of up to `cap` bytes is known
//! exactly on a side where no call is seen to have asked for less. Where calls began is not known.

use std::collections::BTreeSet;

use super::side::{Block, Side};
use crate::contiguity::lengths;

/// The question that both sides answer: how long runs are of up to so many bytes; `None` where nothing was cut
/// off by a cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) cap: Option<u64>,
}

/// The question, or why there is none.
pub(super) fn of(a: &Side, b: &Side) -> Result<Question, &'static str> {
    let is_cap = |side: &Side| side.headers().map(|header| header.length_is_cap).collect::<BTreeSet<bool>>();
    if is_cap(a) != is_cap(b) || is_cap(a).len() > 1 {
        return Err("the ABIs differ, calls do not ask for the same");
    }
    if a.page_size() != b.page_size() {
        return Err("page sizes differ");
    }
    let (whole_a, whole_b) = (a.whole(), b.whole());
    let (caps_a, caps_b) = (caps(&whole_a), caps(&whole_b));
    let cap = match (caps_a.first(), caps_b.first()) {
        (None, None) => return Ok(Question { cap: None }),
        (Some(_), Some(_)) if caps_a != caps_b => return Err("other lengths were asked for"),
        (Some(&cap), Some(_)) => cap,
        // Nothing filled its cap on one side: its runs would have been the same under the other's caps, unless
        // they are longer than those.
        (Some(&cap), None) if longest(&whole_b) <= cap && caps_a.len() == 1 => cap,
        (None, Some(&cap)) if longest(&whole_a) <= cap && caps_b.len() == 1 => cap,
        _ => return Err("it cannot be shown that the same was asked for"),
    };
    if cap <= a.page_size() {
        return Err("one page was asked for, which cannot break");
    }
    Ok(Question { cap: Some(cap) })
}

impl Question {
    /// The mean run, bytes. A scan of an unmapped page found none.
    pub(super) fn answer(self, block: &Block) -> Option<f64> {
        let runs = block.scans.as_ref()?.runs.iter().filter(|(stop, _)| *stop != "unmapped");
        let (mut count, mut sum) = (0u64, 0.0);
        for (_, histogram) in runs {
            count += histogram.count;
            sum += match self.cap {
                // Exact.
                None => histogram.sum as f64,
                Some(cap) => {
                    let longer = lengths(histogram).filter(|&(run, _)| run > cap);
                    let over: f64 = longer.map(|(run, count)| (run - cap) as f64 * count as f64).sum();
                    histogram.sum as f64 - over
                }
            };
        }
        (count > 0).then(|| sum / count as f64)
    }
}

/// The lengths that calls are seen to have asked for, bytes (lower bounds, 0.8 %).
fn caps(whole: &Block) -> BTreeSet<u64> {
    let runs = whole.scans.as_ref().and_then(|scans| scans.runs.get("cap"));
    runs.iter().flat_map(|runs| lengths(runs)).map(|(run, _)| run).collect()
}

/// The longest run, bytes (a lower bound, 0.8 %).
fn longest(whole: &Block) -> u64 {
    let runs = whole.scans.iter().flat_map(|scans| scans.runs.values());
    runs.filter_map(|runs| lengths(runs).last()).map(|(run, _)| run).max().unwrap_or(0)
}
