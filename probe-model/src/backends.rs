//! Which backend measured what, where one took over from another while counting.
//!
//! Each backend's fates obey the laws of [`crate::loss`] by themselves, so balances are taken of each and
//! added up; what is known of a site is never worked out from the sum of two backends' counters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::loss::{Balance, Flow};
use crate::sample::Counters;

/// Fates of calls by backend and site.
pub type ByBackend = BTreeMap<String, BTreeMap<String, Flow>>;

/// The backend that no thread can be in the way of: `auto` goes over to it.
pub const COMPLETE: &str = "kprobe-session";

/// One call in so many may be lost before `auto` goes over to the backend that would have it.
pub const BEARABLE: u64 = 10_000;

/// A change of the backend while counting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The backend that counted before.
    pub from: String,
    /// The one that counts calls that begin later.
    pub to: String,
    /// What the change itself did, by site name.
    pub slips: BTreeMap<String, Slip>,
}

/// Calls of a site that began in the instant in which one backend stopped counting and another began to.
/// Bounds, from the numbers of entries that either did not count: 0 where no call can be affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Slip {
    /// At most so many calls were counted by neither.
    pub missed: u64,
    /// At most so many calls were counted by both.
    pub twice: u64,
}

impl Change {
    /// At most so many calls are in no count, or in two.
    pub fn doubt(&self) -> u64 {
        self.slips.values().map(|slip| slip.missed.saturating_add(slip.twice)).fold(0, u64::saturating_add)
    }
}

impl Counters {
    /// What became of the calls of each site.
    pub fn balances(&self) -> BTreeMap<&str, Balance> {
        self.flow.iter().map(|(site, flow)| (site.as_str(), self.balance_of(site, flow))).collect()
    }

    fn balance_of(&self, site: &str, whole: &Flow) -> Balance {
        let parts = self.by_backend.values().filter_map(|sites| sites.get(site));
        parts.map(Flow::balance).reduce(Balance::and).unwrap_or_else(|| whole.balance())
    }

    /// The balance of each backend that counted anything at a site; none where one backend counted all.
    pub fn balances_by_backend<'a>(&'a self, site: &str) -> Vec<(&'a str, Balance)> {
        let of_site = |(backend, sites): (&'a String, &'a BTreeMap<String, Flow>)| {
            sites.get(site).map(|flow| (backend.as_str(), flow.balance()))
        };
        self.by_backend.iter().filter_map(of_site).collect()
    }

    /// Whether a site lost more calls than are bearable in ways that [`COMPLETE`] would not have, when `backend`
    /// counted: how many, of how many.
    pub fn unbearable(&self, backend: &str) -> Option<(u64, u64)> {
        let lost = |balance: Balance| {
            let avoidable =
                balance.lost.iter().filter(|(cause, _)| cause.measured_by(backend) == Some(COMPLETE));
            (avoidable.map(|(_, calls)| calls).sum::<u64>(), balance.calls)
        };
        let site = |sites: &BTreeMap<String, Flow>| {
            sites.values().map(Flow::balance).map(lost).max_by_key(|(lost, _)| *lost)
        };
        let worst = match self.by_backend.get(backend) {
            Some(sites) => site(sites),
            None => site(&self.flow),
        };
        worst.filter(|&(lost, calls)| lost.saturating_mul(BEARABLE) > calls)
    }
}

pub(crate) fn since(newer: &ByBackend, older: &ByBackend) -> ByBackend {
    let none = BTreeMap::new();
    let sites = |(backend, flows): (&String, &BTreeMap<String, Flow>)| {
        let mut flows = flows_since(flows, older.get(backend).unwrap_or(&none));
        flows.retain(|_, flow| *flow != Flow::default());
        (backend.clone(), flows)
    };
    newer.iter().map(sites).filter(|(_, flows)| !flows.is_empty()).collect()
}

pub(crate) fn append(ours: &mut ByBackend, next: &ByBackend) {
    for (backend, flows) in next {
        append_flows(ours.entry(backend.clone()).or_default(), flows);
    }
}

