//! The terminal: raw while the dashboard lasts, and as it was afterwards, whatever ends the program.
//!
//! Owns the saved settings. Everything that leaves goes through [`restore`]: the end, an error, a panic, a
//! signal, a stop. What cannot be caught (SIGKILL) is the shell's to repair.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::time::Duration;

use crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The settings before us; present while the terminal is ours.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

pub(super) type Screen = Terminal<CrosstermBackend<BufWriter<Stdout>>>;

/// Where keys come from: standard input, or the controlling terminal where that is a pipe.
#[derive(Debug)]
pub(super) enum Tty {
    Stdin(io::Stdin),
    Opened(File),
}

impl AsFd for Tty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stdin(stdin) => stdin.as_fd(),
            Self::Opened(file) => file.as_fd(),
        }
    }
}

pub(super) fn tty() -> io::Result<Tty> {
    if io::stdin().is_terminal() {
        return Ok(Tty::Stdin(io::stdin()));
    }
    OpenOptions::new().read(true).write(true).open("/dev/tty").map(Tty::Opened)
}

/// Make the terminal ours. On panic it is given back before the message is shown; `elsewhere` is told of one
/// in another thread, which does not end the program by itself.
pub(super) fn enter(mouse: bool, elsewhere: impl Fn() + Send + Sync + 'static) -> io::Result<Screen> {
    let before = std::panic::take_hook();
    let ours = std::thread::current().id();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        before(panic);
        if std::thread::current().id() != ours {
            elsewhere();
        }
    }));
    take(mouse)?;
    Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(1 << 16, io::stdout())))
}

/// Take the terminal, the first time or again after a stop.
pub(super) fn take(mouse: bool) -> io::Result<()> {
    let tty = tty()?;
    let before = tcgetattr(&tty)?;
    let mut raw = before.clone();
    raw.make_raw();
    if let Ok(mut saved) = SAVED.lock() {
        // After a stop the first settings are still the ones to restore.
        saved.get_or_insert(before);
    }
    tcsetattr(&tty, OptionalActions::Now, &raw)?;
    let mut out = io::stdout();
    execute!(out, EnterAlternateScreen, cursor::Hide)?;
    if mouse {
        execute!(out, EnableMouseCapture)?;
    }
    Ok(())
}

/// Whether the terminal is ours now.
pub(super) fn is_ours() -> bool {
    SAVED.lock().is_ok_and(|saved| saved.is_some())
}

/// Give the terminal back; the second time it does nothing.
pub(super) fn restore() {
    let saved = SAVED.lock().map_or(None, |mut saved| saved.take());
    let Some(before) = saved else { return };
    // A terminal that is gone needs no restoring. The settings first: writing may hang.
    if let Ok(tty) = tty() {
        let _ = tcsetattr(&tty, OptionalActions::Now, &before);
    }
    let _ = execute!(io::stdout(), DisableMouseCapture, cursor::Show, LeaveAlternateScreen);
    let _ = io::stdout().flush();
}

/// Give the terminal back although its writer may hang: the settings first, then what can be written soon.
pub(super) fn restore_without_waiting() {
    let saved = SAVED.lock().map_or(None, |mut saved| saved.take());
    let (Some(before), Ok(tty)) = (saved, tty()) else { return };
    let _ = tcsetattr(&tty, OptionalActions::Now, &before);
    let writer = std::thread::spawn(|| {
        // Not through `io::stdout`, whose lock the hanging writer holds.
        let Ok(mut out) = OpenOptions::new().write(true).open("/dev/tty") else { return };
        let _ = execute!(out, DisableMouseCapture, cursor::Show, LeaveAlternateScreen);
    });
    std::thread::sleep(Duration::from_millis(100));
    drop(writer);
}

/// Restores when it goes out of scope.
pub(super) struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}
