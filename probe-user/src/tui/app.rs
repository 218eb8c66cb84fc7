//! The dashboard's state and what changes it.
//!
//! Pure: no terminal, no clock, no file. Instants are passed in, what the world should do is returned.

use std::collections::VecDeque;
use std::time::Duration;

use probe_model::call::Call;
use probe_model::clock;
use probe_model::origin::{Header, MOST_MARKS, Mark};
use probe_model::sample::{Instant, Sample};
use probe_model::scan_cost::Conditions;
use probe_model::timeline::{Budget, Thinning, Timeline};

use super::calls::Kept;
use super::feed::{Driver, Ended, Feed};
use super::key::{self, Action, Key};
use super::shown::Shown;
use super::table::Look;
use super::theme::THEMES;
use super::views;

/// Lines of the command's output that are kept.
const OUTPUT_LINES: usize = 500;
/// How long a message stays.
const MESSAGE: Duration = Duration::from_secs(5);

/// What the app is set to.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The source, for people.
    pub name: String,
    /// Whether the source grows while we look; a finished file does not.
    pub live: bool,
    pub length: Length,
    pub units: Units,
    pub theme: usize,
    pub view: usize,
    pub budget: Budget,
}

impl Setup {
    /// What is used when nothing else is said.
    pub fn usual(name: impl Into<String>, live: bool) -> Self {
        Self {
            name: name.into(),
            live,
            length: Length::All,
            units: Units::Auto,
            theme: 0,
            view: 0,
            budget: Budget::USUAL,
        }
    }
}

/// Length of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    Second,
    TenSeconds,
    Minute,
    All,
}

impl Length {
    pub const ALL: [Self; 4] = [Self::Second, Self::TenSeconds, Self::Minute, Self::All];

    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "1 s",
            Self::TenSeconds => "10 s",
            Self::Minute => "1 min",
            Self::All => "all",
        }
    }

    /// In ns.
    pub fn nanos(self) -> u64 {
        match self {
            Self::Second => 1_000_000_000,
            Self::TenSeconds => 10_000_000_000,
            Self::Minute => 60_000_000_000,
            Self::All => u64::MAX,
        }
    }
}

/// Unit of times on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Units {
    Auto,
    Nanos,
    Micros,
    Millis,
}

impl Units {
    pub const ALL: [Self; 4] = [Self::Auto, Self::Nanos, Self::Micros, Self::Millis];

    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Nanos => "ns",
            Self::Micros => "µs",
            Self::Millis => "ms",
        }
    }

    /// A time in this unit; automatic is the report's.
    pub fn show(self, nanos: u64) -> String {
        match self {
            Self::Auto => probe_model::unit::nanos(nanos),
            Self::Nanos => format!("{nanos} ns"),
            Self::Micros => format!("{:.1} µs", nanos as f64 / 1e3),
            Self::Millis => format!("{:.3} ms", nanos as f64 / 1e6),
        }
    }
}

/// What the source does.
#[derive(Debug, Clone)]
pub enum State {
    /// Nothing has come yet.
    Waiting,
    Running,
    Ended(Ended),
    Failed(String),
}

/// Where the window ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursor {
    /// At the newest sample.
    Newest,
    /// At an instant, monotonic ns.
    At(u64),
}

/// What lies over the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    None,
    /// The keys; first line shown.
    Help(usize),
    /// The filter is being typed.
    Filter,
    Details,
}

/// What happened.
#[derive(Debug)]
pub enum Msg {
    Key(Key),
    /// A click on a tab, or a row, or the timeline at a share of its length.
    Tab(usize),
    Row(usize),
    Seek(f64),
    /// The wheel: rows down.
    Scroll(isize),
    Feed(Feed),
    /// Time passes.
    Tick,
}

/// What the world should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Quit,
    Suspend,
    Export,
}

/// What is known of the screen when a message is handled.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context {
    /// Time since the start.
    pub now: Duration,
    /// Rows of the view's table, as filtered, or lines that the help can be scrolled; columns of the table, 0
    /// without one.
    pub rows: usize,
    pub columns: usize,
    /// The column that it is sorted by, and whether the largest is first.
    pub sort: (usize, bool),
}

/// The state.
#[derive(Debug, Clone)]
pub struct App {
    pub setup: Setup,
    pub state: State,
    pub header: Option<Header>,
    pub timeline: Timeline,
    pub calls: Kept,
    pub marks: Vec<Mark>,
    pub driver: Option<Driver>,
    pub output: VecDeque<String>,
    pub command_ended: Option<String>,
    pub view: usize,
    pub looks: Vec<Look>,
    pub overlay: Overlay,
    pub length: Length,
    pub units: Units,
    pub theme: usize,
    /// Heatmap and overview show the scans; else the dispatch.
    pub scans_first: bool,
    pub cursor: Cursor,
    /// Playing, at 2^speed.
    pub playing: bool,
    pub speed: i32,
    /// Windows do not begin before, monotonic ns.
    pub floor: u64,
    pub shown: Option<Shown>,
    pub message: Option<(String, Duration)>,
    last_tick: Duration,
}

