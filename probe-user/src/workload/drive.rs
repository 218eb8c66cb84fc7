//! A stage: its memory is made and mapped, its jobs' threads start together and are all joined.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Barrier};
use std::thread::{Scope, ScopedJoinHandle};

use super::abi::{self, Abi};
use super::arguments::ArgumentHash;
use super::board::{Sum, Times};
use super::churn::{ChurnBoard, Piece, PlaceOf};
use super::lane::{Ended, FaultCount, Lane, Visible, Work};
use super::memory::{self, Buffer, MemInfo};
use super::outcome::Ledger;
use super::pagemap::{self, Frames, PagemapError};
use super::plan::Job;
use super::progress::Shown;
use super::quantity::{Bytes, Iova, PageSize};
use super::queries::Field;
use super::random::Random;
use super::session::{HugePages, Session, Target};
use super::shape::Shape;
use super::ticks::Ticks;
use super::verify::{Oracle, Verdict};
use super::via::{Means, Way};
use super::{Control, WorkloadError};

/// Between the buffers of a stage, and behind each: an IOVA there is of no mapping.
const GAP: u64 = 1 << 30;
/// Where the first buffer goes.
const FIRST_IOVA: u64 = 1 << 32;

#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    #[error("starting a thread of the job {label}")]
    Spawn { label: String, source: std::io::Error },
    #[error("a thread of the job {0} panicked")]
    Panicked(String),
}

/// What is the same for every stage.
pub(super) struct Ground<'a> {
    pub(super) abi: Abi,
    pub(super) page: PageSize,
    pub(super) pin_limit: Option<Bytes>,
    pub(super) control: &'a Control<'a>,
    pub(super) stages: usize,
}

/// What one job did by one way.
pub(super) struct Driven {
    /// Of the job in its stage.
    pub(super) index: usize,
    pub(super) stage: usize,
    pub(super) way: Way,
    pub(super) targets: Vec<Target>,
    pub(super) areas: u64,
    pub(super) shape: Option<Shape>,
    pub(super) abi: Abi,
    pub(super) sum: Sum,
    pub(super) caps: Vec<u64>,
    pub(super) warm_up: Ledger,
    pub(super) verdict: Verdict,
    pub(super) faults: Vec<FaultCount>,
    pub(super) elapsed: u64,
    pub(super) ended: Ended,
    pub(super) owed: u64,
    /// Whether calls were timed by the cheap clock, and how far it was off at the end, ns.
    pub(super) clock_off: Option<u64>,
    pub(super) hash: ArgumentHash,
    pub(super) churn: Option<ChurnSeen>,
    pub(super) unpinned: Option<rustix::io::Errno>,
}

/// Maps and unmaps beside the queries.
pub(super) struct ChurnSeen {
    pub(super) map: Times,
    pub(super) unmap: Times,
    pub(super) ledger: Ledger,
}

/// A job whose memory is mapped.
struct Ready<'a> {
    job: &'a Job,
    buffer: Arc<Buffer>,
    targets: Vec<Target>,
    areas: u64,
    /// What each churn thread moves.
    pieces: Vec<Vec<Piece>>,
    oracle: Option<Oracle>,
    shape: Option<Shape>,
    abi: Abi,
}

/// Whether a stage's memory may be had, before anything is touched.
pub(super) fn check(jobs: &[Job], ground: &Ground<'_>) -> Result<(), WorkloadError> {
    let info = MemInfo::read(Path::new("/"))?;
    for job in jobs {
        let size = rounded(job, job.size, &info, ground)?;
        job.memory.check_pool(size, &info)?;
    }
    let sizes: Vec<Bytes> =
        jobs.iter().map(|job| rounded(job, job.size, &info, ground)).collect::<Result<_, _>>()?;
    Ok(check_limit(jobs, &sizes, &info, ground)?)
}

/// Carry out the jobs of a stage, together.
pub(super) fn stage(
    session: &mut Session,
    jobs: &[Job],
    number: usize,
    ground: &Ground<'_>,
) -> Result<Vec<Driven>, WorkloadError> {
    let info = MemInfo::read(Path::new("/"))?;
    let sizes: Vec<Bytes> =
        jobs.iter().map(|job| rounded(job, job.size, &info, ground)).collect::<Result<_, _>>()?;
    check_limit(jobs, &sizes, &info, ground)?;
    let mut ready = Vec::new();
    let mut next = FIRST_IOVA;
    for (job, &size) in jobs.iter().zip(&sizes) {
        ready.push(prepare(session, job, size, &mut next, &info, ground)?);
    }
    let driven = run_together(&session.iommufd, &ready, number, &info, ground)?;
    drop(ready);
    session.clear()?;
    Ok(driven)
}

