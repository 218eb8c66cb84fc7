use std::path::Path;

use rustix::io::Errno;

use super::super::iommufd::IoasId;
use super::*;

const SIZE: u64 = 10 * 4096;

/// A job over a file without ioctls: every call ends with ENOTTY, which is enough to count calls.
fn with_job(change: impl FnOnce(&mut Job<'_>), test: impl FnOnce(&Job<'_>)) {
    let iommufd = Iommufd::open(Path::new("/dev/null")).expect("open");
    let faults: FaultPlan = "unmapped=5,flags=2".parse().expect("good");
    let stop = AtomicBool::new(false);
    let mut job = Job {
        iommufd: &iommufd,
        target: Target { ioas: IoasId(1), start: Iova(1 << 32), size: Bytes(SIZE) },
        abi: Abi::Merged,
        cap: Cap::Page,
        step: Step::Page,
        limit: Limit { count: NonZeroU64::new(103), duration: None },
        threads: 3,
        page: PageSize(4096),
        huge_page: Bytes(2 << 20),
        faults: &faults,
        oracle: None,
        stop: &stop,
    };
    change(&mut job);
    test(&job);
}

#[test]
fn exactly_the_asked_number_of_calls_is_made() {
    with_job(
        |_| {},
        |job| {
            let driven = drive(job).expect("runs");
            assert_eq!(driven.tally.failed_ns.count(), 103 + 7);
            assert_eq!(driven.ended, Ended::Count);
            assert_eq!(driven.faults.iter().map(|fault| fault.count).sum::<u64>(), 7);
            assert!(driven.faults.iter().all(|fault| fault.outcome == Errno::NOTTY.into()));
        },
    );
}

#[test]
fn more_threads_than_calls_is_fine() {
    with_job(
        |job| {
            job.threads = 7;
            job.limit.count = NonZeroU64::new(2);
        },
        |job| assert_eq!(drive(job).expect("runs").tally.failed_ns.count(), 2 + 7),
    );
}

#[test]
fn a_stop_that_is_set_ends_it_before_the_first_call() {
    let stop = AtomicBool::new(true);
    let iommufd = Iommufd::open(Path::new("/dev/null")).expect("open");
    with_job(
        |_| {},
        |job| {
            let job = Job { stop: &stop, iommufd: &iommufd, ..*job };
            let driven = drive(&job).expect("runs");
            assert_eq!(driven.ended, Ended::Interrupted);
            assert_eq!(driven.tally.failed_ns.count(), 0);
        },
    );
}

#[test]
fn a_duration_of_nothing_ends_by_duration() {
    with_job(
        |job| job.limit = Limit { count: None, duration: Some(Duration::ZERO) },
        |job| assert_eq!(drive(job).expect("runs").ended, Ended::Duration),
    );
}

#[test]
fn steps_go_forward_and_wrap() {
    with_job(
        |_| {},
        |job| {
            assert_eq!(job.next(0, 9), 4096);
            assert_eq!(job.next(SIZE - 4096, 9), 0);
            let returned = Job { step: Step::Returned, ..*job };
            assert_eq!(returned.next(4096, 3 * 4096), 4 * 4096);
            assert_eq!(returned.next(4096, 0), 2 * 4096);
            assert_eq!(returned.next(4096, u64::MAX), 0);
            let huge = Job { step: Step::Huge, ..*job };
            assert_eq!(huge.next(0, 9), 0);
        },
    );
}

#[test]
fn the_cap_becomes_a_length() {
    with_job(
        |_| {},
        |job| {
            let length = |cap| Job { cap, ..*job }.length_at(4096);
            assert_eq!(length(Cap::Page), 4096);
            assert_eq!(length(Cap::Bytes(Bytes(77))), 77);
            assert_eq!(length(Cap::Area), SIZE - 4096);
            assert_eq!(length(Cap::Max), u64::MAX);
        },
    );
}

#[test]
fn caps_are_read() {
    assert_eq!("page".parse(), Ok(Cap::Page));
    assert_eq!("area".parse(), Ok(Cap::Area));
    assert_eq!("max".parse(), Ok(Cap::Max));
    assert_eq!("2MiB".parse(), Ok(Cap::Bytes(Bytes(2 << 20))));
    assert!("all".parse::<Cap>().is_err());
}

#[test]
fn threads_start_apart() {
    with_job(
        |job| job.threads = 4,
        |job| {
            let offsets = (0..4).map(|index| Lane::new(job, index).expect("fits").offset / 4096);
            assert!(offsets.eq([0, 2, 5, 7]));
        },
    );
}
