//! Recordings for tests: golden ones from the lab's real kernels, and made-up states.

use std::io::Cursor as Bytes;

use probe_common::bucket::LATENCY_FAILED;
use probe_model::attribution::{Row, Who};
use probe_model::call::{Call, What};
use probe_model::canary::Canary;
use probe_model::cost::ProgramCost;
use probe_model::histogram::Histogram;
use probe_model::lock::Locks;
use probe_model::loss::Flow;
use probe_model::origin::Header;
use probe_model::sample::Scans;
use probe_model::sample::{Calls, Counters, Instant, Sample};
use probe_model::share::{Amount, ByOutcome, Part, Share, Shares};

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::app::{App, Context, Msg, Setup};
use super::feed::{Ended, Feed};
use super::run::as_text;
use super::screen::{Ability, draw};
use super::theme::Depth;
use crate::recording::{Event, Reader};

/// What a source would tell.
#[derive(Debug, Clone)]
pub(crate) struct Recorded(Vec<Feed>);

impl Recorded {
    pub(crate) fn feeds(&self) -> Vec<Feed> {
        self.0.clone()
    }

    /// Real: the driver's usual jobs on Linux 7.3 in the lab.
    pub(crate) fn mixed() -> Self {
        Self::of(include_bytes!("../../tests/golden/mixed.iova"))
    }

    /// Real: 64 threads on one mapping, by kretprobes, which lose the slow calls.
    pub(crate) fn lossy() -> Self {
        Self::of(include_bytes!("../../tests/golden/lossy.iova"))
    }

    /// Real: nobody calls.
    pub(crate) fn idle() -> Self {
        Self::of(include_bytes!("../../tests/golden/idle.iova"))
    }

    /// Nothing has come yet.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// Made up: the source is there, its second sample is not.
    pub(crate) fn first_second() -> Self {
        Self(vec![Feed::Started(Box::new(Self::header()))])
    }

    /// Made up: it could not go on.
    pub(crate) fn failed() -> Self {
        let why = "cannot read /proc/self/fdinfo/9: permission denied \u{1b}[2J";
        Self(vec![Feed::Failed(why.to_owned())])
    }

    /// Made up: the heartbeat was not seen for three seconds, and names are hostile.
    pub(crate) fn dark() -> Self {
        let mut feeds = vec![Feed::Started(Box::new(Self::header()))];
        feeds.push(Feed::Sample(Box::new(Self::sample(1, 200, 0))));
        feeds.push(Feed::Sample(Box::new(Self::sample(4, 300, 3_000_000_000))));
        feeds.push(Feed::Calls((0..20).map(Self::call).collect()));
        feeds.push(Feed::Output(b"\x1b]0;title\x07 progress \xff".to_vec()));
        feeds.push(Feed::Ended(Ended { end: None, unclean: Some("no end".to_owned()) }));
        Self(feeds)
    }

    pub(crate) fn header() -> Header {
        Header {
            kernel: "7.3.4 \u{1b}[31m".to_owned(),
            machine: "x86_64".to_owned(),
            abi: "made up".to_owned(),
            backend: "fsession".to_owned(),
            page_size: 4096,
            cpus: 64,
            sites: [("dispatch".to_owned(), "a".to_owned()), ("get_phys".to_owned(), "b".to_owned())].into(),
            started: Instant { monotonic: 1_000_000_000, realtime: 1_700_000_000_000_000_000 },
            shares: Shares { known: vec![Self::share()], unknown: None },
            ..Header::default()
        }
    }

    fn share() -> Share {
        let part = |inside, outside| Part {
            inside: Amount { nanos: inside, noise: 21 },
            outside: Amount { nanos: outside, noise: 30 },
        };
        let site = |ok, failed| Some(ByOutcome { ok: part(ok, 503), failed: part(failed, 477) });
        Share {
            backend: "fsession".to_owned(),
            calls: 32,
            rounds: 24,
            bare: Amount { nanos: 910, noise: 21 },
            get_pa: site(433, 401),
            other: part(101, 312),
            get_phys: site(103, 103),
            ..Share::default()
        }
    }