pub(crate) fn flows_since(
    newer: &BTreeMap<String, Flow>,
    older: &BTreeMap<String, Flow>,
) -> BTreeMap<String, Flow> {
    let flow = |(site, flow): (&String, &Flow)| {
        (site.clone(), flow.since(&older.get(site).copied().unwrap_or_default()))
    };
    newer.iter().map(flow).collect()
}

pub(crate) fn append_flows(ours: &mut BTreeMap<String, Flow>, next: &BTreeMap<String, Flow>) {
    for (site, flow) in next {
        ours.entry(site.clone()).or_default().append(flow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::Cause;

    const SITE: &str = "get_phys";

    fn counters(parts: &[(&str, Flow)]) -> Counters {
        let mut counters = Counters::default();
        for (backend, flow) in parts {
            counters.flow.entry(SITE.to_owned()).or_default().append(flow);
            let sites = counters.by_backend.entry((*backend).to_owned()).or_default();
            sites.insert(SITE.to_owned(), *flow);
        }
        counters
    }

    /// 1,000 calls, of which 7 returns met the program preempted, and an entry.
    const EARLIER: Flow =
        Flow { entered: 999, exited: 992, unmatched: 1, unseen: 1, session_missed: 8, ..NO_CALLS };
    /// 500 calls, one of which was not shown, and one of which is inside.
    const LATER: Flow = Flow { entered: 499, exited: 497, call_missed: 1, ..NO_CALLS };
    const NO_CALLS: Flow = Flow {
        entered: 0,
        exited: 0,
        unmatched: 0,
        unstored: 0,
        unreadable: 0,
        superseded: 0,
        backwards: 0,
        unread: 0,
        unseen: 0,
        canary: 0,
        canary_missed: 0,
        unarmed: 0,
        entry_missed: 0,
        return_missed: 0,
        return_recursion: 0,
        session_missed: 0,
        call_missed: 0,
    };

    #[test]
    fn balances_of_two_backends_add_up() {
        let both = counters(&[("fsession", EARLIER), (COMPLETE, LATER)]);
        let balance = &both.balances()[SITE];
        let [earlier, later] = [EARLIER, LATER].map(|flow| flow.balance());
        assert_eq!(balance.calls, earlier.calls + later.calls);
        assert_eq!((balance.measured, balance.in_flight, balance.unexplained), (1489, 1, 0));
        let lost = [(Cause::EntryMissed, 1), (Cause::ReturnRecursion, 7), (Cause::CallMissed, 1)];
        assert_eq!(balance.lost, lost);
        let alone = counters(&[("fsession", EARLIER)]);
        assert_eq!(alone.balances()[SITE], earlier);
    }

    #[test]
    fn windows_say_who_counted_in_them() {
        let before = counters(&[("fsession", EARLIER)]);
        let after = counters(&[("fsession", EARLIER), (COMPLETE, LATER)]);
        let window = after.since(&before);
        assert_eq!(window.by_backend.keys().collect::<Vec<_>>(), [COMPLETE]);
        assert_eq!(window.balances()[SITE], LATER.balance());
        let mut whole = before;
        whole.append(&window);
        assert_eq!(whole, after);
    }

    #[test]
    fn one_call_in_ten_thousand_is_bearable() {
        let lost =
            |lost: u64| Flow { entered: 30_000, exited: 30_000 - lost, session_missed: lost, ..NO_CALLS };
        assert_eq!(counters(&[("fsession", lost(3))]).unbearable("fsession"), None);
        assert_eq!(counters(&[("fsession", lost(4))]).unbearable("fsession"), Some((4, 30_000)));
        // No other backend would have these.
        let full = Flow { entered: 100, exited: 90, unstored: 10, ..NO_CALLS };
        assert_eq!(counters(&[("fsession", full)]).unbearable("fsession"), None);
        assert_eq!(counters(&[(COMPLETE, LATER)]).unbearable(COMPLETE), None);
    }
}
