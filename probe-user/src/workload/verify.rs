//! Compare what GET_PA says with what the page tables of this process say.
//!
//! Never prints a physical address unless the user asked for it.

use super::abi::Abi;
use super::iommufd::Answer;
use super::pagemap::Frames;
use super::quantity::Iova;

/// Whether a difference may be shown with the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    Hide,
    Show,
}

/// What is needed to know the right answer.
pub struct Oracle {
    frames: Frames,
    abi: Abi,
    start: Iova,
    addresses: Addresses,
}

/// Where an answer belongs.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub thread: u64,
    /// In the buffer.
    pub offset: u64,
    /// What was asked for.
    pub length: u64,
}

/// An answer that is not the right one.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    pub thread: u64,
    /// Which answer of the thread, counted from 1.
    pub answer: u64,
    pub iova: u64,
    /// The page of the buffer, counted from 0.
    pub page: u64,
    /// The run from that page on, by the page tables.
    pub run_bytes: u64,
    /// The `length` that was asked for.
    pub asked_bytes: u64,
    pub got_bytes: u64,
    pub expected_bytes: u64,
    /// Whether `out_phys` was the right one.
    pub phys_right: bool,
    /// Both addresses, only where the user asked to see them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phys: Option<PhysDifference>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct PhysDifference {
    pub got: u64,
    pub expected: u64,
}

/// What checking found, over all threads.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    pub checked: u64,
    pub differences: u64,
    pub first: Option<Difference>,
}

impl Oracle {
    pub fn new(frames: Frames, abi: Abi, start: Iova, addresses: Addresses) -> Self {
        Self { frames, abi, start, addresses }
    }

    /// The same truth, for answers that always obey the cap.
    #[must_use]
    pub fn capping(&self) -> Self {
        let (frames, start, addresses) = (self.frames.clone(), self.start, self.addresses);
        Self { frames, abi: Abi::Merged, start, addresses }
    }

    /// Judge the answer to a query.
    pub fn check(&self, place: Place, answer: Answer, verdict: &mut Verdict) {
        let Place { thread, offset, length } = place;
        verdict.checked += 1;
        let Some((phys, run)) = self.frames.run_at(offset) else {
            return;
        };
        let expected = self.abi.cap(length).map_or(run, |cap| run.min(cap));
        // Of a draft it is not known whether it caps: both are right.
        let capped = self.abi == Abi::Draft && length > 0 && answer.length == run.min(length);
        if answer.phys == phys && (answer.length == expected || capped) {
            return;
        }
        verdict.differences += 1;
        let shown = PhysDifference { got: answer.phys.0, expected: phys.0 };
        verdict.first.get_or_insert(Difference {
            thread,
            answer: verdict.checked,
            page: offset / self.frames.page().0,
            run_bytes: run,
            iova: self.start.0 + offset,
            asked_bytes: length,
            got_bytes: answer.length,
            expected_bytes: expected,
            phys_right: answer.phys == phys,
            phys: (self.addresses == Addresses::Show).then_some(shown),
        });
    }
}

impl Verdict {
    pub fn merge(&mut self, other: Self) {
        self.checked += other.checked;
        self.differences += other.differences;
        if self.first.is_none() {
            self.first = other.first;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::quantity::{PageSize, PhysAddr};
    use super::*;

    fn oracle(abi: Abi, addresses: Addresses) -> Oracle {
        let frames = Frames::new(vec![10, 11, 12, 30], PageSize(4096));
        Oracle::new(frames, abi, Iova(1 << 32), addresses)
    }

    fn judge(oracle: &Oracle, offset: u64, length: u64, pages: (u64, u64)) -> Verdict {
        let mut verdict = Verdict::default();
        let answer = Answer { phys: PhysAddr(pages.0 * 4096), length: pages.1 * 4096 };
        oracle.check(Place { thread: 0, offset, length }, answer, &mut verdict);
        verdict
    }

    #[test]
    fn the_merged_abi_caps_a_run() {
        let oracle = oracle(Abi::Merged, Addresses::Hide);
        assert_eq!(judge(&oracle, 0, 4096, (10, 1)).differences, 0);
        assert_eq!(judge(&oracle, 0, u64::MAX, (10, 3)).differences, 0);
        assert_eq!(judge(&oracle, 0, 4096, (10, 3)).differences, 1);
    }

    #[test]
    fn v5_ignores_the_cap() {
        let oracle = oracle(Abi::V5, Addresses::Hide);
        assert_eq!(judge(&oracle, 4096, 4096, (11, 2)).differences, 0);
        assert_eq!(judge(&oracle, 4096, 4096, (11, 1)).differences, 1);
    }

    #[test]
    fn an_undecided_draft_may_cap_or_not() {
        let oracle = oracle(Abi::Draft, Addresses::Hide);
        assert_eq!(judge(&oracle, 0, 4096, (10, 1)).differences, 0);
        assert_eq!(judge(&oracle, 0, 4096, (10, 3)).differences, 0);
        assert_eq!(judge(&oracle, 0, 4096, (10, 2)).differences, 1);
    }

    #[test]
    fn a_difference_hides_addresses_until_asked() {
        let hidden = judge(&oracle(Abi::Merged, Addresses::Hide), 0, 8192, (99, 2));
        let first = hidden.first.expect("a difference");
        assert!(!first.phys_right && first.phys.is_none());
        let text = serde_json::to_string(&first).expect("serialises");
        assert!(!text.contains("\"phys\""), "{text}");
        let shown = judge(&oracle(Abi::Merged, Addresses::Show), 0, 8192, (99, 2));
        let expected = PhysDifference { got: 99 * 4096, expected: 10 * 4096 };
        assert_eq!(shown.first.and_then(|first| first.phys), Some(expected));
    }

    #[test]
    fn verdicts_keep_the_first_difference() {
        let mut one = judge(&oracle(Abi::Merged, Addresses::Hide), 0, 4096, (10, 1));
        one.merge(judge(&oracle(Abi::Merged, Addresses::Hide), 4096, 4096, (12, 1)));
        assert_eq!((one.checked, one.differences), (2, 1));
        assert_eq!(
            one.first.as_ref().map(|first| (first.answer, first.page, first.run_bytes)),
            Some((1, 1, 8192))
        );
        assert_eq!(one.first.map(|first| first.iova), Some((1 << 32) + 4096));
    }
}
