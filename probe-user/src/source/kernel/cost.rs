//! What our probes add to a call on this machine: measured before counting, with calls of the recorder's own and
//! programs of its own.
//!
//! No call of known length inside iommufd is needed. A site's programs measure any function they are put on; put on
//! one that does next to nothing, what they measure is what they put into every latency themselves. From there:
//!
//! ```text
//! own      = latency of the reference by the dispatch's programs - the reference's own time
//! dispatch = latency by its programs alone - own                    what the function takes without probes
//! scan     = latency by the dispatch's programs on get_phys - own   the same
//! inside   = latency with all programs - what the function takes
//! outside  = time that a caller sees with all programs - without - inside
//! ```
//!
//! Outcomes are rehearsed (`probe-ebpf/src/rehearsal.rs`): a recorder without a device can make no GET_PA succeed.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::time::Instant;

use probe_common::site::{SITES, SiteId};
use probe_common::wire::armed_for;
use probe_model::share::{Amount, ByOutcome, Part, Share, Statistics};
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::backend::stage::{Spot, Stage};
use super::object::Purpose;
use super::read::Reader;
use super::{Canary, Config, SourceError, load, statistics};

/// Calls per average: few enough to be left alone by the timer mostly.
const CALLS: u32 = 32;
/// Averages taken of each kind.
const ROUNDS: u32 = 24;
/// Averages without foreign calls in them that are needed.
const ENOUGH: usize = 8;
/// Result of a canary.
const ENOENT: i32 = -2;

/// Why nothing is known of what the probes add.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    #[error("a call of our own was not answered as it should be")]
    Canary,
    #[error("too many calls of others came between our own")]
    Company,
    #[error("the kernel does not call its functions for tests of BPF programs")]
    Reference(#[source] std::io::Error),
    #[error("cannot stay on one CPU")]
    Cpu(#[source] Errno),
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Averages of one kind, ns: the smallest, and how far the better half of them is apart.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    nanos: f64,
    noise: f64,
}

/// What a caller saw and what programs measured.
#[derive(Debug, Default)]
struct Means {
    caller: Mean,
    sites: [Mean; SITES.len()],
}

/// What was found before both sites have their programs.
struct Known {
    /// A call without probes, as its caller sees it.
    bare: Mean,
    /// With the dispatch's programs alone.
    alone: Means,
    /// What those put into every latency themselves.
    own: Mean,
    /// The scan without probes.
    scan: Mean,
}

/// Find out what probes like those of `config` add to a call.
pub(super) fn calibrate(config: &Config, canary: &mut dyn Canary) -> Result<Share, CalibrationError> {
    let began = Instant::now();
    let sent = canary.send();
    if sent.failed {
        return Err(CalibrationError::Canary);
    }
    let _here = Here::stay().map_err(CalibrationError::Cpu)?;
    let mut programs = load::load_for(Purpose::Rehearsal, config)?;
    let reader = Reader::new(&programs, config)?;
    let mut stage = Stage::new(&mut programs, config)?;
    let on = if config.run_times { Some(statistics()?) } else { None };
    let bench = Bench { reader: &reader, cpu: sched_getcpu() };
    let bare = bare(canary)?;

    let reference = stage.reference()?;
    let held = stage.put(SiteId::Dispatch, Spot::Reference)?;
    let seen =
        bench.run(ENOENT, &mut || reference.call(CALLS).map(|()| 0).map_err(CalibrationError::Reference))?;
    drop(held);
    let own = seen.sites[0].less(reference_time());

    let mut calls = || canary.time(CALLS).ok_or(CalibrationError::Canary);
    let mut scan = None;
    if sent.get_phys > 0 {
        let held = stage.put(SiteId::Dispatch, Spot::Site(SiteId::GetPhys))?;
        let seen = bench.run(ENOENT, &mut calls)?;
        drop(held);
        scan = Some(seen.sites[0].less(own));
    }
    let dispatch = stage.put(SiteId::Dispatch, Spot::Site(SiteId::Dispatch))?;
    let alone = bench.run(ENOENT, &mut calls)?;
    let mut share = Share {
        backend: config.backend.name().to_owned(),
        calls: CALLS,
        rounds: ROUNDS,
        bare: bare.amount(),
        other: Part::of(own, alone.caller.less(bare).less(own)),
        ..Share::default()
    };
    if let Some(scan) = scan {
        let get_phys = stage.put(SiteId::GetPhys, Spot::Site(SiteId::GetPhys))?;
        with_both(&Known { bare, alone, own, scan }, &bench, &mut calls, on, &mut share)?;
        drop(get_phys);
    }
    drop(dispatch);
    share.took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(share)
}

/// What both sites' programs add; `statistics` are on until they are dropped.
fn with_both(
    known: &Known,
    bench: &Bench<'_>,
    calls: &mut dyn FnMut() -> Result<u64, CalibrationError>,
    statistics: Option<OwnedFd>,
    share: &mut Share,
) -> Result<(), CalibrationError> {
    let alone = known.alone.sites[0];
    let ok = bench.run(0, calls)?;
    let failed = bench.run(ENOENT, calls)?;
    let at_dispatch = |seen: &Means| {
        let inside = seen.sites[0].less(alone.less(known.own));
        Part::of(inside, seen.caller.less(known.bare).less(inside))
    };
    let at_scan = |seen: &Means| {
        let inside = seen.sites[1].less(known.scan);
        Part::of(inside, seen.sites[0].less(alone).less(inside))
    };
    share.get_pa = Some(ByOutcome { ok: at_dispatch(&ok), failed: at_dispatch(&failed) });
    share.get_phys = Some(ByOutcome { ok: at_scan(&ok), failed: at_scan(&failed) });
    if statistics.is_some() {
        drop(statistics);
        let without = bench.run(0, calls)?;
        let of = |site: usize| ok.sites[site].less(without.sites[site]).amount();
        share.statistics = Some(Statistics { get_pa: of(0), scan: of(1) });
    }
    Ok(())
}

/// Where calls are made and averages taken.
struct Bench<'a> {
    reader: &'a Reader,
    cpu: usize,
}

