//! The loop: wait, update, draw. The only file beside `terminal` that knows a terminal, a clock and signals.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crossterm::execute;
use crossterm::terminal::{BeginSynchronizedUpdate, EndSynchronizedUpdate};
use probe_model::origin::Header;
use probe_model::window::Window;
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::{Position, Rect};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;

use super::app::{self, App, Context, Effect, Msg, Overlay};
use super::canvas::Target;
use super::feed::Feed;
use super::input::{Parser, Typed};
use super::key::{self, Action, Key};
use super::screen::{self, Ability};
use super::terminal::{self, Guard, Screen};
use super::views;

/// News that wait to be handled. Live sources merge beyond it.
const QUEUE: usize = 256;
/// The rest of a key's sequence comes within it.
const REST: Duration = Duration::from_millis(25);
/// A terminal that takes no output for so long after we were told to end is given up.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How the dashboard runs.
#[derive(Debug)]
pub struct Setup {
    pub app: app::Setup,
    pub ability: Ability,
    /// Time between two frames at least.
    pub refresh: Duration,
    pub mouse: bool,
}

/// What is exported.
pub struct Exported<'a> {
    /// The screen, as text.
    pub text: String,
    /// Name of the view.
    pub view: &'static str,
    pub header: Option<&'a Header>,
    pub window: Option<&'a Window>,
}

/// Why there is no dashboard (any more).
#[derive(Debug, thiserror::Error)]
pub enum TuiError {
    #[error("standard output is not a terminal: `iovascope report` says the same without one")]
    NoTerminal,
    #[error("cannot {operation} the terminal")]
    Terminal { operation: &'static str, source: io::Error },
    #[error("a thread of the dashboard failed: its message stands above; please report it")]
    Panicked,
}

enum Input {
    Typed(Typed),
    Signal(i32),
    Hangup,
    Panicked,
    Feed(Feed),
}

/// Hands news to the dashboard, from another thread. Only news are limited: keys and signals never wait
/// behind them for room.
#[derive(Clone)]
pub struct Feeder {
    inputs: Sender<Input>,
    /// One for each piece of news under way.
    room: SyncSender<()>,
}

/// What the threads beside the loop know of it.
#[derive(Default)]
struct Pulse {
    /// The loop has ended; the terminal may still have to be given back.
    ending: AtomicBool,
    /// And that too.
    finished: AtomicBool,
    /// Keys and clicks that it has taken.
    taken: AtomicU64,
    /// Letters are text.
    types: AtomicBool,
    /// Writings to the terminal, begun and ended: odd while one is under way.
    writings: AtomicU64,
}

impl Pulse {
    /// Write to the terminal, which may hang.
    fn writing<T>(&self, write: impl FnOnce() -> T) -> T {
        self.writings.fetch_add(1, Ordering::SeqCst);
        let written = write();
        self.writings.fetch_add(1, Ordering::SeqCst);
        written
    }

    /// The number of the writing that is under way.
    fn hangs_in(&self) -> Option<u64> {
        Some(self.writings.load(Ordering::SeqCst)).filter(|number| number % 2 == 1)
    }
}

impl Feeder {
    /// Hand over, and wait while the dashboard is busy; false when it is gone.
    pub fn send(&self, feed: Feed) -> bool {
        self.room.send(()).is_ok() && self.inputs.send(Input::Feed(feed)).is_ok()
    }