fn rounded(
    job: &Job,
    size: Bytes,
    info: &MemInfo,
    ground: &Ground<'_>,
) -> Result<Bytes, memory::MemoryError> {
    size.round_up(job.memory.unit(info, ground.page)).ok_or(memory::MemoryError::TooLarge(size))
}

/// Before anything is built: what all jobs of the stage would pin at once.
fn check_limit(
    jobs: &[Job],
    sizes: &[Bytes],
    info: &MemInfo,
    ground: &Ground<'_>,
) -> Result<(), memory::MemoryError> {
    let pinned: Vec<(Bytes, bool)> = jobs
        .iter()
        .zip(sizes)
        .map(|(job, size)| {
            let churn = job.churn.filter(|churn| churn.kind.place != PlaceOf::Slices);
            let beside = churn.map_or(0, |churn| churn.size.0.saturating_mul(churn.threads));
            (Bytes(size.0.saturating_add(beside)), job.memory.is_pooled())
        })
        .collect();
    memory::check_limit(&pinned, ground.pin_limit, info)
}

fn prepare<'a>(
    session: &mut Session,
    job: &'a Job,
    size: Bytes,
    next: &mut u64,
    info: &MemInfo,
    ground: &Ground<'_>,
) -> Result<Ready<'a>, WorkloadError> {
    let huge_pages = if job.huge_pages { HugePages::On } else { HugePages::Off };
    let buffer = Arc::new(job.memory.build(size, info, ground.page, job.seed)?);
    let ioases = session.shared(usize::try_from(job.ioases.get()).unwrap_or(1), huge_pages)?;
    let start = job.iova.unwrap_or(Iova(*next));
    *next = next_iova(*next, size);
    let slices = job.churn.filter(|churn| churn.kind.place == PlaceOf::Slices);
    let slice = match slices {
        Some(churn) => rounded(job, churn.size, info, ground)?,
        None => size,
    };
    let mut targets = Vec::new();
    for ioas in ioases {
        targets.push(session.map(ioas, start, &buffer, slice)?);
    }
    let pieces = pieces(session, job, &buffer, targets[0], slice, next, (info, ground), huge_pages)?;
    let frames = look(&buffer, ground.page, job.verify.is_some())?;
    let shape = frames.as_ref().map(|frames| Shape::of(frames, &buffer.region));
    let Target { ioas, start, size } = targets[0];
    let abi = abi::refine(&session.iommufd, ground.abi, ioas, start, ground.page);
    let oracle = job.verify.zip(frames).map(|(addresses, frames)| Oracle::new(frames, abi, start, addresses));
    let areas = size.0.div_ceil(slice.0.max(1));
    Ok(Ready { job, buffer, targets, areas, pieces, oracle, shape, abi })
}

fn next_iova(from: u64, size: Bytes) -> u64 {
    from.saturating_add(size.0).saturating_add(GAP).next_multiple_of(GAP)
}

/// The frames behind a pinned buffer. Who may not see them cannot verify, but can drive.
fn look(buffer: &Buffer, page: PageSize, needed: bool) -> Result<Option<Frames>, PagemapError> {
    match pagemap::read(&buffer.region, page) {
        Ok(frames) => Ok(Some(frames)),
        Err(PagemapError::Hidden) if !needed => Ok(None),
        Err(error) => Err(error),
    }
}

