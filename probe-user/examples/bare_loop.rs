//! GET_PA in a closed loop with nothing around it: what `cargo xtask bench overhead` runs in its guest.
//!
//! Owns the loop and its clock readings, before and after. Keeps no latencies, changes no
//! setting, and refuses to print: the result is a file, so that a tracer's output stays its own.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context as _, Result, bail, ensure};
use iovascope::workload::device;
use iovascope::workload::iommufd::{Iommufd, Query};
use iovascope::workload::memory::{MemInfo, Memory};
use iovascope::workload::outcome::{Command, Ledger, Outcome};
use iovascope::workload::quantity::{Bytes, Iova, PageSize};
use iovascope::workload::session::{self, HugePages, Session, Target};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

const USAGE: &str = "bare_loop FILE (mapped|unmapped):LENGTH:COUNT…";
/// Two huge pages: the longest scan ends inside.
const SIZE: Bytes = Bytes(4 << 20);
const START: Iova = Iova(1 << 32);
/// Unmeasured calls before a loop, as a share of its own: caches of code and of maps are full then.
const WARM_UP: u64 = 4;

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let file = arguments.next().context(USAGE)?;
    let loops = arguments.map(|text| Loop::parse(&text)).collect::<Result<Vec<_>>>()?;
    ensure!(!loops.is_empty(), USAGE);
    let result = drive(&loops)?;
    fs::write(&file, result.to_string()).with_context(|| format!("cannot write {file}"))
}

/// One closed loop over one query.
struct Loop {
    name: String,
    mapped: bool,
    length: u64,
    count: u64,
}

impl Loop {
    fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let &[place, length, count] = parts.as_slice() else { bail!("{text:?} is no loop: {USAGE}") };
        let mapped = match place {
            "mapped" => true,
            "unmapped" => false,
            _ => bail!("{place:?} is no place: {USAGE}"),
        };
        let number = |text: &str| text.parse::<u64>().with_context(|| format!("{text:?} is no number"));
        Ok(Self { name: text.to_owned(), mapped, length: number(length)?, count: number(count)? })
    }

    fn expected(&self) -> Outcome {
        if self.mapped { Outcome::Ok } else { Errno::NOENT.into() }
    }

    /// Returns the time of the measured loop, and of this thread in it, in ns.
    fn run(&self, iommufd: &Iommufd, target: Target, ledger: &mut Ledger) -> Result<[u64; 2]> {
        let iova = if self.mapped { target.start } else { Iova(target.start.0 + 2 * target.size.0) };
        let query = Query { ioas: target.ioas, flags: 0, iova, length: self.length };
        let warm_up = self.count.div_ceil(WARM_UP);
        let first = Outcome::from(&iommufd.get_pa_uncounted(query));
        let (name, expected) = (&self.name, self.expected());
        ensure!(first == expected, "{name}: a call gave {}, not {}", first.name(), expected.name());
        let wanted = expected == Outcome::Ok;
        let mut right = 1 + calls(iommufd, query, warm_up, wanted);
        let own = own_time()?;
        let began = Instant::now();
        right += calls(iommufd, query, self.count, wanted);
        let elapsed = began.elapsed();
        let own = own_time()?.saturating_sub(own);
        let all = 1 + warm_up + self.count;
        ensure!(right == all, "{name}: {right} of {all} calls gave {}", expected.name());
        ledger.add(Command::GetPa, expected, all);
        let whole = |time: Duration| u64::try_from(time.as_nanos()).context("the loop took centuries");
        Ok([whole(elapsed)?, whole(own)?])
    }
}

/// What this thread has run.
fn own_time() -> Result<Duration> {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).context("a thread's time is not negative")
}

/// The loop: the ioctl, and one addition.
#[inline(never)]
fn calls(iommufd: &Iommufd, query: Query, count: u64, wanted: bool) -> u64 {
    (0..count).map(|_| u64::from(iommufd.get_pa_uncounted(query).is_ok() == wanted)).sum()
}

fn drive(loops: &[Loop]) -> Result<Value> {
    let root = Path::new("/");
    let device = device::choose(root, None)?;
    let info = MemInfo::read(root)?;
    let buffer = Arc::new(Memory::HUGETLB.build(SIZE, &info, PageSize::of_system(), 0)?);
    let mut session = Session::open(session::open_iommufd(&root.join("dev/iommu"))?, &device)?;
    let ioas = session.shared(1, HugePages::On)?[0];
    let target = session.map(ioas, START, &buffer, SIZE)?;
    let mut ledger = Ledger::default();
    let mut measured = Vec::new();
    for each in loops {
        let [elapsed, own] = each.run(&session.iommufd, target, &mut ledger)?;
        measured.push(json!({ "loop": each.name, "calls": each.count, "ns": elapsed, "own_ns": own }));
    }
    session.close()?;
    let outcomes: Vec<Value> = ledger
        .iter()
        .map(|(_, outcome, count)| json!({ "outcome": outcome.name(), "count": count }))
        .collect();
    Ok(json!({ "loops": measured, "get_pa": outcomes }))
}