    /// Hand over if there is room at once; else it comes back. Nothing comes back when the dashboard is gone.
    pub fn offer(&self, feed: Feed) -> Result<(), Feed> {
        match self.room.try_send(()) {
            Err(TrySendError::Full(())) => return Err(feed),
            Err(TrySendError::Disconnected(())) => {}
            // Gone in this very moment: there is nobody to tell.
            Ok(()) => drop(self.inputs.send(Input::Feed(feed))),
        }
        Ok(())
    }
}

/// Whether a dashboard can run here at all.
pub fn require_terminal() -> Result<(), TuiError> {
    if !io::stdout().is_terminal() {
        return Err(TuiError::NoTerminal);
    }
    terminal::tty().map(drop).map_err(|source| TuiError::Terminal { operation: "open", source })
}

/// Run until the user, a signal or the terminal ends it; the number of the last view.
///
/// `start` is called first: a terminal that takes no output while it is being taken holds no source up.
pub fn run(
    setup: Setup,
    start: impl FnOnce(Feeder),
    mut export: impl FnMut(&Exported<'_>) -> Result<String, String>,
) -> Result<usize, TuiError> {
    require_terminal()?;
    let failed = |operation| move |source| TuiError::Terminal { operation, source };
    let (sender, inputs) = channel();
    let (room, news) = sync_channel(QUEUE);
    let pulse = Arc::new(Pulse::default());
    watch_signals(sender.clone(), Arc::clone(&pulse)).map_err(failed("watch signals for"))?;
    watch_terminal(sender.clone(), Arc::clone(&pulse)).map_err(failed("read"))?;
    start(Feeder { inputs: sender.clone(), room });
    let guard = Guard;
    let panicked = move || drop(sender.send(Input::Panicked));
    let entered = pulse.writing(|| terminal::enter(setup.mouse, panicked));
    let mut screen = entered.map_err(failed("switch"))?;
    let mut running = Running {
        app: App::new(setup.app),
        ability: setup.ability,
        hits: Vec::new(),
        begin: Instant::now(),
        mouse: setup.mouse,
        frame: Buffer::empty(Rect::default()),
        pulse: Arc::clone(&pulse),
        news,
        panicked: false,
    };
    let ended = running.until_the_end(&mut screen, &inputs, setup.refresh, &mut export);
    pulse.ending.store(true, Ordering::SeqCst);
    pulse.writing(|| drop(guard));
    pulse.finished.store(true, Ordering::SeqCst);
    match ended {
        _ if running.panicked => Err(TuiError::Panicked),
        // The terminal is gone, and with it whom to tell.
        Err(_) | Ok(()) => Ok(running.app.view),
    }
}

struct Running {
    app: App,
    ability: Ability,
    hits: Vec<(Rect, Target)>,
    begin: Instant,
    mouse: bool,
    /// What is on the screen.
    frame: Buffer,
    pulse: Arc<Pulse>,
    /// One for each piece of news that is under way: taking it makes room for another.
    news: Receiver<()>,
    panicked: bool,
}

impl Running {
    fn until_the_end(
        &mut self,
        screen: &mut Screen,
        inputs: &Receiver<Input>,
        refresh: Duration,
        export: &mut impl FnMut(&Exported<'_>) -> Result<String, String>,
    ) -> io::Result<()> {
        let mut next = Instant::now();
        let mut dirty = true;
        loop {
            let alive = self.app.playing || self.app.message.is_some();
            let wait = match (dirty, alive) {
                (true, _) => next.saturating_duration_since(Instant::now()),
                (false, true) => refresh,
                // Nothing moves: nothing is drawn.
                (false, false) => Duration::from_hours(1),
            };
            match inputs.recv_timeout(wait) {
                Ok(input) => {
                    // A key is answered at once, news at the pace of frames.
                    if !matches!(input, Input::Feed(_)) {
                        next = Instant::now();
                    }
                    if let Some(effect) = self.take(input, screen)? {
                        match effect {
                            Effect::Quit => return Ok(()),
                            Effect::Suspend => self.suspend(screen)?,
                            Effect::Export => self.export(export),
                        }
                    }
                    dirty = true;
                }
                Err(RecvTimeoutError::Timeout) => dirty |= alive,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if dirty && Instant::now() >= next {
                self.draw(screen)?;
                dirty = false;
                next = Instant::now() + refresh;
            }
        }
    }

    fn take(&mut self, input: Input, screen: &mut Screen) -> io::Result<Option<Effect>> {
        let msg = match input {
            Input::Feed(feed) => {
                // It was put there before the news itself.
                let _ = self.news.try_recv();
                Msg::Feed(feed)
            }
            Input::Panicked => {
                self.panicked = true;
                return Ok(Some(Effect::Quit));
            }
            Input::Signal(SIGTSTP) => return Ok(Some(Effect::Suspend)),
            Input::Signal(SIGCONT) => {
                // Stopped by a signal that nobody can catch, the shell has had the terminal.
                self.pulse.writing(|| terminal::take(self.mouse))?;
                self.pulse.writing(|| redraw(screen))?;
                return Ok(None);
            }
            Input::Signal(SIGWINCH) => return Ok(None),
            Input::Signal(_) | Input::Hangup => return Ok(Some(Effect::Quit)),
            Input::Typed(typed) => {
                self.pulse.taken.fetch_add(1, Ordering::SeqCst);
                match typed {
                    Typed::Key(key) => Msg::Key(key),
                    Typed::Wheel(rows) => Msg::Scroll(rows),
                    Typed::Click(column, row) => match self.click(column, row) {
                        Some(msg) => msg,
                        None => return Ok(None),
                    },
                }
            }
        };
        let table = match msg {
            Msg::Feed(_) => None,
            _ => views::arranged(&self.app),
        };
        // The help can stand on as many lines as do not fit, and on the first.
        let help = screen::help_lines(&self.app, self.frame.area).map(|lines| lines + 1);
        let context = Context {
            now: self.begin.elapsed(),
            rows: help.unwrap_or_else(|| table.as_ref().map_or(0, |table| table.rows.len())),
            columns: table.as_ref().map_or(0, |table| table.columns.len()),
            sort: table.map_or((0, false), |table| table.sort),
        };
        let effect = self.app.update(msg, &context);
        self.pulse.types.store(self.app.overlay == Overlay::Filter, Ordering::SeqCst);
        Ok(effect)
    }

    fn draw(&mut self, screen: &mut Screen) -> io::Result<()> {
        self.app.update(Msg::Tick, &Context { now: self.begin.elapsed(), ..Context::default() });
        self.app.refresh();
        // A panic elsewhere has given it back: the message stays to be read.
        if !terminal::is_ours() {
            return Ok(());
        }
        let (app, ability, hits, kept) = (&self.app, self.ability, &mut self.hits, &mut self.frame);
        // One update for the terminal: no half-drawn frame shows.
        self.pulse.writing(|| {
            execute!(screen.backend_mut(), BeginSynchronizedUpdate)?;
            screen.draw(|frame| {
                *hits = screen::draw(app, ability, frame.buffer_mut());
                kept.clone_from(frame.buffer_mut());
            })?;
            execute!(screen.backend_mut(), EndSynchronizedUpdate)
        })
    }

    fn suspend(&mut self, screen: &mut Screen) -> io::Result<()> {
        self.pulse.writing(terminal::restore);
        signal_hook::low_level::emulate_default_handler(SIGTSTP)?;
        self.pulse.writing(|| terminal::take(self.mouse))?;
        self.pulse.writing(|| redraw(screen))
    }

    fn export(&mut self, export: &mut impl FnMut(&Exported<'_>) -> Result<String, String>) {
        let exported = Exported {
            text: as_text(&self.frame),
            view: views::ALL[self.app.view].name(),
            header: self.app.header.as_ref(),
            window: self.app.shown.as_ref().map(|shown| &shown.window),
        };
        let said = export(&exported).unwrap_or_else(|why| format!("not exported: {why}"));
        self.app.say(said, self.begin.elapsed());
    }

    fn click(&self, column: u16, row: u16) -> Option<Msg> {
        let here = Position::new(column, row);
        let (area, target) = self.hits.iter().rev().find(|(area, _)| area.contains(here))?;
        Some(match target {
            Target::Tab(view) => Msg::Tab(*view),
            Target::Row(row) => Msg::Row(*row),
            Target::Timeline => {
                let width = f64::from(area.width.saturating_sub(1).max(1));
                Msg::Seek(f64::from(column - area.x) / width)
            }
        })
    }
}

/// Forget what is on the screen. Not by `Terminal::clear`, which asks the terminal where its cursor is: the
/// answer would come among the keys.
fn redraw(screen: &mut Screen) -> io::Result<()> {
    let size = screen.size()?;
    screen.resize(Rect::new(0, 0, size.width, size.height))
}

/// The screen without its colours, a line a row.
pub(super) fn as_text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        let row: String = (buffer.area.left()..buffer.area.right())
            .filter_map(|x| buffer.cell((x, y)))
            .map(Cell::symbol)
            .collect();
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// Keys and the end of the terminal, from a thread of their own.
fn watch_terminal(sender: Sender<Input>, pulse: Arc<Pulse>) -> io::Result<()> {
    let tty = terminal::tty()?;
    thread::Builder::new().name("keys".to_owned()).spawn(move || {
        let mut parser = Parser::default();
        let mut sent = 0;
        let mut hand_over = |typed| {
            sent += 1;
            if asks_for_the_end(typed, &pulse) {
                end_unless(&pulse, 0, move |pulse| {
                    pulse.taken.load(Ordering::SeqCst) >= sent && !pulse.ending.load(Ordering::SeqCst)
                });
            }
            sender.send(Input::Typed(typed)).is_ok()
        };
        loop {
            let mut ready = [PollFd::from_borrowed_fd(tty.as_fd(), PollFlags::IN)];
            let rest = Timespec::try_from(REST).ok().filter(|_| parser.is_waiting());
            match poll(&mut ready, rest.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => break,
                Ok(0) => {
                    if !parser.settle().is_none_or(&mut hand_over) {
                        return;
                    }
                    continue;
                }
                Ok(_) => {}
            }
            if ready[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
                break;
            }
            let mut bytes = [0; 1024];
            match rustix::io::read(&tty, &mut bytes) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(0) | Err(_) => break,
                Ok(count) => {
                    if !parser.feed(&bytes[..count]).into_iter().all(&mut hand_over) {
                        return;
                    }
                }
            }
        }
        // Nobody is left to tell when this fails.
        let _ = sender.send(Input::Hangup);
    })?;
    Ok(())
}

fn asks_for_the_end(typed: Typed, pulse: &Pulse) -> bool {
    let Typed::Key(key) = typed else { return false };
    key::action(key) == Some(Action::Quit) && (key == Key::Ctrl('c') || !pulse.types.load(Ordering::SeqCst))
}

/// End the program unless it ends by itself, or the question was `answered` otherwise. Only a terminal that takes
/// no output is a reason: one writing lasts for as long as our patience. A loop that is merely slow has time.
fn end_unless(pulse: &Arc<Pulse>, status: i32, answered: impl Fn(&Pulse) -> bool + Send + 'static) {
    let pulse = Arc::clone(pulse);
    thread::spawn(move || {
        loop {
            let before = pulse.hangs_in();
            thread::sleep(PATIENCE);
            if pulse.finished.load(Ordering::SeqCst) || answered(&pulse) {
                return;
            }
            if before.is_some() && pulse.hangs_in() == before {
                terminal::restore_without_waiting();
                std::process::exit(status);
            }
        }
    });
}

/// Signals become messages; one that asks for the end is answered even when the terminal takes no output.
fn watch_signals(sender: Sender<Input>, pulse: Arc<Pulse>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if matches!(signal, SIGINT | SIGTERM | SIGHUP | SIGQUIT) {
                end_unless(&pulse, 128 + signal, |_| false);
            }
            if sender.send(Input::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}
