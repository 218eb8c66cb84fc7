//! The dashboard on a real pseudo-terminal: whatever ends or stops it, the terminal is as it was before.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

/// Far longer than anything here takes: reaching it is a failure.
const DEADLINE: Duration = Duration::from_mins(1);

struct Session {
    master: Option<File>,
    slave: File,
    child: Option<Child>,
    pid: Pid,
    terminal: vt100::Parser,
    /// The terminal's settings before the dashboard.
    before: Termios,
}

impl Session {
    fn start() -> Self {
        Self::of(&["replay", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/mixed.iova")])
    }

    fn of(arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = File::from(open(&*name, flags, Mode::empty()).unwrap());
        tcsetwinsize(&slave, Winsize { ws_row: 30, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        // util-linux's setsid: a session of its own with this as its terminal.
        let child = Command::new("setsid")
            .args(["--ctty", env!("CARGO_BIN_EXE_iovascope")])
            .args(arguments)
            .env("TERM", "xterm-256color")
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let terminal = vt100::Parser::new(30, 120, 0);
        Self { master: Some(File::from(master)), slave, child: Some(child), pid, terminal, before }
    }

    /// Read until the screen is as it should be.
    fn wait_until(&mut self, what: &str, holds: impl Fn(&vt100::Screen) -> bool) {
        let timeout = Timespec::try_from(DEADLINE).unwrap();
        while !holds(self.terminal.screen()) {
            let master = self.master.as_mut().unwrap();
            let mut ready = [PollFd::new(&*master, PollFlags::IN)];
            let ready = poll(&mut ready, Some(&timeout)).unwrap();
            assert!(ready > 0, "{what}: not on the screen, but\n{}", self.terminal.screen().contents());
            let mut bytes = [0; 4096];
            let count = master.read(&mut bytes).unwrap();
            self.terminal.process(&bytes[..count]);
        }
    }

    fn wait_for(&mut self, words: &str) {
        self.wait_until(words, |screen| screen.alternate_screen() && screen.contents().contains(words));
    }

    fn wait_for_the_shell(&mut self) {
        self.wait_until("the shell's screen", |screen| !screen.alternate_screen() && !screen.hide_cursor());
    }

    fn keys(&mut self, keys: &str) {
        self.master.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
    }

    fn is_as_before(&self) -> bool {
        let modes = |t: &Termios| (t.input_modes, t.output_modes, t.control_modes, t.local_modes);
        modes(&tcgetattr(&self.slave).unwrap()) == modes(&self.before)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Only once the shell's screen is seen: a dashboard whose output nobody reads waits for a reader.
    fn end(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let (sender, ended) = channel();
        thread::spawn(move || sender.send(child.wait().unwrap()));
        ended.recv_timeout(DEADLINE).expect("it ends")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn every_way_to_end_gives_the_terminal_back() {
    let signals = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];
    let keys = ["q", "\x03"];
    for way in signals.map(Ok).into_iter().chain(keys.map(Err)) {
        let mut session = Session::start();
        session.wait_for("began");
        assert!(session.is_raw(), "keys come one by one");
        match way {
            Ok(signal) => session.signal(signal),
            Err(keys) => session.keys(keys),
        }
        session.wait_for_the_shell();
        assert!(session.end().success(), "{way:?}");
        assert!(session.is_as_before(), "{way:?}");
    }
}

#[test]
fn a_stop_gives_it_back_and_going_on_takes_it_again() {
    for ctrl_z in [true, false] {
        let mut session = Session::start();
        session.wait_for("began");
        if ctrl_z {
            session.keys("\x1a");
        } else {
            session.signal(Signal::TSTP);
        }
        session.wait_for_the_shell();
        let stopped =
            waitid(WaitId::Pid(session.pid), WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT).unwrap();
        assert!(stopped.unwrap().stopped());
        assert!(session.is_as_before(), "the shell has a usable terminal");
        session.signal(Signal::CONT);
        session.wait_for("began");
        assert!(session.is_raw());
        session.keys("q");
        session.wait_for_the_shell();
        assert!(session.end().success());
        assert!(session.is_as_before());
    }
}

#[test]
fn it_ends_when_the_terminal_goes_away() {
    let mut session = Session::start();
    session.wait_for("began");
    let mut child = session.child.take().unwrap();
    session.master = None;
    let (sender, ended) = channel();
    thread::spawn(move || sender.send(child.wait().unwrap()));
    ended.recv_timeout(DEADLINE).expect("it does not outlive its terminal");
}

#[test]
fn keys_do_what_the_table_says() {
    let mut session = Session::start();
    session.wait_for("began");
    session.keys("9");
    session.wait_for("measured");
    session.keys("2");
    session.wait_for("DESTROY");
    session.keys("/map\r");
    session.wait_until("a filtered table", |screen| !screen.contents().contains("DESTROY"));
    // A click on the first tab.
    session.keys("\x1b[<0;4;2M");
    session.wait_for("calls a second");
    session.keys("q");
    session.wait_for_the_shell();
    assert!(session.end().success());
}

#[test]
fn without_a_terminal_there_is_no_dashboard() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/mixed.iova");
    let output = Command::new(env!("CARGO_BIN_EXE_iovascope")).args(["replay", golden]).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("not a terminal") && said.contains("iovascope report"), "{said}");
    let printed = Command::new(env!("CARGO_BIN_EXE_iovascope"))
        .args(["replay", "--print-config", "--theme", "light"])
        .env_remove("IOVASCOPE_CONFIG")
        .output()
        .unwrap();
    assert!(String::from_utf8(printed.stdout).unwrap().contains("theme = \"light\""));
}
