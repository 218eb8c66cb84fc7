//! Company: others who work on the functions that we measure, and so inside our latencies.
//!
//! Another tool's program on the same function, a kprobe, a function tracer: what each does at the function's
//! entry and return is measured with it. Counts stay right. It is looked at from time to time, so who came
//! and went between two looks is not here.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{text, unit};

/// Who was found beside us. Additive, as counters are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Company {
    /// Samples that know of company, from a look at most a second before; 0: nothing is known.
    pub looks: u64,
    /// What looks could not see, in words, by the number of such samples.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unseen: BTreeMap<String, u64>,
    /// Who was there, in words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, Stay>,
}

/// When somebody was there, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stay {
    /// Samples that know of it.
    pub looks: u64,
    /// The first look that found it, ns by the monotonic clock.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Names of the sites.
    pub sites: BTreeSet<String>,
    /// How it is attached: `fentry`, `kprobe`, `function_graph` and so on.
    pub ways: BTreeSet<String>,
}

/// What is known of company.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It was not looked for.
    Nothing,
    /// Nobody was found, and everything could be seen.
    Alone,
    /// Nobody was found, but not everything could be seen.
    NotAll,
    /// Somebody was found.
    Others,
}

impl Company {
    /// What is known.
    #[must_use]
    pub fn known(&self) -> Known {
        if !self.others.is_empty() {
            Known::Others
        } else if self.looks == 0 {
            Known::Nothing
        } else if self.unseen.values().any(|&looks| looks > 0) {
            Known::NotAll
        } else {
            Known::Alone
        }
    }

    /// Nothing to keep: it was not looked for.
    #[must_use]
    pub fn is_unlooked(&self) -> bool {
        self.looks == 0
    }

    /// Note what a look at an instant (ns, monotonic) found.
    pub fn add(&mut self, at: u64, found: Look) {
        self.looks += 1;
        for what in found.unseen {
            *self.unseen.entry(what).or_default() += 1;
        }
        for (who, Found { sites, ways }) in found.others {
            let stay = self.others.entry(who).or_insert_with(|| Stay { first: at, ..Stay::default() });
            stay.looks += 1;
            stay.last = at;
            stay.sites.extend(sites);
            stay.ways.extend(ways);
        }
    }

    /// What was found since `older`, a state of the same company before.
    #[must_use]
    pub fn since(&self, older: &Self) -> Self {
        let unseen = self.unseen.iter().map(|(what, &looks)| {
            (what.clone(), looks.saturating_sub(older.unseen.get(what).copied().unwrap_or(0)))
        });
        let others = self.others.iter().filter_map(|(who, stay)| {
            let Some(before) = older.others.get(who) else { return Some((who.clone(), stay.clone())) };
            let looks = stay.looks.saturating_sub(before.looks);
            let first = if looks > 1 { before.last } else { stay.last };
            (looks > 0).then(|| (who.clone(), Stay { looks, first, ..stay.clone() }))
        });
        Self {
            looks: self.looks.saturating_sub(older.looks),
            unseen: unseen.filter(|&(_, looks)| looks > 0).collect(),
            others: others.collect(),
        }
    }

    /// Add what was found next.
    pub fn append(&mut self, next: &Self) {
        self.looks = self.looks.saturating_add(next.looks);
        for (what, &looks) in &next.unseen {
            let sum = self.unseen.entry(what.clone()).or_default();
            *sum = sum.saturating_add(looks);
        }
        for (who, stay) in &next.others {
            match self.others.get_mut(who) {
                Some(ours) => {
                    ours.looks = ours.looks.saturating_add(stay.looks);
                    ours.first = ours.first.min(stay.first);
                    ours.last = ours.last.max(stay.last);
                    ours.sites.extend(stay.sites.iter().cloned());
                    ours.ways.extend(stay.ways.iter().cloned());
                }
                None => drop(self.others.insert(who.clone(), stay.clone())),
            }
        }
    }

    /// The same with nothing in its words that no person should meet: they come from other processes, or from
    /// a file.
    #[must_use]
    pub fn visible(&self) -> Self {
        let words =
            |words: &BTreeSet<String>| words.iter().map(|word| text::visible(word.as_bytes())).collect();
        let stay = |stay: &Stay| Stay { sites: words(&stay.sites), ways: words(&stay.ways), ..*stay };
        Self {
            looks: self.looks,
            unseen: self
                .unseen
                .iter()
                .map(|(what, &looks)| (text::visible(what.as_bytes()), looks))
                .collect(),
            others: self.others.iter().map(|(who, at)| (text::visible(who.as_bytes()), stay(at))).collect(),
        }
    }

