//! Scripts of keys against recordings: no terminal, no clock, no waiting.

use std::time::Duration;

use ratatui::layout::Rect;

use super::super::testing::Recorded;
use super::super::{screen, views};
use super::*;

/// The screen that is looked at.
const SCREEN: Rect = Rect { x: 0, y: 0, width: 80, height: 24 };

struct Session {
    app: App,
    now: Duration,
}

impl Session {
    fn over(recorded: &Recorded, live: bool) -> Self {
        let mut session = Self { app: App::new(Setup::usual("test.iova", live)), now: Duration::ZERO };
        for feed in recorded.feeds() {
            session.tell(Msg::Feed(feed));
        }
        session.app.refresh();
        session
    }

    fn tell(&mut self, msg: Msg) -> Option<Effect> {
        let table = views::arranged(&self.app);
        let help = screen::help_lines(&self.app, SCREEN).map(|lines| lines + 1);
        let context = Context {
            now: self.now,
            rows: help.unwrap_or_else(|| table.as_ref().map_or(0, |table| table.rows.len())),
            columns: table.as_ref().map_or(0, |table| table.columns.len()),
            sort: table.map_or((0, false), |table| table.sort),
        };
        self.app.update(msg, &context)
    }

    fn press(&mut self, keys: &str) -> Vec<Effect> {
        let effects = keys.chars().filter_map(|c| {
            let key = match c {
                '\n' => Key::Enter,
                '\x1b' => Key::Esc,
                '\t' => Key::Tab,
                c => Key::Char(c),
            };
            self.tell(Msg::Key(key))
        });
        let effects = effects.collect();
        self.app.refresh();
        effects
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.tell(Msg::Tick);
        self.app.refresh();
    }

    fn length(&self) -> Duration {
        self.app.shown.as_ref().map_or(Duration::ZERO, |shown| shown.window.duration())
    }

    fn end(&self) -> u64 {
        self.app.shown.as_ref().map_or(0, |shown| shown.window.to.monotonic)
    }
}

#[test]
fn views_change_by_number_tab_and_click() {
    let mut session = Session::over(&Recorded::mixed(), false);
    session.press("3");
    assert_eq!(session.app.view, 2);
    session.press("0\t");
    assert_eq!(session.app.view, 0, "after the last comes the first");
    session.tell(Msg::Key(Key::BackTab));
    assert_eq!(session.app.view, 9);
    session.tell(Msg::Tab(4));
    assert_eq!(session.app.view, 4);
    session.tell(Msg::Tab(77));
    assert_eq!(session.app.view, 4, "a view that is not there changes nothing");
}

#[test]
fn windows_have_the_length_that_their_name_says() {
    let mut session = Session::over(&Recorded::mixed(), false);
    let whole = session.length();
    session.press("w");
    assert_eq!(session.app.length, Length::Second);
    assert!(session.length() >= Duration::from_secs(1) && session.length() < Duration::from_millis(1600));
    session.press("www");
    assert_eq!((session.app.length, session.length()), (Length::All, whole));
}

#[test]
fn a_recording_is_played_stepped_and_sought() {
    let mut session = Session::over(&Recorded::mixed(), false);
    let last = session.end();
    session.press("w,");
    assert!(session.end() < last, "one sample back");
    session.press(".");
    assert_eq!((session.end(), session.app.cursor), (last, Cursor::Newest));
    session.press("b");
    assert!(session.app.shown.is_none(), "nothing lies before the beginning");
    session.press(" ++");
    assert!(session.app.playing);
    session.pass(Duration::from_secs(1));
    let Cursor::At(at) = session.app.cursor else { panic!("it plays") };
    let first = session.app.timeline.oldest().unwrap().at.monotonic;
    assert_eq!(at - first, 4_000_000_000, "a second at four times the speed");
    session.press(" ");
    session.pass(Duration::from_secs(5));
    assert_eq!(session.app.cursor, Cursor::At(at), "paused");
    session.press(" ");
    session.pass(Duration::from_hours(1));
    assert_eq!((session.app.playing, session.end()), (false, last), "it ends at the end");
    session.tell(Msg::Seek(0.5));
    session.app.refresh();
    let middle = session.end();
    session.press("<");
    assert!(session.end() < middle);
}