impl App {
    pub fn new(setup: Setup) -> Self {
        let thinning = if setup.live { Thinning::Old } else { Thinning::Even };
        Self {
            state: State::Waiting,
            header: None,
            timeline: Timeline::new(setup.budget, thinning),
            calls: Kept::default(),
            marks: Vec::new(),
            driver: None,
            output: VecDeque::new(),
            command_ended: None,
            view: setup.view.min(views::ALL.len() - 1),
            looks: vec![Look::default(); views::ALL.len()],
            overlay: Overlay::None,
            length: setup.length,
            units: setup.units,
            theme: setup.theme,
            scans_first: true,
            cursor: Cursor::Newest,
            playing: false,
            speed: 0,
            floor: 0,
            shown: None,
            message: None,
            last_tick: Duration::ZERO,
            setup,
        }
    }

    /// Take a message in.
    pub fn update(&mut self, msg: Msg, context: &Context) -> Option<Effect> {
        match msg {
            Msg::Key(key) => return self.key(key, context),
            Msg::Tab(view) => self.go_to(view),
            Msg::Row(row) => self.looks[self.view].selected = row.min(context.rows.saturating_sub(1)),
            Msg::Seek(share) => self.seek_to_share(share),
            Msg::Scroll(rows) => self.scroll(rows, context),
            Msg::Feed(feed) => self.feed(feed),
            Msg::Tick => self.tick(context.now),
        }
        None
    }

    /// Compute what is shown, if the window is another one.
    pub fn refresh(&mut self) {
        let ends = self.timeline.ends(self.end(), self.length.nanos(), self.floor);
        let Some((older, newer)) = ends else {
            self.shown = None;
            return;
        };
        let same = self
            .shown
            .as_ref()
            .is_some_and(|shown| (shown.window.from, shown.window.to) == (older.at, newer.at));
        if !same {
            let window = probe_model::window::Window::between(older, newer);
            let backend = self.header.as_ref().map_or("", |header| &header.backend);
            let conditions =
                self.header.as_ref().map_or(Conditions { page_size: 4096, clock_step: 1 }, Conditions::of);
            self.shown = Some(Shown::of(window, conditions, backend));
        }
    }

    /// Bytes of a page, the step of a scan.
    pub fn page_size(&self) -> u64 {
        self.header.as_ref().map_or(4096, |header| header.page_size)
    }

    /// The least ns that latencies tell apart: the longest step of the clock sources there were.
    pub fn clock_step(&self) -> u64 {
        let first = self.header.as_ref().map_or(1, |header| header.host.clock_step());
        let later = self.marks.iter().filter_map(|mark| mark.clock.as_ref());
        later.map(|clock| clock::step(Some(&clock.source), clock.step)).fold(first, u64::max)
    }

    /// Where the window ends, monotonic ns.
    pub fn end(&self) -> u64 {
        match self.cursor {
            Cursor::Newest => u64::MAX,
            Cursor::At(at) => at,
        }
    }

    /// How the view's rows are looked at.
    pub fn look(&self) -> &Look {
        &self.looks[self.view]
    }

    /// The source grows while we look.
    pub fn is_live(&self) -> bool {
        self.setup.live && !matches!(self.state, State::Ended(_) | State::Failed(_))
    }

    /// Where the cursor stands in the whole, 0 to 1.
    pub fn position(&self) -> Option<(Instant, Instant, Instant)> {
        let (first, last) = (self.timeline.oldest()?.at, self.timeline.newest()?.at);
        let here = match self.cursor {
            Cursor::Newest => last,
            Cursor::At(at) => self.timeline.at(at)?.at,
        };
        Some((first, here, last))
    }

