//! The dashboard on a real pseudo-terminal: whatever ends or stops it, the terminal is as it was before.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use iovascope::recording::Writer;
use iovascope::tui;
use iovascope::tui::app;
use iovascope::tui::feed::Feed;
use iovascope::tui::run::TuiError;
use iovascope::tui::screen::Ability;
use iovascope::tui::theme::Depth;
use probe_common::bucket::{LATENCY, LATENCY_FAILED};
use probe_model::histogram::Histogram;
use probe_model::loss::Flow;
use probe_model::origin::Header;
use probe_model::sample::{Calls, Counters, Instant, Sample};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, waitid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, LocalModes, Termios, Winsize, tcflow, tcgetattr, tcsetwinsize};

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
        let mut command = vec![env!("CARGO_BIN_EXE_iovascope")];
        command.extend(arguments);
        Self::over(Self::terminal(), &command)
    }

    /// Both ends of a terminal that nobody has yet.
    fn terminal() -> (File, File) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = File::from(open(&*name, flags, Mode::empty()).unwrap());
        tcsetwinsize(&slave, size(30, 120)).unwrap();
        (File::from(master), slave)
    }

    /// A command in a session of its own with this as its terminal.
    fn over((master, slave): (File, File), command: &[&str]) -> Self {
        let before = tcgetattr(&slave).unwrap();
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        // util-linux's setsid.
        let child = Command::new("setsid")
            .arg("--ctty")
            .args(command)
            .env("TERM", "xterm-256color")
            .env("RUST_BACKTRACE", "0")
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let terminal = vt100::Parser::new(30, 120, 0);
        Self { master: Some(master), slave, child: Some(child), pid, terminal, before }
    }

    /// `replay -` of a stream, which is written into a FIFO: standard input would be it, and is the terminal.
    fn of_stream(terminal: (File, File), fifo: &Path) -> Self {
        let script = "exec \"$0\" replay --window all - < \"$1\"";
        let iovascope = env!("CARGO_BIN_EXE_iovascope");
        Self::over(terminal, &["sh", "-c", script, iovascope, fifo.to_str().unwrap()])
    }

    /// From now on the terminal takes no output; its keys go on.
    fn stall(slave: &File) {
        tcflow(slave, Action::OOff).unwrap();
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        self.terminal.screen_mut().set_size(rows, columns);
        tcsetwinsize(&self.slave, size(rows, columns)).unwrap();
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

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// A stream of samples, as `record -o -` writes one, into a FIFO.
struct Stream {
    writer: Writer<File>,
    calls: u64,
    folder: tempfile::TempDir,
}

impl Stream {
    /// More than a pipe and all queues hold, several times over.
    const MANY: u64 = 2500;

    fn new() -> (Self, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("stream");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        // For both, so that opening it does not wait for the other side.
        let out = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        let header = Header {
            page_size: 4096,
            cpus: 2,
            sites: [("dispatch".to_owned(), "a".to_owned())].into(),
            started: Instant { monotonic: 1, realtime: 1 },
            ..Header::default()
        };
        let writer = Writer::begin(out, "the stream".to_owned(), &header).unwrap();
        (Self { writer, calls: 0, folder }, fifo)
    }

    /// A sample, so many calls later.
    fn sample(&mut self, more: u64) {
        self.calls += more;
        let mut ok = Histogram::new(LATENCY);
        (ok.count, ok.sum) = (self.calls, 1000 * self.calls);
        ok.buckets.insert(u32::try_from(LATENCY.index(1000)).unwrap(), self.calls);
        let calls = Calls { ok, failed: Histogram::new(LATENCY_FAILED), errors: [].into() };
        let flow = Flow { entered: self.calls, exited: self.calls, ..Flow::default() };
        let nanos = self.writer.last().at.monotonic + 1_000_000;
        let counters = Counters {
            dispatch: [("IOAS_MAP".to_owned(), calls)].into(),
            flow: [("dispatch".to_owned(), flow)].into(),
            ..Counters::default()
        };
        let at = Instant { monotonic: nanos, realtime: nanos };
        self.writer.sample(Sample { at, counters }).unwrap();
    }

    /// Write many samples of a call each; returns when they are read, which is when nothing holds them up.
    fn goes_on(mut self) -> Self {
        let (sender, written) = channel();
        thread::spawn(move || {
            (0..Self::MANY).for_each(|_| self.sample(1));
            let _ = sender.send(self);
        });
        written.recv_timeout(DEADLINE).expect("the stream is read whatever the terminal does")
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
fn a_terminal_that_takes_no_output_holds_nothing_up() {
    enum Way {
        GoesOn,
        Key(&'static str),
        Signal(Signal),
        Hangup,
    }
    for way in [Way::GoesOn, Way::Key("q"), Way::Key("jjj\x03"), Way::Signal(Signal::TERM), Way::Hangup] {
        let (mut stream, fifo) = Stream::new();
        let mut session = Session::of_stream(Session::terminal(), &fifo);
        stream.sample(700);
        stream.sample(534);
        session.wait_for("1,234");
        Session::stall(&session.slave);
        let stream = stream.goes_on();
        assert_eq!(stream.calls, 1234 + Stream::MANY);
        match way {
            Way::GoesOn => {
                tcflow(&session.slave, Action::OOn).unwrap();
                session.wait_for("3,734");
                session.keys("q");
                session.wait_for_the_shell();
                assert!(session.end().success());
            }
            Way::Key(keys) => {
                session.keys(keys);
                assert_eq!(session.end().code(), Some(0), "{keys:?}");
            }
            Way::Signal(signal) => {
                session.signal(signal);
                assert_eq!(session.end().code(), Some(128 + signal.as_raw()));
            }
            Way::Hangup => {
                session.master = None;
                session.end();
                continue;
            }
        }
        assert!(session.is_as_before());
        drop(stream.folder);
    }
}

#[test]
fn a_terminal_that_stalls_while_it_is_taken_does_not_hold_the_stream_up() {
    let (stream, fifo) = Stream::new();
    let terminal = Session::terminal();
    Session::stall(&terminal.1);
    let mut session = Session::of_stream(terminal, &fifo);
    let stream = stream.goes_on();
    session.keys("q");
    assert_eq!(session.end().code(), Some(0));
    assert!(session.is_as_before());
    drop(stream);
}

#[test]
fn no_key_is_lost_with_a_resize() {
    for drawn in [true, false] {
        let mut session = Session::start();
        session.wait_for("began");
        session.keys("2");
        session.wait_for("DESTROY");
        session.resize(40, 100);
        if drawn {
            // The last line is the one that tells the keys.
            session.wait_until("a frame of the new size", |screen| {
                screen.rows(0, 100).last().is_some_and(|row| row.contains("help"))
            });
        }
        session.keys("9");
        session.wait_for("measured");
        session.keys("q");
        session.wait_for_the_shell();
        assert!(session.end().success());
    }
}

const PANICS: &str = "IOVASCOPE_TEST_PANICS_IN";

#[test]
fn a_panic_gives_the_terminal_back_and_ends_it() {
    if let Ok(place) = std::env::var(PANICS) {
        return panic_on_e(&place);
    }
    for (place, ends_well) in [("the source", true), ("the screen", false)] {
        let this = std::env::current_exe().unwrap();
        let name = "a_panic_gives_the_terminal_back_and_ends_it";
        let set = format!("{PANICS}={place}");
        let command = ["env", &set, this.to_str().unwrap(), "--exact", name, "--nocapture"];
        let mut session = Session::over(Session::terminal(), &command);
        session.wait_for("Counting");
        assert!(session.is_raw());
        session.keys("e");
        session.wait_until("its message", |screen| {
            !screen.alternate_screen() && !screen.hide_cursor() && screen.contents().contains("on purpose")
        });
        assert_eq!(session.end().success(), ends_well, "{place}");
        assert!(session.is_as_before(), "{place}");
    }
}

/// The dashboard in this very process, with a panic when `e` is pressed.
fn panic_on_e(place: &str) {
    let setup = tui::Setup {
        app: app::Setup::usual("panics", true),
        ability: Ability { depth: Depth::None, ascii: false },
        refresh: Duration::from_millis(100),
        mouse: true,
    };
    let (ask, asked) = channel::<()>();
    let start = |feeder: tui::run::Feeder| {
        thread::spawn(move || {
            assert!(feeder.send(Feed::Started(Box::default())));
            assert!(asked.recv().is_err(), "on purpose");
        });
    };
    let ended = tui::run(setup, start, |_| {
        assert!(place == "the source", "on purpose");
        ask.send(()).map(|()| String::new()).map_err(|error| error.to_string())
    });
    assert!(matches!(ended, Err(TuiError::Panicked)), "{ended:?}");
}

#[test]
fn a_command_beside_does_not_outlive_a_dashboard_that_is_killed() {
    // The shell stands for the dashboard: it starts a command as `top` does, and is killed.
    let script = "\"$0\" beside $$ -- sleep 1000 & echo $!; wait";
    let mut dashboard = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_iovascope")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    BufReader::new(dashboard.stdout.take().unwrap()).read_line(&mut told).unwrap();
    let beside = Pid::from_raw(told.trim().parse().unwrap()).unwrap();
    let beside = pidfd_open(beside, PidfdFlags::empty()).unwrap();
    dashboard.kill().unwrap();
    dashboard.wait().unwrap();
    let timeout = Timespec::try_from(DEADLINE).unwrap();
    let mut ended = [PollFd::new(&beside, PollFlags::IN)];
    assert!(poll(&mut ended, Some(&timeout)).unwrap() > 0, "it goes on");
}

#[test]
fn a_command_beside_is_the_command() {
    let beside = |parent: u32, command: &[&str]| {
        let arguments = ["beside".to_owned(), parent.to_string(), "--".to_owned()];
        Command::new(env!("CARGO_BIN_EXE_iovascope")).args(arguments).args(command).output().unwrap()
    };
    let this = std::process::id();
    let output = beside(this, &["sh", "-c", "echo \"$1\"; exit 7", "sh", "--its own"]);
    assert_eq!((output.status.code(), &*output.stdout), (Some(7), &b"--its own\n"[..]));
    let none = beside(this, &["/no/such/program"]);
    assert!(String::from_utf8(none.stderr).unwrap().contains("cannot start /no/such/program"));
    let late = beside(1, &["echo", "too late"]);
    assert!(!late.status.success() && late.stdout.is_empty());
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