#[allow(clippy::too_many_arguments, reason = "one call, right above")]
fn pieces(
    session: &mut Session,
    job: &Job,
    buffer: &Arc<Buffer>,
    target: Target,
    slice: Bytes,
    next: &mut u64,
    (info, ground): (&MemInfo, &Ground<'_>),
    huge_pages: HugePages,
) -> Result<Vec<Vec<Piece>>, WorkloadError> {
    let Some(churn) = job.churn else { return Ok(Vec::new()) };
    let threads = usize::try_from(churn.threads).unwrap_or(1);
    if churn.kind.place == PlaceOf::Slices {
        let mut pieces = vec![Vec::new(); threads];
        let offsets = (0..target.size.0).step_by(usize::try_from(slice.0).unwrap_or(usize::MAX));
        for (index, offset) in offsets.enumerate() {
            pieces[index % threads].push(Piece {
                ioas: target.ioas,
                iova: Iova(target.start.0 + offset),
                address: buffer.region.address() as u64 + offset,
                size: Bytes(slice.0.min(target.size.0 - offset)),
            });
        }
        return Ok(pieces);
    }
    let size = rounded(job, churn.size, info, ground)?;
    let mut pieces = Vec::new();
    for _ in 0..threads {
        let ioas = match churn.kind.place {
            PlaceOf::OwnIoas => session.own(huge_pages)?,
            _ => target.ioas,
        };
        // What the queries' memory took is gone from the machine's figures by now.
        let own = Arc::new(job.memory.build(size, &MemInfo::read(Path::new("/"))?, ground.page, job.seed)?);
        let mapped = session.map(ioas, Iova(*next), &own, size)?;
        *next = next_iova(*next, size);
        let address = own.region.address() as u64;
        pieces.push(vec![Piece { ioas, iova: mapped.start, address, size }]);
    }
    Ok(pieces)
}

fn run_together(
    iommufd: &super::iommufd::Iommufd,
    ready: &[Ready<'_>],
    number: usize,
    info: &MemInfo,
    ground: &Ground<'_>,
) -> Result<Vec<Driven>, WorkloadError> {
    let shown = Shown::default();
    let start = Barrier::new(ready.len());
    let (done, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (index, one) in ready.iter().enumerate() {
            let (shown, start, done) = (&shown, &start, done.clone());
            let (page, huge, stop) = (ground.page, info.huge_page.0, ground.control.stop);
            let seat = Seat { iommufd, ready: one, index, stage: number, page, huge, stop, shown };
            running.push(scope.spawn(move || {
                // Dropped at the end, whatever that is: so the wait below ends.
                let _done = done;
                start.wait();
                one.job.ways.iter().map(|&way| seat.by(way)).collect::<Result<Vec<_>, _>>()
            }));
        }
        drop(done);
        watch(&ended, &shown, number, ground);
        let mut driven = Vec::new();
        for (thread, one) in running.into_iter().zip(ready) {
            let result = thread.join().map_err(|_| DriveError::Panicked(one.job.label.clone()))?;
            driven.extend(result?);
        }
        Ok(driven)
    })
}

/// Show snapshots until every job has ended.
fn watch(ended: &mpsc::Receiver<()>, shown: &Shown, number: usize, ground: &Ground<'_>) {
    let Some(observe) = ground.control.observe else {
        let _ = ended.recv();
        return;
    };
    while ended.recv_timeout(ground.control.every) == Err(RecvTimeoutError::Timeout) {
        observe(&shown.snapshot(number, ground.stages));
    }
    observe(&shown.snapshot(number, ground.stages));
}

/// A job in its stage.
struct Seat<'a> {
    iommufd: &'a super::iommufd::Iommufd,
    ready: &'a Ready<'a>,
    index: usize,
    stage: usize,
    page: PageSize,
    huge: u64,
    stop: &'a AtomicBool,
    shown: &'a Shown,
}

impl Seat<'_> {
    fn by(&self, way: Way) -> Result<Driven, DriveError> {
        let Ready { job, buffer, targets, oracle, pieces, .. } = self.ready;
        let field = Field {
            size: targets[0].size.0,
            page: self.page.0,
            huge: self.huge,
            cap: job.cap,
            start: 0,
            random: Random::new(0, 0),
        };
        let caps = job.queries.classes(&field);
        // The page tables always answer up to the cap.
        let capping = oracle.as_ref().filter(|_| way != Way::GetPa).map(Oracle::capping);
        let work = Work {
            job,
            way,
            means: Means {
                iommufd: self.iommufd,
                address: buffer.region.address() as u64,
                size: targets[0].size.0,
                page: self.page,
            },
            targets,
            abi: self.ready.abi,
            ticks: if job.one_clock { Ticks::calibrated(Path::new("/")) } else { None },
            huge: self.huge,
            oracle: capping.as_ref().or(oracle.as_ref()),
            stop: self.stop,
        };
        let visible: Arc<Vec<Visible>> =
            Arc::new((0..job.threads.get()).map(|_| Visible::new(job, caps.len())).collect());
        let mut lanes: Vec<Lane<'_>> =
            (0..).zip(visible.iter()).map(|(index, visible)| Lane::new(&work, visible, index)).collect();
        self.shown.begin(self.index, job, way, &visible);
        let boards: Vec<ChurnBoard> = pieces.iter().map(|_| ChurnBoard::default()).collect();
        run_lanes(&work, &mut lanes, &boards, pieces)?;
        Ok(self.gather(&work, &visible, lanes, &boards, caps))
    }

    fn gather(
        &self,
        work: &Work<'_>,
        visible: &[Visible],
        lanes: Vec<Lane<'_>>,
        boards: &[ChurnBoard],
        caps: Vec<u64>,
    ) -> Driven {
        let from = lanes.iter().map(|lane| lane.span.0).min().unwrap_or(0);
        let to = lanes.iter().map(|lane| lane.span.1).max().unwrap_or(0);
        let mut driven = Driven {
            index: self.index,
            stage: self.stage,
            way: work.way,
            targets: work.targets.to_vec(),
            areas: self.ready.areas,
            shape: self.ready.shape.clone(),
            abi: work.abi,
            sum: Sum::of(visible.iter().map(|lane| &lane.board)),
            caps,
            warm_up: Ledger::default(),
            verdict: Verdict::default(),
            faults: Vec::new(),
            elapsed: to.saturating_sub(from),
            ended: Ended::Count,
            owed: 0,
            clock_off: None,
            hash: ArgumentHash::none(),
            churn: churn_seen(boards),
            unpinned: None,
        };
        for board in visible.iter().filter_map(|lane| lane.warm.as_ref()) {
            driven.warm_up.merge(&Sum::of([board]).ledger());
        }
        for lane in lanes {
            driven.take(lane);
        }
        driven
    }
}