#[test]
fn freezing_pins_the_window_while_counting_goes_on() {
    let recorded = Recorded::mixed();
    let mut session = Session { app: App::new(Setup::usual("test.iova", true)), now: Duration::ZERO };
    let feeds = recorded.feeds();
    let half = feeds.len() / 2;
    for feed in feeds[..half].iter().cloned() {
        session.tell(Msg::Feed(feed));
    }
    session.app.refresh();
    session.press(" ");
    let frozen = session.app.shown.clone().unwrap();
    for feed in feeds[half..].iter().filter(|feed| !matches!(feed, Feed::Ended(_))).cloned() {
        session.tell(Msg::Feed(feed));
    }
    session.app.refresh();
    assert_eq!(session.app.shown.as_ref().unwrap().window, frozen.window);
    session.press(" ");
    assert!(session.end() > frozen.window.to.monotonic, "and goes on with the newest");
}

#[test]
fn rows_are_sorted_filtered_and_looked_into() {
    let mut session = Session::over(&Recorded::mixed(), false);
    session.press("2");
    let names = |app: &App| -> Vec<String> {
        views::arranged(app).unwrap().rows.iter().map(|row| row.cells[0].text.clone()).collect()
    };
    assert_eq!(names(&session.app)[0], "IOAS_NOIOMMU_GET_PA", "most calls first");
    session.press("h");
    assert_eq!(names(&session.app)[0], "DESTROY", "names begin with A");
    session.press("S");
    assert_eq!(names(&session.app)[0], "IOAS_UNMAP");
    session.press("/map\n");
    assert_eq!(names(&session.app), ["IOAS_UNMAP", "IOAS_MAP"]);
    session.press("jjj");
    assert_eq!(session.app.look().selected, 1, "the last row is the last");
    session.press("\n");
    assert_eq!(session.app.overlay, Overlay::Details);
    session.press("\x1b");
    assert_eq!((session.app.overlay, session.app.look().filter.as_str()), (Overlay::None, "map"));
    session.press("\x1b");
    assert_eq!(session.app.look().filter, "");
    session.press("/q");
    assert_eq!(session.app.look().filter, "q", "letters are text while a filter is typed");
}

#[test]
fn marks_resets_and_the_rest() {
    let mut session = Session::over(&Recorded::mixed(), false);
    session.press("<<m>>N");
    assert_eq!(session.app.marks.len(), 1);
    let at = session.app.marks[0].at.monotonic;
    assert_eq!(session.app.cursor, Cursor::At(at));
    session.press("r");
    session.press("f");
    assert_eq!(session.app.shown.as_ref().unwrap().window.from.monotonic, at, "counted from here on");
    session.press("r");
    assert_eq!(session.app.floor, 0, "and from the beginning again");
    session.press("u");
    assert_eq!(session.app.units.show(1500), "1500 ns");
    session.press("?");
    assert!(matches!(session.app.overlay, Overlay::Help(0)));
    assert_eq!(session.press("eq"), [Effect::Export, Effect::Quit]);
    assert_eq!(session.tell(Msg::Key(Key::Ctrl('z'))), Some(Effect::Suspend));
    assert!(session.app.message.is_some());
    session.pass(Duration::from_secs(6));
    assert!(session.app.message.is_none(), "messages go");
}

#[test]
fn the_help_scrolls_to_its_last_line_and_back_at_once() {
    for keys in ["?", "0"] {
        let mut session = Session::over(&Recorded::mixed(), false);
        let drawn = |app: &App| {
            let mut buffer = ratatui::buffer::Buffer::empty(SCREEN);
            let ability = screen::Ability { depth: super::super::theme::Depth::None, ascii: false };
            screen::draw(app, ability, &mut buffer);
            super::super::run::as_text(&buffer)
        };
        session.press(keys);
        let first = drawn(&session.app);
        assert!(first.contains("lines more") && !first.contains("what looks idle"), "{first}");
        session.press("G");
        let last = drawn(&session.app);
        assert!(last.contains("what looks idle is a gap") && !last.contains("lines more"), "{last}");
        session.press("k");
        assert_ne!(drawn(&session.app), last, "one line back is seen at once");
        session.press("g");
        assert_eq!(drawn(&session.app), first);
    }
}

#[test]
fn any_keys_in_any_state_do_no_harm() {
    for (recorded, live) in [(Recorded::mixed(), true), (Recorded::idle(), false), (Recorded::none(), true)] {
        let mut session = Session::over(&recorded, live);
        for view in 0..10 {
            session.tell(Msg::Tab(view));
            for binding in key::KEYS.iter().filter(|binding| binding.action != Action::Filter) {
                for key in binding.keys {
                    session.tell(Msg::Key(*key));
                    session.pass(Duration::from_millis(100));
                }
            }
            session.tell(Msg::Row(1000));
            session.tell(Msg::Scroll(-1000));
            session.tell(Msg::Seek(f64::NAN.max(0.3)));
        }
    }
}
