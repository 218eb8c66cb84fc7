//! This terminal, handed to the guest: raw while it lasts, and restored whatever happens to this program.

use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::termios::tcgetwinsize;

use crate::tool;

/// Restores the terminal when its standard input ends: at our order, or because we are gone, killed even.
/// By then it may be a background process, which may write to the terminal only if it ignores SIGTTOU.
const RESTORER: &str = r#"trap "" TTOU INT QUIT TERM HUP TSTP; read -r _; stty "$1" </dev/tty"#;

/// A raw terminal. Dropping it restores the terminal.
pub(super) struct Raw {
    restorer: Child,
}

impl Raw {
    pub(super) fn enter() -> Result<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            bail!("`lab shell` needs a terminal; for a program without one there is `lab run -- COMMAND`");
        }
        let stty = |arguments: &[&str]| {
            let mut command = Command::new("sh");
            command.args(["-c", r#"stty "$@" </dev/tty"#, "sh"]).args(arguments);
            tool::output(&mut command)
        };
        let saved = stty(&["-g"]).context("cannot read the terminal's settings")?;
        let restorer = Command::new("sh")
            .args(["-c", RESTORER, "sh", saved.trim()])
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot prepare to restore the terminal")?;
        let raw = Self { restorer };
        stty(&["raw", "-echo"]).context("cannot switch the terminal to raw mode")?;
        Ok(raw)
    }

    /// Carries bytes both ways until the guest's side ends.
    pub(super) fn connect(guest: UnixStream) -> Result<()> {
        let mut to_guest = guest.try_clone().context("cannot share the guest's terminal")?;
        let mut from_guest = guest;
        thread::spawn(move || copy(io::stdin(), &mut to_guest));
        thread::spawn(move || copy(&mut from_guest, &mut io::stdout()));
        Ok(())
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        drop(self.restorer.stdin.take());
        let _ = self.restorer.wait();
    }
}

/// Rows and columns, where standard output is a terminal that knows them.
pub(super) fn size() -> (u16, u16) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
        _ => (24, 80),
    }
}

/// Copies without waiting for a line's end. An end on either side ends it: there is nobody left to tell.
fn copy(mut from: impl Read, to: &mut impl Write) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}
