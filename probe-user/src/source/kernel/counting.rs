//! Programs of one backend: attached, armed, read, and taken off again.
//!
//! Knows no canary and no other backend.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use probe_common::site::{Backend, SITES, Site, SiteId};
use probe_common::wire::CALLS_MAP;
use probe_model::call::{Call, Taken};
use probe_model::cost::ProgramCost;
use probe_model::loss::Flow;
use probe_model::sample::Sample;

use super::backend::Probes;
use super::calls::Ring;
use super::load::{self, Programs};
use super::misses::{self, Misses};
use super::read::{Missed, Reader};
use super::totals::Depth;
use super::tracepoint::LockProbes;
use super::{Config, Final, Logs, SourceError};

/// Programs of a backend on both sites, and what they count.
pub(super) struct Counting {
    backend: Backend,
    programs: Programs,
    probes: Probes,
    locks: Option<LockProbes>,
    ring: Option<Ring>,
    pub(super) reader: Reader,
    /// The kernel's miss counters when counting began, and whether they moved while it began.
    baseline: Vec<Misses>,
    start_doubt: u64,
}

impl Counting {
    /// Load and attach; nothing is counted yet.
    pub(super) fn attach(config: &Config) -> Result<Self, SourceError> {
        let mut programs = load::load(config)?;
        let reader = Reader::new(&programs, config)?;
        // Before the sites: a call must not find its waits unwatched.
        let locks = if config.locks { Some(LockProbes::attach(&programs)?) } else { None };
        let probes = Probes::attach(&mut programs, config, &mut || {})?;
        let ring = match config.calls {
            Some(calls) => {
                Some(Ring::new(programs.take_ring(CALLS_MAP)?, config.length_is_cap, calls.include_iova))
            }
            None => None,
        };
        let baseline = vec![Misses::default(); SITES.len()];
        Ok(Self { backend: config.backend, programs, probes, locks, ring, reader, baseline, start_doubt: 0 })
    }

    /// Count calls that begin from now on.
    pub(super) fn arm(&mut self) -> Result<(), SourceError> {
        self.note_baseline()?;
        self.reader.arm(true);
        self.note_start()
    }

    /// Before arming.
    pub(super) fn note_baseline(&mut self) -> Result<(), SourceError> {
        match self.backend {
            // Its programs see from the first call on which entries they missed.
            Backend::Fsession => {}
            Backend::Fentry | Backend::KprobeSession | Backend::Kprobe => {
                self.baseline = self.probes.misses()?;
            }
        }
        Ok(())
    }

    /// After arming.
    pub(super) fn note_start(&mut self) -> Result<(), SourceError> {
        self.start_doubt = distance(&self.baseline, &self.probes.misses()?);
        Ok(())
    }

    pub(super) fn backend(&self) -> Backend {
        self.backend
    }

    pub(super) fn cpus(&self) -> u32 {
        self.reader.cpus()
    }

    pub(super) fn start_doubt(&self) -> u64 {
        self.start_doubt
    }

    pub(super) fn logs(&mut self) -> Result<Option<Logs>, SourceError> {
        self.programs.logs()
    }

    pub(super) fn misses(&self) -> Result<Vec<Misses>, SourceError> {
        self.probes.misses()
    }

    /// Canary calls that a site has counted.
    pub(super) fn canaries(&self, site: SiteId) -> u64 {
        self.reader.canaries(site)
    }

    /// Single calls since the last time; none where they were not asked for.
    pub(super) fn calls(&mut self) -> Vec<Call> {
        self.ring.as_mut().map(Ring::drain).unwrap_or_default()
    }

    /// Read every counter, the programs' run times where the kernel's statistics are on.
    pub(super) fn read(&mut self, depth: Depth, run_times: bool) -> Result<Sample, SourceError> {
        let misses = self.probes.misses()?;
        let mut sample = self.read_with(&misses, depth)?;
        sample.counters.programs = self.run_times(run_times)?;
        Ok(sample)
    }

    /// Read every counter of our own, with these of the kernel's.
    pub(super) fn read_with(&mut self, misses: &[Misses], depth: Depth) -> Result<Sample, SourceError> {
        let locks = self.locks.as_ref().map_or(Ok(0), LockProbes::misses)?;
        let kernel = Missed { now: misses, baseline: &self.baseline, locks };
        let mut sample = self.reader.sample(&kernel, depth);
        if let Some(ring) = &self.ring {
            sample.counters.taken = Taken { kept: ring.kept, dropped: self.reader.dropped() };
        }
        Ok(sample)
    }

    pub(super) fn run_times(&self, are_on: bool) -> Result<BTreeMap<String, ProgramCost>, SourceError> {
        if !are_on {
            return Ok(BTreeMap::new());
        }
        let cost = |(name, time): (&str, misses::RunTime)| {
            (name.to_owned(), ProgramCost { runs: time.runs, nanos: time.nanos })
        };
        Ok(self.probes.run_times()?.into_iter().map(cost).collect())
    }

    /// Take the probes off; the last misses that can be known.
    pub(super) fn detach(&mut self, last: Vec<Misses>) -> Result<Vec<Misses>, SourceError> {
        self.probes.detach(last)
    }

    /// Stop counting new calls, give open ones up to `grace` to return, read everything, detach. The heartbeat is
    /// the caller's.
    pub(super) fn finish(
        &mut self,
        grace: Duration,
        statistics: Option<OwnedFd>,
    ) -> Result<Final, SourceError> {
        let before = self.probes.misses()?;
        self.reader.arm(false);
        let ended = self.probes.misses()?;
        self.reader.drain(grace);
        // While the kernel takes a session's program off, it runs it at returns alone for a while: calls
        // look then as if their entry had been missed. So both counts that tell are read before; a call is
        // missed before it is unseen, so the misses last.
        let settled = self.reader.flows(&Missed::default());
        let misses = self.probes.misses()?;
        let run_times = self.run_times(statistics.is_some())?;
        drop(statistics);
        let mut now = self.probes.detach(misses.clone())?;
        for (now, settled) in now.iter_mut().zip(misses) {
            now.either = settled.either;
        }
        let counted = self.reader.sample(&Missed::default(), Depth::Changed).counters.flow;
        let due = |site: &Site| counted.get(site.name).map_or(0, Flow::due);
        let last: Vec<Misses> = SITES
            .iter()
            .zip(ended.iter().zip(now))
            .map(|(site, (ended, now))| ended.closed_by(now, due(site)))
            .collect();
        let doubt = self.start_doubt + distance(&before, &last);
        let calls = self.calls();
        let mut sample = self.read_with(&last, Depth::Whole)?;
        for (site, flow) in &mut sample.counters.flow {
            flow.unseen = settled.get(site).map_or(flow.unseen, |settled| settled.unseen);
        }
        sample.counters.programs = run_times;
        let tables = match self.backend {
            Backend::Fsession => &SITES[..0],
            // Its cookie holds all that is kept of a dispatch.
            Backend::KprobeSession => &SITES[SiteId::GetPhys as usize..],
            Backend::Fentry | Backend::Kprobe => &SITES[..],
        };
        let open_calls = tables
            .iter()
            .map(|site| Ok((site, self.programs.open_calls(site)?)))
            .collect::<Result<_, SourceError>>()?;
        Ok(Final { sample, calls, open_calls, doubt })
    }
}

/// Misses of all sites between two readings.
pub(super) fn distance(older: &[Misses], newer: &[Misses]) -> u64 {
    older.iter().zip(newer).map(|(older, newer)| newer.distance(older)).sum()
}