    /// For people, a line for each; `started` is when counting began, ns by the monotonic clock. Nothing where
    /// nobody was found and everything could be seen, and where it was not looked for.
    #[must_use]
    pub fn lines(&self, started: u64) -> Vec<String> {
        let others = self.others.iter().map(|(who, stay)| {
            let since = |at: u64| unit::nanos(at.saturating_sub(started));
            format!("{}, from {} to {}", describe(who, stay), since(stay.first), since(stay.last))
        });
        others.chain(self.blind_spots()).collect()
    }

    /// What could not be seen, for people.
    #[must_use]
    pub fn blind_spots(&self) -> Vec<String> {
        self.unseen.keys().map(|what| format!("not known: {what}")).collect()
    }

    /// The same without times: who there is now.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.others.iter().map(|(who, stay)| describe(who, stay)).collect()
    }
}

/// Why recordings with this company on the two sides of a comparison are not of one setting; `None` where they had
/// the same kinds of it, or it is not known of both.
#[must_use]
pub fn differ(a: &Company, b: &Company) -> Option<String> {
    // Whose the programs are does not matter, nor how many there are of a kind.
    let kinds = |company: &Company| -> BTreeSet<String> {
        company.visible().others.into_values().flat_map(|stay| stay.ways).collect()
    };
    let (of_a, of_b) = (kinds(a), kinds(b));
    if of_a == of_b || a.known() == Known::Nothing || b.known() == Known::Nothing {
        return None;
    }
    let words = |kinds: BTreeSet<String>| match kinds.into_iter().collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "none seen".to_owned(),
        words => words,
    };
    Some(format!(
        "company differs ({}; {}): what others do at these functions is inside the latencies of one side",
        words(of_a),
        words(of_b)
    ))
}

fn describe(who: &str, stay: &Stay) -> String {
    let listed = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    format!("{who}: {} on {}", listed(&stay.ways), listed(&stay.sites))
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// What it could not see.
    pub unseen: BTreeSet<String>,
    /// Who is there.
    pub others: BTreeMap<String, Found>,
}

/// Where and how somebody is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Names of the sites.
    pub sites: BTreeSet<String>,
    /// How it is attached.
    pub ways: BTreeSet<String>,
}

impl Look {
    /// Note somebody on a site.
    pub fn find(&mut self, who: String, way: &str, site: &str) {
        let found = self.others.entry(who).or_default();
        found.ways.insert(way.to_owned());
        found.sites.insert(site.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(who: &[&str]) -> Look {
        let mut look = Look::default();
        for who in who {
            look.find((*who).to_owned(), "fentry", "get_phys");
        }
        look
    }

    #[test]
    fn windows_add_up_to_when_somebody_was_there() {
        let mut company = Company::default();
        let mut whole = Company::default();
        assert_eq!(company.known(), Known::Nothing);
        for (at, who) in [(10, &[][..]), (20, &["a"]), (30, &["a", "b"]), (40, &["b"]), (50, &[])] {
            let before = company.clone();
            company.add(at, look(who));
            let window = company.since(&before);
            assert_eq!(window.others.len(), who.len());
            assert_eq!(window.known(), if who.is_empty() { Known::Alone } else { Known::Others });
            whole.append(&window);
        }
        assert_eq!(whole, company);
        assert_eq!(
            whole.lines(0),
            ["a: fentry on get_phys, from 20 ns to 30 ns", "b: fentry on get_phys, from 30 ns to 40 ns"]
        );
    }

    #[test]
    fn sides_with_other_company_are_not_of_one_setting() {
        let with = |who: &[&str]| {
            let mut company = Company::default();
            company.add(1, look(who));
            company
        };
        assert_eq!(differ(&with(&["a"]), &with(&["b"])), None, "the same way");
        assert_eq!(differ(&with(&[]), &with(&[])), None);
        assert_eq!(differ(&Company::default(), &with(&["a"])), None, "one was not looked at");
        let said = differ(&with(&[]), &with(&["a"])).unwrap();
        assert!(said.starts_with("company differs (none seen; fentry)"), "{said}");
    }

    #[test]
    fn what_could_not_be_seen_is_not_taken_for_nobody() {
        let mut company = Company::default();
        company.add(1, Look { unseen: ["kprobes".to_owned()].into(), ..Look::default() });
        assert_eq!(
            (company.known(), company.lines(0)),
            (Known::NotAll, vec!["not known: kprobes".to_owned()])
        );
    }
}