/// A call without probes, as its caller sees it.
fn bare(canary: &mut dyn Canary) -> Result<Mean, CalibrationError> {
    let averages: Option<Vec<f64>> =
        (0..ROUNDS).map(|_| canary.time(CALLS).map(|nanos| nanos as f64)).collect();
    Mean::of(averages.ok_or(CalibrationError::Canary)?)
}

impl Bench<'_> {
    /// Calls whose result is rehearsed to be `result`. `calls` makes [`CALLS`] of them and says what one took.
    fn run(
        &self,
        result: i32,
        calls: &mut dyn FnMut() -> Result<u64, CalibrationError>,
    ) -> Result<Means, CalibrationError> {
        self.reader.arm_cpu(self.cpu, armed_for(result));
        let taken = self.averages(calls);
        self.reader.arm_cpu(self.cpu, 0);
        let taken = taken?;
        let sites = [1, 2].map(|column| taken.iter().map(|round| round[column]).collect::<Vec<f64>>());
        Ok(Means {
            caller: Mean::of(taken.iter().map(|round| round[0]).collect())?,
            sites: [Mean::of(sites[0].clone())?, Mean::of(sites[1].clone()).unwrap_or_default()],
        })
    }

    /// What the caller saw and each site measured, a call, by round; rounds with others' calls in them left out.
    fn averages(
        &self,
        calls: &mut dyn FnMut() -> Result<u64, CalibrationError>,
    ) -> Result<Vec<[f64; 3]>, CalibrationError> {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let before = self.reader.times();
            let caller = calls()?;
            let after = self.reader.times();
            let of_site = |name: &str| {
                let at = |times: &BTreeMap<String, (u64, u64)>| times.get(name).copied().unwrap_or_default();
                let ((calls, nanos), (later, more)) = (at(&before), at(&after));
                (later - calls, (more - nanos) as f64 / f64::from(CALLS))
            };
            let [dispatch, get_phys] = [SITES[0].name, SITES[1].name].map(of_site);
            let alone = |seen: u64| seen == u64::from(CALLS);
            if alone(dispatch.0) && (get_phys.0 == 0 || alone(get_phys.0)) {
                rounds.push([caller as f64, dispatch.1, get_phys.1]);
            }
        }
        Ok(rounds)
    }
}

impl Mean {
    fn of(mut averages: Vec<f64>) -> Result<Self, CalibrationError> {
        if averages.len() < ENOUGH {
            return Err(CalibrationError::Company);
        }
        averages.sort_unstable_by(f64::total_cmp);
        let least = averages[0];
        Ok(Self { nanos: least, noise: averages[averages.len() / 2] - least })
    }

    fn less(self, other: Self) -> Self {
        Self { nanos: self.nanos - other.nanos, noise: self.noise.hypot(other.noise) }
    }

    fn amount(self) -> Amount {
        Amount::of(self.nanos, self.noise)
    }
}

trait OfMeans {
    fn of(inside: Mean, outside: Mean) -> Self;
}

impl OfMeans for Part {
    fn of(inside: Mean, outside: Mean) -> Self {
        Self { inside: inside.amount(), outside: outside.amount() }
    }
}

/// What the kernel's reference function takes itself: measured of one like it in this process.
fn reference_time() -> Mean {
    extern "C" fn like_it(a: i8, b: i32, c: u64) -> i32 {
        // The lower half, as there.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_possible_wrap,
            reason = "so does the kernel's"
        )]
        i32::from(a).wrapping_add(b).wrapping_add(c as i32)
    }
    const TIMES: u32 = 256;
    let function: extern "C" fn(i8, i32, u64) -> i32 = black_box(like_it);
    let time = |call: &dyn Fn(i32) -> i32| {
        let begin = Instant::now();
        for time in 0..16 {
            black_box(call(time));
        }
        begin.elapsed().as_nanos() as f64
    };
    let many =
        |call: &dyn Fn(i32) -> i32| (0..TIMES).map(|_| time(call)).fold(f64::INFINITY, f64::min) / 16.0;
    let with = many(&|time| function(4, black_box(time), 6));
    let without = many(&|time| black_box(time));
    let nanos = (with - without).max(0.0);
    // A few instructions: it is not the same compiler's.
    Mean { nanos, noise: (nanos / 4.0).max(0.5) }
}

/// This thread on the CPU where it is; dropping lets it go where it might before.
struct Here(CpuSet);

impl Here {
    fn stay() -> Result<Self, Errno> {
        let before = sched_getaffinity(None)?;
        let mut here = CpuSet::new();
        here.set(sched_getcpu());
        sched_setaffinity(None, &here)?;
        Ok(Self(before))
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        // Where it is refused, the thread stays on a CPU that it may be on.
        let _ = sched_setaffinity(None, &self.0);
    }
}