    fn sample(second: u64, calls: u64, dark: u64) -> Sample {
        let mut ok = Histogram::new(probe_common::bucket::LATENCY);
        for call in 0..calls {
            ok.record(900 + 37 * call);
        }
        let scans = Scans {
            ok: [(9, ok.clone())].into(),
            failed: Histogram::new(LATENCY_FAILED),
            errors: [].into(),
            pages: 512 * calls,
            runs: [].into(),
        };
        let flow = Flow { entered: calls, exited: calls, ..Flow::default() };
        let calls_of = Calls { ok, failed: Histogram::new(LATENCY_FAILED), errors: [].into() };
        let row = |pid: u32, comm: &[u8]| Row {
            who: Some(Who { pid, comm: comm.to_vec(), ioas: Some(3), is_threads_name: false, started: None }),
            site: "get_phys".to_owned(),
            calls,
            failed: 1,
            nanos: calls * 2000,
            pages: calls * 512,
            bytes: calls << 21,
        };
        let unseen = if dark > 0 { [("get_phys".to_owned(), 3)].into() } else { [].into() };
        Sample {
            at: Instant {
                monotonic: (1 + second) * 1_000_000_000,
                realtime: (1_700_000_000 + second) * 1_000_000_000,
            },
            counters: Counters {
                dispatch: [("IOAS_NOIOMMU_GET_PA".to_owned(), calls_of)].into(),
                get_phys: Some(scans),
                flow: ["dispatch", "get_phys"].map(|site| (site.to_owned(), flow)).into(),
                attribution: [
                    (0, row(7, b"\x1b[2J\x1b[31mevil")),
                    (1, row(8, "\u{202e}\u{65e5}\u{672c}".as_bytes())),
                    (2, row(9, b"dpdk-lcore 3")),
                    (3, Row { who: None, ..row(0, b"") }),
                ]
                .into(),
                canary: Canary { sent: second, unseen, dark, failed: 0 },
                locks: Some(Self::locks(calls)),
                programs: [("get_phys_both".to_owned(), ProgramCost { runs: calls, nanos: calls * 90 })]
                    .into(),
                ..Counters::default()
            },
        }
    }

    fn locks(calls: u64) -> Locks {
        let waits = |each: u64| {
            let mut waits = Histogram::new(probe_common::bucket::LATENCY);
            (0..calls).for_each(|call| waits.record(each + 11 * call));
            waits
        };
        let parts = [("iova_rwsem", 40), ("pages_mutex", 4000), ("scanning", 900)];
        Locks {
            get_phys: parts.map(|(part, each)| (part.to_owned(), waits(each))).into(),
            ..Locks::default()
        }
    }

    fn call(number: u64) -> Call {
        let what = What::GetPhys {
            iova: Some(number << 21),
            cap: None,
            run: Some(2 << 20),
            pages: Some(512),
            stop: Some("cap".to_owned()),
        };
        let at = 2_000_000_000 + number * 100_000_000;
        let comm = b"\x1b[2Jx".to_vec();
        Call {
            at,
            nanos: 5_000 + 777 * number,
            pid: 7,
            tid: 8,
            cpu: 3,
            comm,
            errno: 0,
            slow: number == 3,
            what,
        }
    }

    fn of(bytes: &[u8]) -> Self {
        let mut reader = Reader::begin(Bytes::new(bytes), "recorded".to_owned()).unwrap();
        let mut feeds = vec![Feed::Started(Box::new(reader.header().clone()))];
        while let Some(event) = reader.next_event().unwrap() {
            feeds.push(match event {
                Event::Window(_) => Feed::Sample(Box::new(reader.sample().clone())),
                Event::Calls(calls) => Feed::Calls(calls),
                Event::Mark(mark) => Feed::Mark(Box::new(mark)),
                Event::Anchor(_) => continue,
            });
        }
        let unclean = reader.unclean().map(str::to_owned);
        feeds.push(Feed::Ended(Ended { end: reader.end().cloned(), unclean }));
        Self(feeds)
    }
}

/// What the Scan view's panels of figures show of a recording, line by line.
pub(crate) fn scan_view(recording: &[u8]) -> String {
    let mut app = App::new(Setup::usual("made up", false));
    for feed in Recorded::of(recording).feeds() {
        app.update(Msg::Feed(feed), &Context::default());
    }
    app.refresh();
    app.view = 2;
    let (width, panels) = (200, 46);
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, 60));
    draw(&app, Ability { depth: Depth::True, ascii: false }, &mut buffer);
    let right = Rect::new(width - panels, 0, panels, 60);
    let mut figures = Buffer::empty(right);
    for place in right.positions() {
        figures[place] = buffer[place].clone();
    }
    as_text(&figures)
}
