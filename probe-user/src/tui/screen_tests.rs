//! Frames: every view in every state at five sizes, and no panic at any other.

use std::fmt::Write as _;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr as _;

use super::super::app::{Context, Msg, Setup};
use super::super::feed::Feed;
use super::super::key::Key;
use super::super::run::as_text;
use super::super::testing::Recorded;
use super::super::theme::THEMES;
use super::*;
use crate::recording::Recording;
use crate::report::Report;

const SIZES: [(u16, u16); 5] = [(200, 60), (120, 40), (80, 24), (40, 12), (20, 6)];
const FULL: Ability = Ability { depth: Depth::True, ascii: false };
const PLAIN: Ability = Ability { depth: Depth::None, ascii: true };

fn app(recorded: &Recorded, live: bool) -> App {
    let mut app = App::new(Setup::usual("test.iova", live));
    for feed in recorded.feeds() {
        app.update(Msg::Feed(feed), &Context::default());
    }
    app.refresh();
    app
}

fn frame(app: &App, (width, height): (u16, u16), ability: Ability) -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    draw(app, ability, &mut buffer);
    buffer
}

fn text(app: &App, size: (u16, u16), ability: Ability) -> String {
    as_text(&frame(app, size, ability))
}

fn states() -> [(&'static str, Recorded, bool); 7] {
    [
        ("mixed", Recorded::mixed(), false),
        ("idle", Recorded::idle(), false),
        ("lost", Recorded::lossy(), false),
        ("waiting", Recorded::none(), true),
        ("first-second", Recorded::first_second(), true),
        ("dark-simulated", Recorded::dark(), false),
        ("failed-simulated", Recorded::failed(), true),
    ]
}

#[test]
fn every_view_in_every_state_at_five_sizes() {
    for (state, recorded, live) in states() {
        let mut app = app(&recorded, live);
        for (width, height) in SIZES {
            let mut all = String::new();
            for (number, view) in ALL.iter().enumerate() {
                app.view = number;
                let _ = writeln!(all, "=== {} ===", view.name());
                all.push_str(&text(&app, (width, height), FULL));
            }
            insta::assert_snapshot!(format!("{state}_{width}x{height}"), all);
        }
    }
}

#[test]
fn no_cell_holds_what_acts_or_is_wide() {
    for (_, recorded, live) in states() {
        let mut app = app(&recorded, live);
        for number in 0..ALL.len() {
            app.view = number;
            for ability in [FULL, PLAIN] {
                let frame = frame(&app, (120, 40), ability);
                for cell in &frame.content {
                    assert_eq!(cell.symbol().width(), 1, "{:?}", cell.symbol());
                    assert!(!cell.symbol().chars().any(char::is_control));
                    assert!(!ability.ascii || cell.symbol().is_ascii(), "{:?} is not ASCII", cell.symbol());
                }
            }
        }
    }
}

#[test]
fn no_size_is_a_reason_to_panic() {
    let widths = [1u16, 2, 7, 8, 19, 20, 21, 39, 40, 59, 60, 69, 80, 99, 112, 150, 500];
    let heights = [1u16, 2, 5, 6, 7, 9, 10, 11, 12, 13, 15, 17, 21, 29, 40, 200];
    for (_, recorded, live) in states() {
        let mut app = app(&recorded, live);
        for number in 0..ALL.len() {
            app.view = number;
            for overlay in [Overlay::None, Overlay::Help(2), Overlay::Details, Overlay::Filter] {
                app.overlay = overlay;
                for width in widths {
                    // All pairs of the view itself, a diagonal beneath what lies over it.
                    let skip = usize::from(overlay != Overlay::None) * 8 + 1;
                    for height in heights.iter().skip(usize::from(width) % skip).step_by(skip) {
                        drop(frame(&app, (width, *height), if width % 2 == 0 { FULL } else { PLAIN }));
                    }
                }
            }
        }
    }
}

/// What is shown to matter shows without colour.
#[test]
fn every_state_has_a_word() {
    let shown = |recorded: &Recorded, live, size| text(&app(recorded, live), size, PLAIN);
    for size in [(120, 40), (80, 24), (40, 12)] {
        assert!(shown(&Recorded::lossy(), false, size).contains("LOST"), "{size:?}");
        assert!(shown(&Recorded::dark(), false, size).contains("DARK"), "{size:?}");
        assert!(shown(&Recorded::failed(), true, size).contains("ERROR"), "{size:?}");
        assert!(shown(&Recorded::none(), true, size).contains("WAITING"), "{size:?}");
        assert!(shown(&Recorded::mixed(), false, size).contains("END"), "{size:?}");
    }
    let mut frozen = app(&Recorded::first_second(), true);
    frozen.update(Msg::Key(Key::Char(' ')), &Context::default());
    assert!(text(&frozen, (80, 24), PLAIN).contains("FROZEN"));
    assert!(text(&frozen, (19, 5), PLAIN).contains("too small"));
}

#[test]
fn themes_change_colours_and_nothing_else() {
    let mut app = app(&Recorded::mixed(), false);
    app.view = 2;
    let first = frame(&app, (120, 40), FULL);
    for (number, theme) in THEMES.iter().enumerate().skip(1) {
        app.theme = number;
        let other = frame(&app, (120, 40), FULL);
        assert_eq!(as_text(&first), as_text(&other));
        assert_ne!(first, other, "{}", theme.name);
    }
    for depth in [Depth::Ansi16, Depth::Ansi256] {
        assert_ne!(first, frame(&app, (120, 40), Ability { depth, ascii: false }));
    }
}

/// Every figure that the report and the dashboard both show is the same, in the same words.
#[test]
fn the_screen_says_what_the_report_says() {
    for recorded in [Recorded::mixed(), Recorded::lossy(), Recorded::dark()] {
        let mut app = app(&recorded, false);
        let report = report(&app);
        let size = (200, 60);
        let mut screens = Vec::new();
        for number in 0..ALL.len() {
            app.view = number;
            screens.push(text(&app, size, FULL));
        }
        let has = |view: usize, line: &str, figure: &str| {
            let found = screens[view].lines().any(|row| row.contains(line) && row.contains(figure));
            assert!(found, "{}: no line with {line:?} and {figure:?}\n{}", ALL[view].name(), screens[view]);
        };
        for (name, calls) in &report.dispatch {
            has(1, name, &unit::count(calls.calls));
            let ok = &calls.ok;
            for figure in [ok.p50, ok.p90, ok.p99, ok.p999, ok.max].into_iter().flatten() {
                has(1, name, &unit::nanos(figure));
            }
            has(1, name, &unit::count(calls.failed.count));
        }
        let scans = report.get_phys.as_ref().unwrap();
        let ok = scans.ok.as_ref().unwrap();
        has(0, "p50", &unit::nanos(ok.p50.unwrap()));
        has(0, "p99", &unit::nanos(ok.p99.unwrap()));
        has(0, "p99.9", &unit::nanos(ok.p999.unwrap()));
        has(0, "max", &unit::nanos(ok.max.unwrap()));
        has(2, "pages", &unit::count(scans.pages));
        has(2, "mean page", &format!("{:.1} ns", report.mean_nanos_per_page.unwrap()));
        let cost = &report.scan_cost.as_ref().unwrap().cost;
        if let Some((fixed, further)) = cost.parts() {
            has(0, "a page", &further.to_string());
            has(2, "each page", &further.to_string());
            has(2, "fixed", &fixed.to_string());
        }
        for word in cost.known().split(' ') {
            has(2, word, word);
        }
        for (part, waits) in &report.locks {
            has(2, part.trim_start_matches("lock.get_phys."), &unit::nanos(waits.p99.unwrap()));
        }
        for process in &report.processes {
            let line = match process.pid {
                Some(pid) => format!(" {pid} {}", process.site),
                None => "(all others)".to_owned(),
            };
            has(5, &line, &unit::count(process.calls));
            has(5, &line, &unit::count(process.failed));
        }
        for (name, cost) in &report.programs {
            has(8, name, &unit::count(cost.runs));
            has(8, name, &unit::nanos(cost.nanos / cost.runs));
        }
        if let Some(without) = &report.dispatch["IOAS_NOIOMMU_GET_PA"].without_probes.ok {
            has(8, "GET_PA", &unit::nanos(without.inside.nanos));
            has(8, "GET_PA", &unit::nanos(without.outside.nanos));
            has(8, "p50 without", &unit::nanos(without.p50.unwrap().nanos));
        }
        details_are_the_reports(&mut app, &report);
        for (stop, runs) in &scans.runs {
            has(2, stop, &unit::count(runs.count));
        }
        for balance in report.balance.values() {
            has(8, "began", &unit::count(balance.calls));
            has(8, "measured", &unit::count(balance.measured));
            has(8, "in flight", &unit::count(balance.in_flight));
            for (cause, &count) in &balance.lost {
                has(8, "lost", &unit::count(count));
                has(8, cause.describe(), "");
            }
        }
    }
}

/// Every row of Processes, looked into.
fn details_are_the_reports(app: &mut App, report: &Report) {
    app.view = 5;
    app.overlay = Overlay::Details;
    let mut told: Vec<String> = Vec::new();
    for row in 0..report.processes.len() {
        app.looks[5].selected = row;
        told.push(text(app, (200, 60), FULL));
    }
    app.overlay = Overlay::None;
    for process in &report.processes {
        let pid = process.pid.map_or("-".to_owned(), |pid| pid.to_string());
        let figures = [
            ("pid", pid),
            ("site", process.site.clone()),
            ("calls", unit::count(process.calls)),
            ("failed", unit::count(process.failed)),
            ("time in calls", unit::nanos(process.nanos)),
            ("pages", unit::count(process.pages)),
        ];
        let says = |screen: &&String| {
            let has = |(name, figure): &(&str, String)| {
                // Between the sides of the box.
                let inside = |line: &str| {
                    line.split('│').any(|part| {
                        part.trim_start().strip_prefix(name).is_some_and(|rest| rest.trim() == figure)
                    })
                };
                screen.lines().any(inside)
            };
            figures.iter().all(has)
        };
        assert!(told.iter().find(says).is_some(), "no details say {figures:?}\n{}", told[0]);
    }
}

fn report(app: &App) -> Report {
    let shown = app.shown.as_ref().unwrap();
    Report::of(Recording::of_window(app.header.clone().unwrap(), shown.window.clone()))
}

/// The window "all" is what `report` reads from the file, the extremes too.
#[test]
fn the_whole_window_is_the_recording() {
    for bytes in [
        &include_bytes!("../../tests/golden/mixed.iova")[..],
        include_bytes!("../../tests/golden/lossy.iova"),
    ] {
        let recording = crate::recording::Reader::begin(bytes, "golden".to_owned()).unwrap().whole().unwrap();
        let app = app(
            &if recording.header.backend == "kprobe" { Recorded::lossy() } else { Recorded::mixed() },
            false,
        );
        assert_eq!(app.shown.unwrap().window, recording.window);
    }
}

#[test]
fn clicks_are_where_things_are() {
    let mut app = app(&Recorded::mixed(), false);
    app.view = 1;
    let mut buffer = Buffer::empty(Rect::new(0, 0, 120, 40));
    let hits = draw(&app, FULL, &mut buffer);
    let lines: Vec<String> = as_text(&buffer).lines().map(str::to_owned).collect();
    for (area, target) in hits {
        let row: String =
            lines[usize::from(area.y)].chars().skip(area.x.into()).take(area.width.into()).collect();
        match target {
            Target::Tab(number) => assert!(row.contains(ALL[number].name()), "{row}"),
            Target::Row(0) => assert!(row.contains("IOAS_NOIOMMU_GET_PA"), "{row}"),
            Target::Row(_) => assert!(!row.trim().is_empty()),
            Target::Timeline => assert!(area.width > 60),
        }
    }
    assert!(app.update(Msg::Feed(Feed::CommandEnded("x".into())), &Context::default()).is_none());
}
