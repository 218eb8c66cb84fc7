//! One backend takes over from another while calls go on.
//!
//! The later one's programs are attached first, and count nothing. Then, CPU by CPU, the earlier one is told to
//! count no new calls and the later one to begin, by two stores. A call is counted by whoever was armed at its
//! entry and returns there; the earlier one's programs stay until its open calls are back.
//!
//! At an entry the later one (a kprobe session: the function graph tracer's hook) asks before the earlier one (a
//! trampoline, to which the kernel goes on from there: `call_direct_funcs`, kernel/trace/ftrace.c, Linux 7.3), and no
//! word can be changed between the two answers of all calls at once. So a call that is between them in that instant
//! is counted by neither. How many these were is counted: entries that either was asked about and did not count.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::time::{Duration, Instant as Clock};

use probe_common::site::{Backend, SITES, Site};
use probe_common::wire::Flow as Fates;
use probe_model::backends::Slip;
use probe_model::call::Call;
use probe_model::loss::Flow;
use probe_model::sample::{Counters, Instant, Sample};
use probe_model::succession::Succession;

use super::counting::{Counting, distance};
use super::misses::Misses;
use super::read::Missed;
use super::totals::Depth;
use super::{Config, KernelSource, SourceError};
use crate::source::clock;

/// How long the earlier backend's open calls may take to come back. Both are attached meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at both counts of entries after the change. One that finds a call between the two answers says one too few,
/// so the largest is the truth as soon as one finds none.
const LOOKS: u32 = 256;

/// What a change of backends was.
#[derive(Debug, Clone)]
pub struct Changed {
    /// Everything until then.
    pub sample: Sample,
    pub from: Backend,
    pub to: Backend,
    /// By site name.
    pub slips: BTreeMap<String, Slip>,
}

/// The backend that counted before: a part of all later samples.
pub(super) struct Earlier {
    backend: Backend,
    /// Its programs, until its open calls are back.
    open: Option<Open>,
    counters: Counters,
    calls: Vec<Call>,
    doubt: u64,
    succession: Succession,
}

/// Programs that count the returns of calls that they counted at their entry, and no new ones.
struct Open {
    counting: Counting,
    until: Clock,
    last: Last,
    /// Canaries among the kernel's misses, by site.
    canary_missed: BTreeMap<String, u64>,
    run_times: bool,
}

/// What was known when the earlier backend counted no new calls any more. What is missed or comes back unmatched
/// after that hits calls that are not its own.
struct Last {
    backend: Backend,
    misses: Vec<Misses>,
    /// Of its one program's misses, those that were not seen to be at entries, by site.
    others: Vec<u64>,
    flows: BTreeMap<String, Flow>,
}

impl KernelSource {
    /// Let another backend count the calls that begin from now on. Where that cannot be attached, everything stays as
    /// it is, and the inner error says why.
    pub fn change(&mut self, config: &Config) -> Result<Result<Changed, SourceError>, SourceError> {
        let attached = Counting::attach(config).and_then(|mut later| later.note_baseline().map(|()| later));
        let mut later = match attached {
            Ok(later) => later,
            Err(error) => return Ok(Err(error)),
        };
        let HandOver { at, slips, last, doubt } = hand_over(&self.counting, &later)?;
        later.note_start()?;
        let (from, to) = (self.backend(), later.backend());
        let mut counting = std::mem::replace(&mut self.counting, later);
        let mut canary_missed = BTreeMap::new();
        if let Some(watch) = &mut self.watch {
            watch.change();
            canary_missed =
                SITES.iter().map(|site| (site.name.to_owned(), watch.missed(site.name))).collect();
        }
        let (calls, doubt) = (counting.calls(), counting.start_doubt() + doubt);
        let run_times = self.statistics.is_some();
        let mut earlier = Earlier {
            backend: from,
            open: Some(Open { counting, until: Clock::now() + PATIENCE, last, canary_missed, run_times }),
            counters: Counters::default(),
            calls,
            doubt,
            succession: Succession::default(),
        };
        earlier.advance(false)?;
        let mut counters = earlier.counters.clone();
        if let Some(watch) = &self.watch {
            counters.canary = watch.counted().clone();
        }
        counters.by_backend.insert(from.name().to_owned(), counters.flow.clone());
        (self.by_backend, self.earlier) = (true, Some(earlier));
        Ok(Ok(Changed { sample: Sample { at, counters }, from, to, slips }))
    }
}

