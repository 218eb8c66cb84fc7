//! The canary's book: how many of its calls each site should have seen, and what it means that one did
//! not.

use std::collections::BTreeMap;

use probe_common::site::{SITES, SiteId};
use probe_model::canary::Canary as Counted;

use super::SourceError;

/// What one canary did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Calls of the dispatch.
    pub dispatch: u64,
    /// Calls that got as far as `get_phys`.
    pub get_phys: u64,
    /// It could not be sent, or was answered in another way than a canary is.
    pub failed: bool,
}

impl Sent {
    fn at(&self, site: SiteId) -> u64 {
        match site {
            SiteId::Dispatch => self.dispatch,
            SiteId::GetPhys => self.get_phys,
        }
    }
}

/// Who sends canaries: from the thread that takes samples, which the programs know.
pub trait Canary: Send {
    /// Send one.
    fn send(&mut self) -> Sent;

    /// Send `calls` of them as fast as possible; the time that one took, ns. `None` where it failed.
    fn time(&mut self, calls: u32) -> Option<u64>;
}

/// What a site says of canaries: how many it counted, and how often the kernel refused to show it a
/// call of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    pub(super) canaries: u64,
    pub(super) misses: u64,
}

/// What sites say, by name.
pub(super) type Sites = BTreeMap<&'static str, Seen>;

/// A canary and its book.
pub(super) struct Watch {
    canary: Box<dyn Canary>,
    /// Canary calls that each site should have counted by now.
    expected: BTreeMap<&'static str, u64>,
    /// Canary calls that the kernel says it did not show, by site.
    missed: BTreeMap<&'static str, u64>,
    counted: Counted,
    /// When the last one was sent, or counting began.
    last: u64,
    /// Whether that one found the probes dead.
    was_dead: bool,
}

impl Watch {
    /// From `now` on (`CLOCK_MONOTONIC`, ns), when the probes count.
    pub(super) fn new(canary: Box<dyn Canary>, now: u64) -> Self {
        let counted = Counted::default();
        Self {
            canary,
            expected: BTreeMap::new(),
            missed: BTreeMap::new(),
            counted,
            last: now,
            was_dead: false,
        }
    }

    /// Send one; `look` asks the sites, `now` is `CLOCK_MONOTONIC` in ns. A canary that a site did not
    /// count, while the kernel counts no miss there, went past dead probes: these died and came back
    /// somewhere between the ones before and after.
    pub(super) fn beat(
        &mut self,
        now: u64,
        look: impl Fn() -> Result<Sites, SourceError>,
    ) -> Result<(), SourceError> {
        let before = look()?;
        let sent = self.canary.send();
        let after = look()?;
        self.counted.sent += 1;
        self.counted.failed += u64::from(sent.failed);
        let mut is_dead = sent.failed;
        for site in &SITES {
            let [before, after] =
                [&before, &after].map(|sites| sites.get(site.name).copied().unwrap_or_default());
            let expected = self.expected.entry(site.name).or_default();
            let unseen = (*expected + sent.at(site.id)).saturating_sub(after.canaries);
            *expected = after.canaries;
            if unseen == 0 {
                continue;
            }
            if after.misses - before.misses >= unseen {
                *self.missed.entry(site.name).or_default() += unseen;
            } else {
                *self.counted.unseen.entry(site.name.to_owned()).or_default() += unseen;
                is_dead = true;
            }
        }
        if is_dead || self.was_dead {
            self.counted.dark += now.saturating_sub(self.last);
        }
        (self.last, self.was_dead) = (now, is_dead);
        Ok(())
    }

    /// Other programs count from now on, and have counted no canary yet.
    pub(super) fn change(&mut self) {
        self.expected.clear();
    }

    pub(super) fn counted(&self) -> &Counted {
        &self.counted
    }

    /// Canary calls among the kernel's misses of a site.
    pub(super) fn missed(&self, site: &str) -> u64 {
        self.missed.get(site).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Made;

    impl Canary for Made {
        fn send(&mut self) -> Sent {
            Sent { dispatch: 1, get_phys: 1, failed: false }
        }

        fn time(&mut self, _: u32) -> Option<u64> {
            None
        }
    }

    /// Beats of made-up probes: they see the first canary; of the others, what these looks say.
    fn beats(later: &[Seen]) -> Watch {
        let mut watch = Watch::new(Box::new(Made), 40);
        let first = Seen { canaries: 1, misses: 4 };
        let seen = [&[Seen::default(), first], later].concat();
        for (now, looks) in [100, 350, 600, 1000].into_iter().zip(seen.windows(2)) {
            let mut looks = looks.iter().copied();
            let looks = std::cell::RefCell::new(&mut looks);
            let look = || {
                let seen = looks.borrow_mut().next().unwrap();
                Ok(SITES.iter().map(|site| (site.name, seen)).collect())
            };
            watch.beat(now, look).unwrap();
        }
        watch
    }

    #[test]
    fn probes_that_see_every_canary_are_alive() {
        let watch = beats(&[Seen { canaries: 2, misses: 4 }]);
        let counted = watch.counted();
        assert_eq!((counted.sent, counted.dark, counted.unseen.len()), (2, 0, 0));
        assert_eq!(watch.missed("get_phys"), 0);
    }

    #[test]
    fn a_canary_that_the_kernel_says_it_did_not_show_is_no_sign_of_death() {
        let watch = beats(&[Seen { canaries: 1, misses: 5 }]);
        assert_eq!((watch.counted().dark, watch.counted().unseen.len()), (0, 0));
        assert_eq!(watch.missed("get_phys"), 1);
    }

    #[test]
    fn a_canary_that_nobody_saw_means_dead_probes_since_the_sample_before() {
        let watch = beats(&[Seen { canaries: 1, misses: 4 }]);
        assert_eq!((watch.counted().sent, watch.counted().dark), (2, 250));
        let unseen = [("dispatch".to_owned(), 1), ("get_phys".to_owned(), 1)];
        assert_eq!(watch.counted().unseen, unseen.into());
        assert_eq!(watch.missed("get_phys"), 0);
    }

    #[test]
    fn probes_were_dead_at_most_from_the_last_canary_seen_to_the_next_one() {
        let dead = Seen { canaries: 1, misses: 4 };
        let back = Seen { canaries: 2, misses: 4 };
        assert_eq!(beats(&[dead, back]).counted().dark, 500);
        let again = Seen { canaries: 3, misses: 4 };
        assert_eq!(beats(&[dead, back, again]).counted().dark, 500);
        assert_eq!(beats(&[dead, dead, back]).counted().dark, 900);
        // Dead from the first one on: they may never have lived.
        let mut watch = Watch::new(Box::new(Made), 40);
        watch.beat(100, || Ok(Sites::new())).unwrap();
        assert_eq!(watch.counted().dark, 60);
    }
}
