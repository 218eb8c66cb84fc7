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

/// Ctrl-]: every other key, Ctrl-C too, is the guest's, so a guest that hangs needs one that is not.
const ESCAPE: u8 = 0x1d;

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

    /// Carries bytes both ways until the guest's side ends; [`ESCAPE`] calls `stop` instead.
    pub(super) fn connect(guest: UnixStream, stop: impl FnOnce() + Send + 'static) -> Result<()> {
        let mut to_guest = guest.try_clone().context("cannot share the guest's terminal")?;
        let mut from_guest = guest;
        thread::spawn(move || {
            if copy(io::stdin(), &mut to_guest, Some(ESCAPE)) == End::Escape {
                stop();
            }
        });
        thread::spawn(move || copy(&mut from_guest, &mut io::stdout(), None));
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

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// A side is gone: there is nobody left to tell.
    Stream,
    Escape,
}

/// Copies without waiting for a line's end, up to the end of a side or the byte `escape`.
fn copy(mut from: impl Read, to: &mut impl Write, escape: Option<u8>) -> End {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..count];
        if escape.is_some_and(|escape| bytes.contains(&escape)) {
            return End::Escape;
        }
        if to.write_all(bytes).and_then(|()| to.flush()).is_err() {
            break;
        }
    }
    End::Stream
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_escape_byte_stops_a_copy() {
        let mut sink = Vec::new();
        assert_eq!(copy(&b"\x03abc"[..], &mut sink, Some(ESCAPE)), End::Stream);
        assert_eq!(copy(&b"\x1d"[..], &mut sink, Some(ESCAPE)), End::Escape);
        assert_eq!(copy(&b"\x1d"[..], &mut sink, None), End::Stream);
        assert_eq!(sink, b"\x03abc\x1d");
    }
}
