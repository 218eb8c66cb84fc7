//! The canary's book: how many of its calls each site should have seen, and what it means that one did
//! not.

use std::collections::BTreeMap;

use probe_common::site::{SITES, SiteId};
use probe_model::canary::Canary as Counted;
use probe_model::loss::Flow;

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

/// Canaries in a row that a site must miss before its probes are said to be dead: one or two may have
/// met a program that was preempted, which is a loss with a name of its own.
const TRIES: u32 = 3;

/// A canary and its book.
pub(super) struct Watch {
    canary: Box<dyn Canary>,
    /// Canary calls that each site should have counted by now.
    expected: BTreeMap<&'static str, u64>,
    counted: Counted,
    last: Option<u64>,
}

impl Watch {
    pub(super) fn new(canary: Box<dyn Canary>) -> Self {
        Self { canary, expected: BTreeMap::new(), counted: Counted::default(), last: None }
    }

    /// Send canaries until every site has seen one; `flows` reads what sites have counted, `now` is
    /// `CLOCK_MONOTONIC` in ns.
    pub(super) fn beat(&mut self, now: u64, flows: impl Fn() -> BTreeMap<String, Flow>) -> &Counted {
        let mut unseen: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut failed = false;
        for attempt in 0..TRIES {
            let sent = self.canary.send();
            self.counted.sent += 1;
            failed = sent.failed;
            let flows = flows();
            for site in &SITES {
                let expected = self.expected.entry(site.name).or_default();
                *expected += sent.at(site.id);
                let seen = flows.get(site.name).map_or(0, |flow| flow.canary);
                let missing = expected.saturating_sub(seen);
                // What is missing now is settled: as dead probes below, or as a loss of the site.
                *expected = seen;
                match missing {
                    0 => drop(unseen.remove(site.name)),
                    _ if attempt == 0 => drop(unseen.insert(site.name, missing)),
                    _ => {
                        if let Some(all) = unseen.get_mut(site.name) {
                            *all += missing;
                        }
                    }
                }
            }
            if unseen.is_empty() && !failed {
                break;
            }
        }
        if failed {
            self.counted.failed += 1;
        }
        let is_dark = failed || !unseen.is_empty();
        for (site, count) in unseen {
            *self.counted.unseen.entry(site.to_owned()).or_default() += count;
        }
        if let (true, Some(last)) = (is_dark, self.last) {
            self.counted.dark += now.saturating_sub(last);
        }
        self.last = Some(now);
        &self.counted
    }

    pub(super) fn counted(&self) -> &Counted {
        &self.counted
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Made-up probes that see every canary but the first so many of each beat.
    struct Made {
        seen: Arc<AtomicU64>,
        blind: u64,
    }

    impl Canary for Made {
        fn send(&mut self) -> Sent {
            if self.blind > 0 {
                self.blind -= 1;
            } else {
                self.seen.fetch_add(1, Ordering::Relaxed);
            }
            Sent { dispatch: 1, get_phys: 1, failed: false }
        }

        fn time(&mut self, _: u32) -> Option<u64> {
            None
        }
    }

    fn beat(blind: u64) -> Counted {
        let seen = Arc::new(AtomicU64::new(0));
        let mut watch = Watch::new(Box::new(Made { seen: Arc::clone(&seen), blind: 0 }));
        let flows = || {
            let flow = Flow { canary: seen.load(Ordering::Relaxed), ..Flow::default() };
            SITES.iter().map(|site| (site.name.to_owned(), flow)).collect()
        };
        watch.beat(100, flows);
        watch.canary = Box::new(Made { seen: Arc::clone(&seen), blind });
        watch.beat(350, flows).clone()
    }

    #[test]
    fn probes_that_see_every_canary_are_alive() {
        let counted = beat(0);
        assert_eq!((counted.sent, counted.dark, counted.unseen.len()), (2, 0, 0));
    }

    #[test]
    fn one_canary_missed_is_a_loss_and_not_death() {
        let counted = beat(1);
        assert_eq!((counted.sent, counted.dark, counted.unseen.len()), (3, 0, 0));
    }

    #[test]
    fn probes_that_see_none_are_dead_since_the_sample_before() {
        let counted = beat(9);
        assert_eq!((counted.sent, counted.dark), (4, 250));
        assert_eq!(counted.unseen, [("dispatch".to_owned(), 3), ("get_phys".to_owned(), 3)].into());
    }
}