/// What became of a change.
struct HandOver {
    at: Instant,
    slips: BTreeMap<String, Slip>,
    last: Last,
    /// Misses that fell into it.
    doubt: u64,
}

fn hand_over(earlier: &Counting, later: &Counting) -> Result<HandOver, SourceError> {
    let cpus = earlier.reader.elements();
    let uncounted = |site: &Site| -> i128 {
        let count = |cpu| {
            // In this order: a call that begins meanwhile makes the difference smaller.
            let old = earlier.reader.fate(cpu, site.id, offset_of!(Fates, unarmed));
            i128::from(old) - i128::from(later.reader.fate(cpu, site.id, offset_of!(Fates, entered)))
        };
        (0..cpus).map(count).sum()
    };
    let still = SITES.map(|site| uncounted(&site));
    // A call is missed before it is unseen, so the misses last.
    let unseen = earlier.reader.flows(&Missed::default());
    let before = earlier.misses()?;
    let at = clock::now();
    for cpu in 0..cpus {
        earlier.reader.arm_one(cpu, false);
        later.reader.arm_one(cpu, true);
    }
    let flows = earlier.reader.flows(&Missed::default());
    let after = earlier.misses()?;
    let mut most = [i128::MIN; SITES.len()];
    for _ in 0..LOOKS {
        for (site, most) in SITES.iter().zip(&mut most) {
            *most = (*most).max(uncounted(site) - still[site.id as usize]);
        }
    }
    // An entry that the earlier one was not even asked about is missing from its count.
    let hidden = earlier.misses()?;
    let slip = |(site, most): (&Site, i128)| {
        let place = site.id as usize;
        let hidden = i128::from(hidden[place].distance(&before[place]));
        let count = |calls: i128| u64::try_from(calls.max(0)).unwrap_or(u64::MAX);
        (site.name.to_owned(), Slip { missed: count(most + hidden), twice: count(-most) })
    };
    let slips = SITES.iter().zip(most).map(slip).collect();
    let of = |flows: &BTreeMap<String, Flow>, site: &Site| flows.get(site.name).map_or(0, |flow| flow.unseen);
    let others: Vec<u64> = SITES
        .iter()
        .zip(&before)
        .map(|(site, before)| before.either.saturating_sub(of(&unseen, site)))
        .collect();
    let misses = SITES.iter().zip(&before).map(|(site, before)| Misses {
        entry: after[site.id as usize].entry,
        either: of(&flows, site) + others[site.id as usize],
        ..*before
    });
    let last = Last { backend: earlier.backend(), misses: misses.collect(), others: others.clone(), flows };
    Ok(HandOver { at, slips, last, doubt: distance(&before, &after) })
}

impl Earlier {
    pub(super) fn backend(&self) -> Backend {
        self.backend
    }

    pub(super) fn doubt(&self) -> u64 {
        self.doubt
    }

    /// Its calls of a site.
    pub(super) fn flow(&self, site: &str) -> Flow {
        self.counters.flow.get(site).copied().unwrap_or_default()
    }

    pub(super) fn flows(&self) -> BTreeMap<String, Flow> {
        self.counters.flow.clone()
    }

    /// Calls of a site that it has counted and that did not come back.
    pub(super) fn open(&self, site: &Site) -> u64 {
        u64::try_from(self.flow(site.name).open()).unwrap_or(0)
    }

    /// Single calls since the last time.
    pub(super) fn calls(&mut self) -> Vec<Call> {
        let mut calls = std::mem::take(&mut self.calls);
        calls.extend(self.open.as_mut().map(|open| open.counting.calls()).unwrap_or_default());
        calls
    }

    /// A sample of the later backend with what this one has counted; it goes when its calls are back.
    pub(super) fn with(&mut self, later: Sample) -> Result<Sample, SourceError> {
        self.advance(false)?;
        if let Some(open) = &self.open
            && (self.is_back() || Clock::now() >= open.until)
        {
            self.advance(true)?;
        }
        let Sample { at, counters } = later;
        Ok(Sample { at, counters: self.succession.union(&self.counters, &counters) })
    }

    /// Wait for its open calls, at most `grace`, and take it off.
    pub(super) fn end(&mut self, grace: Duration) -> Result<(), SourceError> {
        let until = Clock::now() + grace;
        while self.open.is_some() {
            self.advance(false)?;
            let is_over = self.is_back() || Clock::now() >= until;
            if is_over {
                self.advance(true)?;
            } else {
                std::thread::sleep(Duration::from_millis(5).min(grace));
            }
        }
        Ok(())
    }