    fn tick(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.last_tick);
        self.last_tick = now;
        if self.message.as_ref().is_some_and(|(_, until)| *until <= now) {
            self.message = None;
        }
        if !self.playing {
            return;
        }
        let (Cursor::At(at), Some(newest)) = (self.cursor, self.timeline.newest()) else { return };
        let step = passed.as_secs_f64() * f64::from(self.speed).exp2();
        let step = u64::try_from(Duration::from_secs_f64(step.min(1e6)).as_nanos()).unwrap_or(u64::MAX);
        let next = at.saturating_add(step);
        if next < newest.at.monotonic {
            self.cursor = Cursor::At(next);
        } else {
            self.cursor = Cursor::Newest;
            self.playing = false;
        }
    }

    fn feed(&mut self, feed: Feed) {
        match feed {
            Feed::Started(header) => {
                let flow = header.sites.keys().map(|site| (site.clone(), <_>::default())).collect();
                let mut base = Sample { at: header.started, ..Sample::default() };
                base.counters.flow = flow;
                self.timeline.push(base, &[]);
                self.header = Some(*header);
                self.state = State::Running;
            }
            Feed::Sample(sample) => {
                let pinned = self.shown.as_ref().filter(|_| self.cursor != Cursor::Newest);
                let ends = pinned.map(|shown| [shown.window.from.monotonic, shown.window.to.monotonic]);
                let [from, to] = ends.unwrap_or_default();
                self.timeline.push(*sample, &[from, to, self.floor]);
            }
            Feed::Calls(calls) => calls.into_iter().for_each(|call: Call| self.calls.push(call)),
            Feed::Mark(mark) => {
                if let Some(header) = &mut self.header {
                    header.changed(&mark);
                }
                if self.marks.len() < MOST_MARKS {
                    self.marks.push(*mark);
                }
            }
            Feed::Driver(driver) => self.driver = Some(*driver),
            Feed::Output(line) => {
                self.output.push_back(super::text::cells(&line));
                if self.output.len() > OUTPUT_LINES {
                    self.output.pop_front();
                }
            }
            Feed::CommandEnded(how) => self.command_ended = Some(how),
            Feed::Ended(ended) => self.state = State::Ended(ended),
            Feed::Failed(why) => self.state = State::Failed(why),
        }
    }

    fn key(&mut self, key: Key, context: &Context) -> Option<Effect> {
        if self.overlay == Overlay::Filter {
            self.type_filter(key);
            return (key == Key::Ctrl('c')).then_some(Effect::Quit);
        }
        let action = key::action(key)?;
        match action {
            Action::Quit => return Some(Effect::Quit),
            Action::Suspend => return Some(Effect::Suspend),
            Action::Export => return Some(Effect::Export),
            _ => self.act(action, context),
        }
        None
    }

    fn act(&mut self, action: Action, context: &Context) {
        match action {
            Action::View(view) => self.go_to(view),
            Action::NextView => self.go_to((self.view + 1) % views::ALL.len()),
            Action::PreviousView => self.go_to((self.view + views::ALL.len() - 1) % views::ALL.len()),
            Action::Up => self.scroll(-1, context),
            Action::Down => self.scroll(1, context),
            Action::PageUp => self.scroll(-10, context),
            Action::PageDown => self.scroll(10, context),
            Action::First => self.scroll(isize::MIN, context),
            Action::Last => self.scroll(isize::MAX, context),
            Action::SortLeft if context.columns == 0 => self.step(-1),
            Action::SortRight if context.columns == 0 => self.step(1),
            Action::SortLeft => self.sort_by(context, context.columns - 1),
            Action::SortRight | Action::Sort => self.sort_by(context, 1),
            Action::Reverse => self.looks[self.view].sort = Some((context.sort.0, !context.sort.1)),
            Action::Filter if context.columns > 0 => self.overlay = Overlay::Filter,
            Action::Details if context.rows > 0 => {
                self.overlay =
                    if self.overlay == Overlay::Details { Overlay::None } else { Overlay::Details };
            }
            Action::Help => {
                self.overlay =
                    if matches!(self.overlay, Overlay::Help(_)) { Overlay::None } else { Overlay::Help(0) };
            }
            Action::Back => self.back(),
            Action::Window => self.length = next(&Length::ALL, self.length),
            Action::Units => self.units = next(&Units::ALL, self.units),
            Action::Theme => self.theme = (self.theme + 1) % THEMES.len(),
            Action::Site => self.scans_first = !self.scans_first,
            _ => self.travel(action, context.now),
        }
    }

    /// What moves in time.
    fn travel(&mut self, action: Action, now: Duration) {
        match action {
            Action::Freeze => self.freeze_or_play(),
            Action::StepBack => self.step(-1),
            Action::StepOn => self.step(1),
            Action::SeekBack => self.seek(-0.05),
            Action::SeekOn => self.seek(0.05),
            Action::ToBegin => self.seek_to_share(0.0),
            Action::ToEnd => (self.cursor, self.playing) = (Cursor::Newest, false),
            Action::Faster => self.speed = (self.speed + 1).min(10),
            Action::Slower => self.speed = (self.speed - 1).max(-3),
            Action::NextMark => self.go_to_mark(|marks, here| marks.filter(|&at| at > here).min()),
            Action::PreviousMark => self.go_to_mark(|marks, here| marks.filter(|&at| at < here).max()),
            Action::Mark => self.mark(now),
            Action::Reset => self.reset(now),
            _ => {}
        }
    }

    fn go_to(&mut self, view: usize) {
        if view < views::ALL.len() {
            self.view = view;
            self.overlay = Overlay::None;
        }
    }

    fn back(&mut self) {
        if self.overlay != Overlay::None {
            self.overlay = Overlay::None;
        } else if !self.looks[self.view].filter.is_empty() {
            self.looks[self.view].filter.clear();
        } else {
            (self.cursor, self.playing) = (Cursor::Newest, false);
        }
    }

    fn type_filter(&mut self, key: Key) {
        let filter = &mut self.looks[self.view].filter;
        match key {
            Key::Char(c) if !c.is_control() && filter.chars().count() < 32 => filter.push(c),
            Key::Backspace => drop(filter.pop()),
            Key::Enter => self.overlay = Overlay::None,
            Key::Esc => {
                filter.clear();
                self.overlay = Overlay::None;
            }
            _ => {}
        }
        self.looks[self.view].selected = 0;
    }

    fn scroll(&mut self, rows: isize, context: &Context) {
        let last = context.rows.saturating_sub(1);
        if let Overlay::Help(line) = &mut self.overlay {
            *line = (*line).min(last).saturating_add_signed(rows).min(last);
            return;
        }
        let selected = &mut self.looks[self.view].selected;
        *selected = (*selected).min(last).saturating_add_signed(rows).min(last);
    }

    fn sort_by(&mut self, context: &Context, on: usize) {
        if context.columns > 0 {
            let column = (context.sort.0 + on) % context.columns;
            // Names begin with A, figures with the largest.
            self.looks[self.view].sort = Some((column, column != 0));
        }
    }

    fn freeze_or_play(&mut self) {
        let Some((first, here, last)) = self.position() else { return };
        if self.is_live() {
            self.playing = false;
            self.cursor = match self.cursor {
                Cursor::Newest => Cursor::At(last.monotonic),
                Cursor::At(_) => Cursor::Newest,
            };
        } else if self.playing {
            self.playing = false;
        } else {
            let from = if here == last { first } else { here };
            (self.playing, self.cursor) = (true, Cursor::At(from.monotonic));
        }
    }

    fn step(&mut self, steps: isize) {
        let Some((_, here, last)) = self.position() else { return };
        let Some(there) = self.timeline.step(here.monotonic, steps) else { return };
        self.playing = false;
        let pinned = there != last || (self.cursor != Cursor::Newest && self.is_live());
        self.cursor = if pinned { Cursor::At(there.monotonic) } else { Cursor::Newest };
    }

    fn seek(&mut self, share: f64) {
        let Some((first, here, last)) = self.position() else { return };
        let whole = (last.monotonic - first.monotonic).max(1) as f64;
        self.seek_to_share((here.monotonic - first.monotonic) as f64 / whole + share);
    }

    fn seek_to_share(&mut self, share: f64) {
        let Some((first, _, last)) = self.position() else { return };
        if share >= 1.0 {
            self.cursor = Cursor::Newest;
            return;
        }
        let whole = Duration::from_nanos(last.monotonic - first.monotonic);
        let offset = u64::try_from(whole.mul_f64(share.clamp(0.0, 1.0)).as_nanos()).unwrap_or(0);
        self.cursor = Cursor::At(first.monotonic + offset);
    }

    fn go_to_mark(&mut self, pick: fn(&mut dyn Iterator<Item = u64>, u64) -> Option<u64>) {
        let Some((_, here, _)) = self.position() else { return };
        let here = if let Cursor::At(at) = self.cursor { at } else { here.monotonic };
        if let Some(at) = pick(&mut self.marks.iter().map(|mark| mark.at.monotonic), here) {
            (self.playing, self.cursor) = (false, Cursor::At(at));
        }
    }

    fn mark(&mut self, now: Duration) {
        let Some((_, here, _)) = self.position() else { return };
        if self.marks.len() < MOST_MARKS {
            let text = format!("mark {}", self.marks.len() + 1);
            self.say(format!("{text} set; n and N go from mark to mark"), now);
            self.marks.push(Mark { at: here, text, ..Mark::default() });
        }
    }

    fn reset(&mut self, now: Duration) {
        let Some((_, here, _)) = self.position() else { return };
        let oldest = self.timeline.oldest().map_or(0, |sample| sample.at.monotonic);
        if self.floor > oldest || here.monotonic == oldest {
            self.floor = 0;
            self.say("the window begins where the recording does".to_owned(), now);
        } else {
            self.floor = here.monotonic;
            self.say("the window begins here; r again: at the beginning".to_owned(), now);
        }
    }

    /// Show a message for a while.
    pub fn say(&mut self, text: String, now: Duration) {
        self.message = Some((text, now + MESSAGE));
    }
}

fn next<T: Copy + PartialEq>(all: &[T], now: T) -> T {
    let place = all.iter().position(|item| *item == now).unwrap_or(0);
    all[(place + 1) % all.len()]
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;