impl Driven {
    fn take(&mut self, lane: Lane<'_>) {
        self.verdict.merge(lane.verdict);
        for new in lane.faults {
            match self.faults.iter_mut().find(|old| (old.fault, old.outcome) == (new.fault, new.outcome)) {
                Some(old) => old.count += new.count,
                None => self.faults.push(new),
            }
        }
        // An interruption anywhere is one everywhere; a deadline outranks a count that was reached.
        self.ended = match (self.ended, lane.ended) {
            (Ended::Interrupted, _) | (_, Ended::Interrupted) => Ended::Interrupted,
            (Ended::Duration, _) | (_, Ended::Duration) => Ended::Duration,
            _ => Ended::Count,
        };
        self.owed += lane.owed;
        self.clock_off = self.clock_off.max(lane.clock_off);
        self.hash.join(lane.hash);
        self.unpinned = self.unpinned.or(lane.unpinned);
    }
}

fn churn_seen(boards: &[ChurnBoard]) -> Option<ChurnSeen> {
    let mut ledger = Ledger::default();
    let mut all: Option<(Times, Times)> = None;
    for board in boards {
        board.enter(&mut ledger);
        let (map, unmap) = board.times();
        match &mut all {
            None => all = Some((map, unmap)),
            Some((maps, unmaps)) => {
                maps.merge(&map);
                unmaps.merge(&unmap);
            }
        }
    }
    all.map(|(map, unmap)| ChurnSeen { map, unmap, ledger })
}

/// Start all threads at once, and join them all, whatever happens.
fn run_lanes(
    work: &Work<'_>,
    lanes: &mut [Lane<'_>],
    boards: &[ChurnBoard],
    pieces: &[Vec<Piece>],
) -> Result<(), DriveError> {
    let gate = Gate::default();
    let over = AtomicBool::new(false);
    let label = &work.job.label;
    std::thread::scope(|scope| {
        let mut failed = None;
        let mut asking = Vec::new();
        let mut churning = Vec::new();
        {
            let _closed = gate.close();
            for lane in lanes {
                asking.extend(spawn(scope, label, &mut failed, &gate, || lane.run()));
            }
            for (board, pieces) in boards.iter().zip(pieces) {
                let over = &over;
                let churn = move || board.run(work.means.iommufd, pieces, over, work.stop);
                churning.extend(spawn(scope, label, &mut failed, &gate, churn));
            }
            gate.abandon(failed.is_some());
        }
        let mut join = |threads: Vec<ScopedJoinHandle<'_, ()>>| {
            for thread in threads {
                if thread.join().is_err() {
                    failed.get_or_insert(DriveError::Panicked(label.clone()));
                }
            }
        };
        join(asking);
        over.store(true, Relaxed);
        join(churning);
        failed.map_or(Ok(()), Err)
    })
}

fn spawn<'scope, 'env: 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    label: &str,
    failed: &mut Option<DriveError>,
    gate: &'env Gate,
    work: impl FnOnce() + Send + 'scope,
) -> Option<ScopedJoinHandle<'scope, ()>> {
    if failed.is_some() {
        return None;
    }
    let body = move || {
        if gate.pass() {
            work();
        }
    };
    match std::thread::Builder::new().name("load".to_owned()).spawn_scoped(scope, body) {
        Ok(thread) => Some(thread),
        Err(source) => {
            *failed = Some(DriveError::Spawn { label: label.to_owned(), source });
            None
        }
    }
}

/// What threads wait for, so that they start together, or not at all where one could not be started.
#[derive(Default)]
struct Gate {
    closed: std::sync::RwLock<()>,
    abandoned: AtomicBool,
}

impl Gate {
    fn close(&self) -> std::sync::RwLockWriteGuard<'_, ()> {
        self.closed.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn abandon(&self, wanted: bool) {
        self.abandoned.store(wanted, Relaxed);
    }

    fn pass(&self) -> bool {
        drop(self.closed.read().unwrap_or_else(std::sync::PoisonError::into_inner));
        !self.abandoned.load(Relaxed)
    }
}