    fn is_back(&self) -> bool {
        self.counters.flow.values().all(|flow| flow.balance().in_flight == 0)
    }

    /// Read on; at the last time all of it, and the probes go.
    fn advance(&mut self, last: bool) -> Result<(), SourceError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let programs = open.counting.run_times(open.run_times)?;
        let (misses, inside) = if last {
            open.counting.detach(open.last.misses.clone())?;
            let counted = open.counting.reader.flows_with_exits();
            open.last.closed(&counted)
        } else {
            (open.last.misses.clone(), BTreeMap::new())
        };
        let depth = if last { Depth::Whole } else { Depth::Changed };
        let mut counters = open.counting.read_with(&misses, depth)?.counters;
        counters.programs = programs;
        for (site, flow) in &mut counters.flow {
            flow.canary_missed = open.canary_missed.get(site).copied().unwrap_or(0);
            let known = open.last.flows.get(site).copied().unwrap_or_default();
            flow.unmatched = known.unmatched;
            flow.unseen = known.unseen + inside.get(site).copied().unwrap_or(0) % 2;
        }
        if let (Some(now), Some(known)) = (&mut counters.locks, &self.counters.locks) {
            // What commands wait for is the later one's to count.
            now.commands.clone_from(&known.commands);
        }
        self.counters = counters;
        self.doubt += inside.values().map(|beyond| beyond / 2).sum::<u64>();
        if last && let Some(mut open) = self.open.take() {
            self.calls.extend(open.counting.calls());
        }
        Ok(())
    }
}

impl Last {
    /// The misses when all that can come back has, and how many are explained by no counted call, by site.
    /// Calls that were counted and did not come back met a program that was running. Misses beyond are of calls
    /// missed at both ends, two each, or at the entry of a call that was inside: the fewest calls are taken that
    /// explain them, which may be too few by half of them.
    fn closed(&self, counted: &BTreeMap<String, Flow>) -> (Vec<Misses>, BTreeMap<String, u64>) {
        let mut beyond = BTreeMap::new();
        let mut all = Vec::new();
        for (site, misses) in SITES.iter().zip(&self.misses) {
            let due = counted.get(site.name).map_or(0, Flow::due);
            let others = self.others.get(site.id as usize).copied().unwrap_or(0);
            beyond.insert(site.name.to_owned(), others.saturating_sub(due));
            all.push(if self.backend == Backend::Fsession {
                Misses { either: misses.either + due.saturating_sub(others), ..*misses }
            } else {
                Misses { exit_recursion: misses.exit_recursion.max(due), ..*misses }
            });
        }
        (all, beyond)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = SITES[1].name;

    fn last(unseen: u64, others: u64) -> Last {
        let misses = vec![Misses { either: unseen + others, ..Misses::default() }; SITES.len()];
        let flow = Flow { unseen, unmatched: unseen, ..Flow::default() };
        let flows = SITES.iter().map(|site| (site.name.to_owned(), flow)).collect();
        Last { backend: Backend::Fsession, misses, others: vec![others; SITES.len()], flows }
    }

    /// The balance of made-up counters after the last call came back.
    fn balance(last: &Last, entered: u64, exited: u64) -> probe_model::loss::Balance {
        let counted = Flow { entered, exited, ..last.flows[SITE] };
        let (misses, beyond) = last.closed(&[(SITE.to_owned(), counted)].into());
        let unseen = counted.unseen + beyond[SITE] % 2;
        Flow { unseen, session_missed: misses[1].either, ..counted }.balance()
    }

    #[test]
    fn what_does_not_come_back_was_missed() {
        // 4 entries missed, 6 returns; one more return is lost while open calls come back.
        let balance = balance(&last(4, 6), 1000, 993);
        assert_eq!((balance.calls, balance.measured, balance.in_flight), (1004, 993, 0));
        assert_eq!((balance.lost_calls(), balance.unexplained), (11, 0));
    }

    #[test]
    fn a_call_that_was_missed_at_its_entry_and_inside_is_a_call() {
        let balance = balance(&last(4, 7), 1000, 994);
        assert_eq!((balance.calls, balance.measured, balance.in_flight), (1005, 994, 0));
        assert_eq!((balance.lost_calls(), balance.unexplained), (11, 0));
    }

    #[test]
    fn nothing_missed_is_nothing_lost() {
        let balance = balance(&last(0, 0), 1000, 1000);
        assert!(balance.is_complete(), "{balance:?}");
        assert_eq!(balance.calls, 1000);
    }
}
