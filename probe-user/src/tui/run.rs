//! The loop: wait, update, draw. The only file beside `terminal` that knows a terminal, a clock and signals.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use crossterm::execute;
use crossterm::terminal::{BeginSynchronizedUpdate, EndSynchronizedUpdate};
use probe_model::origin::Header;
use probe_model::window::Window;
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::{Position, Rect};
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;

use super::app::{self, App, Context, Effect, Msg};
use super::canvas::Target;
use super::feed::Feed;
use super::key::Key;
use super::screen::{self, Ability};
use super::terminal::{self, Guard, Screen};
use super::views;

/// Messages that wait to be handled. Live sources merge beyond it.
const QUEUE: usize = 256;
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
}

enum Input {
    Terminal(Event),
    Signal(i32),
    Hangup,
    Feed(Feed),
}

/// Hands news to the dashboard, from another thread.
#[derive(Clone)]
pub struct Feeder(SyncSender<Input>);

impl Feeder {
    /// Hand over, and wait while the dashboard is busy; false when it is gone.
    pub fn send(&self, feed: Feed) -> bool {
        self.0.send(Input::Feed(feed)).is_ok()
    }

    /// Hand over if there is room at once; else it comes back. Nothing comes back when the dashboard is gone.
    pub fn offer(&self, feed: Feed) -> Result<(), Feed> {
        match self.0.try_send(Input::Feed(feed)) {
            Err(TrySendError::Full(Input::Feed(feed))) => Err(feed),
            _ => Ok(()),
        }
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
pub fn run(
    setup: Setup,
    start: impl FnOnce(Feeder),
    mut export: impl FnMut(&Exported<'_>) -> Result<String, String>,
) -> Result<usize, TuiError> {
    require_terminal()?;
    let failed = |operation| move |source| TuiError::Terminal { operation, source };
    let (sender, inputs) = sync_channel(QUEUE);
    let finished = Arc::new(AtomicBool::new(false));
    watch_signals(sender.clone(), Arc::clone(&finished)).map_err(failed("watch signals for"))?;
    let mut screen = terminal::enter(setup.mouse).map_err(failed("switch"))?;
    let guard = Guard;
    watch_terminal(sender.clone()).map_err(failed("read"))?;
    start(Feeder(sender));
    let mut running = Running {
        app: App::new(setup.app),
        ability: setup.ability,
        hits: Vec::new(),
        begin: Instant::now(),
        mouse: setup.mouse,
        frame: Buffer::empty(Rect::default()),
    };
    let ended = running.until_the_end(&mut screen, &inputs, setup.refresh, &mut export);
    drop(guard);
    finished.store(true, Ordering::SeqCst);
    match ended {
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
            Input::Feed(feed) => Msg::Feed(feed),
            Input::Signal(SIGTSTP) => return Ok(Some(Effect::Suspend)),
            Input::Signal(SIGCONT) => {
                // Stopped by a signal that nobody can catch, the shell has had the terminal.
                terminal::take(self.mouse)?;
                redraw(screen)?;
                return Ok(None);
            }
            Input::Signal(SIGWINCH) => return Ok(None),
            Input::Signal(_) | Input::Hangup => return Ok(Some(Effect::Quit)),
            Input::Terminal(event) => match self.message(&event) {
                Some(msg) => msg,
                None => return Ok(None),
            },
        };
        let table = match msg {
            Msg::Feed(_) => None,
            _ => views::arranged(&self.app),
        };
        let context = Context {
            now: self.begin.elapsed(),
            rows: table.as_ref().map_or(0, |table| table.rows.len()),
            columns: table.as_ref().map_or(0, |table| table.columns.len()),
            sort: table.map_or((0, false), |table| table.sort),
        };
        Ok(self.app.update(msg, &context))
    }

    fn draw(&mut self, screen: &mut Screen) -> io::Result<()> {
        self.app.update(Msg::Tick, &Context { now: self.begin.elapsed(), ..Context::default() });
        self.app.refresh();
        let (app, ability, hits, kept) = (&self.app, self.ability, &mut self.hits, &mut self.frame);
        // One update for the terminal: no half-drawn frame shows.
        execute!(screen.backend_mut(), BeginSynchronizedUpdate)?;
        screen.draw(|frame| {
            *hits = screen::draw(app, ability, frame.buffer_mut());
            kept.clone_from(frame.buffer_mut());
        })?;
        execute!(screen.backend_mut(), EndSynchronizedUpdate)
    }

    fn suspend(&mut self, screen: &mut Screen) -> io::Result<()> {
        terminal::restore();
        signal_hook::low_level::emulate_default_handler(SIGTSTP)?;
        terminal::take(self.mouse)?;
        redraw(screen)
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

    fn message(&self, event: &Event) -> Option<Msg> {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => logical(key).map(Msg::Key),
            Event::Mouse(mouse) => self.click(*mouse),
            _ => None,
        }
    }

    fn click(&self, mouse: MouseEvent) -> Option<Msg> {
        match mouse.kind {
            MouseEventKind::ScrollDown => return Some(Msg::Scroll(3)),
            MouseEventKind::ScrollUp => return Some(Msg::Scroll(-3)),
            MouseEventKind::Down(MouseButton::Left) | MouseEventKind::Drag(MouseButton::Left) => {}
            _ => return None,
        }
        let here = Position::new(mouse.column, mouse.row);
        let (area, target) = self.hits.iter().rev().find(|(area, _)| area.contains(here))?;
        Some(match target {
            Target::Tab(view) => Msg::Tab(*view),
            Target::Row(row) => Msg::Row(*row),
            Target::Timeline => {
                let width = f64::from(area.width.saturating_sub(1).max(1));
                Msg::Seek(f64::from(mouse.column - area.x) / width)
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

/// A key as the app knows keys.
fn logical(key: &KeyEvent) -> Option<Key> {
    Some(match key.code {
        KeyCode::Char(c) if key.modifiers.contains(KeyModifiers::CONTROL) => {
            Key::Ctrl(c.to_ascii_lowercase())
        }
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
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
fn watch_terminal(sender: SyncSender<Input>) -> io::Result<()> {
    let tty = terminal::tty()?;
    thread::Builder::new().name("keys".to_owned()).spawn(move || {
        loop {
            let mut ready = [PollFd::from_borrowed_fd(tty.as_fd(), PollFlags::IN)];
            match poll(&mut ready, None) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => break,
                Ok(_) => {}
            }
            let found = ready[0].revents();
            if found.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
                break;
            }
            while crossterm::event::poll(Duration::ZERO).unwrap_or(false) {
                let Ok(event) = crossterm::event::read() else { break };
                if sender.send(Input::Terminal(event)).is_err() {
                    return;
                }
            }
        }
        // Nobody is left to tell when this fails.
        let _ = sender.send(Input::Hangup);
    })?;
    Ok(())
}

/// Signals become messages; one that asks for the end is obeyed even when the terminal takes no output.
fn watch_signals(sender: SyncSender<Input>, finished: Arc<AtomicBool>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if matches!(signal, SIGINT | SIGTERM | SIGHUP | SIGQUIT) {
                let finished = Arc::clone(&finished);
                thread::spawn(move || {
                    thread::sleep(PATIENCE);
                    if !finished.load(Ordering::SeqCst) {
                        terminal::restore_without_waiting();
                        std::process::exit(128 + signal);
                    }
                });
            }
            match sender.try_send(Input::Signal(signal)) {
                Ok(()) => {}
                Err(TrySendError::Disconnected(_)) => return,
                // It waits its turn elsewhere: the next signal must not wait for it.
                Err(TrySendError::Full(input)) => {
                    let sender = sender.clone();
                    thread::spawn(move || sender.send(input).is_ok());
                }
            }
        }
    })?;
    Ok(())
}
