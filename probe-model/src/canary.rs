//! The canary: calls of the recorder's own that prove the probes alive.
//!
//! Once an interval the recorder issues one GET_PA for an IOVA that nothing is mapped at: it passes
//! both sites and fails inside `iopt_get_phys` with ENOENT. The programs know it by its process and
//! count it apart, in no distribution. A canary that went in and was not counted means that the probes
//! see nothing: what looks like an idle machine is then a gap.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Canaries, cumulative. Additive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Canary {
    /// Canaries sent.
    pub sent: u64,
    /// Canaries that could not be sent: the device node could not be opened (the module is gone) or
    /// answered something else.
    pub failed: u64,
    /// Canaries that a site's probes did not see, by site name; only sites that missed one.
    pub unseen: BTreeMap<String, u64>,
    /// Time over which probes may have been dead, ns: from the last canary that was seen before each that was
    /// not to the first one after it. An upper bound: calls may have been counted in it.
    pub dark: u64,
}

/// What is known of the probes over a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// No canary was sent in it: nothing is known.
    Unknown,
    /// Every canary was seen at every site.
    Alive,
    /// Probes were dead for a time, or the module was gone: a count of 0 means nothing.
    Dark,
}

impl Canary {
    /// What these canaries say.
    pub fn pulse(&self) -> Pulse {
        if self.dark > 0 || self.is_dead() {
            Pulse::Dark
        } else if self.sent > 0 {
            Pulse::Alive
        } else {
            Pulse::Unknown
        }
    }

    /// Whether a canary went past the probes, or could not be sent.
    pub fn is_dead(&self) -> bool {
        self.failed > 0 || self.unseen.values().any(|&count| count > 0)
    }

    /// What happened since `older`.
    #[must_use]
    pub fn since(&self, older: &Self) -> Self {
        let unseen = self.unseen.iter().map(|(site, &count)| {
            (site.clone(), count.wrapping_sub(older.unseen.get(site).copied().unwrap_or(0)))
        });
        Self {
            sent: self.sent.wrapping_sub(older.sent),
            failed: self.failed.wrapping_sub(older.failed),
            unseen: unseen.filter(|&(_, count)| count > 0).collect(),
            dark: self.dark.wrapping_sub(older.dark),
        }
    }

    /// Add what happened next.
    pub fn append(&mut self, next: &Self) {
        self.sent = self.sent.wrapping_add(next.sent);
        self.failed = self.failed.wrapping_add(next.failed);
        self.dark = self.dark.wrapping_add(next.dark);
        for (site, &count) in &next.unseen {
            *self.unseen.entry(site.clone()).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_that_was_not_seen_is_never_health() {
        assert_eq!(Canary::default().pulse(), Pulse::Unknown);
        let alive = Canary { sent: 3, ..Canary::default() };
        assert_eq!(alive.pulse(), Pulse::Alive);
        let unseen = Canary { sent: 4, unseen: [("get_phys".to_owned(), 1)].into(), ..Canary::default() };
        assert_eq!(unseen.since(&alive).pulse(), Pulse::Dark);
        let mut sum = alive.clone();
        sum.append(&unseen.since(&alive));
        assert_eq!(sum, unseen);
        assert_eq!(Canary { failed: 1, ..alive }.pulse(), Pulse::Dark);
    }
}
