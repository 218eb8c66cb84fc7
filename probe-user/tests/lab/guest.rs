//! Running iovascope in the guest, and its numbers in one comparable form.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use iovascope::recording::{Event, Header, Reader};
use probe_model::call::Call;
use probe_model::sample::Counters;
use serde_json::Value;

/// A test for each backend out of a function that takes the backend's name: `NAME::fsession` and so on.
macro_rules! by_every_backend {
    ($($name:ident)*) => {$(
        mod $name {
            #[test]
            fn fsession() {
                super::$name("fsession");
            }
            #[test]
            fn fentry() {
                super::$name("fentry");
            }
            #[test]
            fn kprobe_session() {
                super::$name("kprobe-session");
            }
            #[test]
            fn kprobe() {
                super::$name("kprobe");
            }
        }
    )*};
}
pub(crate) use by_every_backend;

/// Calls by command (or site) and outcome: `ok` or the errno's name.
pub(crate) type Counts = BTreeMap<(String, String), u64>;

/// A file in this run's folder; the name is the test's.
pub(crate) fn file(name: impl AsRef<Path>) -> PathBuf {
    let folder = std::env::var_os("LAB_OUT").expect("these tests run in the lab's guest");
    PathBuf::from(folder).join(name)
}

/// `iovascope` with arguments.
pub(crate) fn iovascope(arguments: &[&str]) -> Command {
    let mut command = Command::new("iovascope");
    command.args(arguments);
    command
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Run to the end; it must succeed.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, stderr(&output));
    output
}

/// Huge pages of 2 MiB for the tests; the guest is thrown away afterwards.
pub(crate) fn huge_pages(wanted: u32) {
    let knob = "/proc/sys/vm/nr_hugepages";
    let have: u32 = fs::read_to_string(knob).unwrap().trim().parse().unwrap();
    if have < wanted {
        fs::write(knob, wanted.to_string()).unwrap();
        let have: u32 = fs::read_to_string(knob).unwrap().trim().parse().unwrap();
        assert!(have >= wanted, "{have} of {wanted} huge pages");
    }
}

/// A run of the driver under the recorder.
pub(crate) struct Recorded {
    /// `iovascope load --json`.
    pub(crate) load: Value,
    /// `iovascope report --format json`.
    pub(crate) report: Value,
    /// What the recorder said.
    pub(crate) said: String,
    /// The recorder's process.
    pub(crate) recorder: u32,
    /// The recording.
    pub(crate) file: PathBuf,
}

/// Drive and record at once, by the backend that iovascope chooses.
pub(crate) fn record_load(name: &str, load: &str) -> Recorded {
    record_load_with(name, &[], load)
}

/// Drive and record at once, by this backend; the recording is called `NAME-BACKEND`.
pub(crate) fn record_load_by(backend: &str, name: &str, load: &str) -> Recorded {
    let recorded = record_load_with(&format!("{name}-{backend}"), &["--backend", backend], load);
    assert_eq!(recorded.report["header"]["backend"], backend);
    recorded
}

/// The same with more options for the recorder.
pub(crate) fn record_load_with(name: &str, options: &[&str], load: &str) -> Recorded {
    let (recording, result) = (file(format!("{name}.iova")), file(format!("{name}.load.json")));
    let mut command = iovascope(&["record", "-o"]);
    command.arg(&recording).args(["-i", "100ms"]).args(options);
    command.args(["--", "iovascope", "load", "--json"]).args(load.split_whitespace());
    command.stdout(fs::File::create(&result).unwrap()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let recorder = child.id();
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    let load = serde_json::from_slice(&fs::read(&result).unwrap()).unwrap();
    Recorded { load, report: report(&recording), said, recorder, file: recording }
}

/// A recorder in the background, counting already; it ends when it is told to.
pub(crate) struct Running {
    child: Child,
    /// In memory: what the guest shares with the host gives ENODATA to who reads while it grows.
    path: PathBuf,
}

impl Running {
    /// By this backend; the recording is called `NAME-BACKEND`.
    pub(crate) fn begin(backend: &str, name: &str) -> Self {
        Self::begin_with(backend, name, &[])
    }

    /// The same with more options.
    pub(crate) fn begin_with(backend: &str, name: &str, options: &[&str]) -> Self {
        let path = Path::new("/tmp").join(format!("{name}-{backend}.iova"));
        let mut command = iovascope(&["record", "--quiet", "--backend", backend]);
        if !options.contains(&"-i") {
            command.args(["-i", "100ms"]);
        }
        command.arg("-o");
        // `cat` ends with its input, and the recorder with it.
        command.arg(&path).args(options).args(["--", "cat"]).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        while !begun(&path) {
            assert!(child.try_wait().unwrap().is_none(), "the recorder ended early");
            std::thread::sleep(Duration::from_millis(1));
        }
        Self { child, path }
    }

    /// The recording, while it grows.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether another backend has taken over, as far as it has written.
    pub(crate) fn has_changed(&self) -> bool {
        reader(&self.path).whole().unwrap().changes().next().is_some()
    }

    /// What it has written so far, added up.
    pub(crate) fn so_far(&self) -> Counters {
        reader(&self.path).whole().unwrap().window.counters
    }

    /// End it in order; its report.
    pub(crate) fn end(self) -> Value {
        report(&self.end_recording())
    }

    /// End it in order; its recording, in this run's folder.
    pub(crate) fn end_recording(mut self) -> PathBuf {
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        let kept = file(self.path.file_name().unwrap());
        fs::copy(&self.path, &kept).unwrap();
        fs::remove_file(&self.path).unwrap();
        assert!(status.success(), "{status}");
        kept
    }
}

/// Whether a recorder has written a header, which it does when its probes count.
pub(crate) fn begun(recording: &Path) -> bool {
    fs::metadata(recording).is_ok_and(|file| file.len() > 8)
}

pub(crate) fn report(recording: &Path) -> Value {
    let output = succeed(iovascope(&["report", "--format", "json"]).arg(recording));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Everything that a run's recording holds, added up.
pub(crate) fn counters(recorded: &Recorded) -> Counters {
    counters_of(&recorded.file)
}

/// Everything that a recording holds, added up.
pub(crate) fn counters_of(recording: &Path) -> Counters {
    let recording = reader(recording).whole().unwrap();
    assert_eq!(recording.unclean, None);
    recording.window.counters
}

pub(crate) fn header(recorded: &Recorded) -> Header {
    reader(&recorded.file).header().clone()
}

/// The single calls of a run's recording.
pub(crate) fn calls(recorded: &Recorded) -> Vec<Call> {
    let mut reader = reader(&recorded.file);
    let mut calls = Vec::new();
    while let Some(event) = reader.next_event().unwrap() {
        if let Event::Calls(more) = event {
            calls.extend(more);
        }
    }
    calls
}

fn reader(recording: &Path) -> Reader<fs::File> {
    Reader::begin(fs::File::open(recording).unwrap(), recording.display().to_string()).unwrap()
}

/// The first job of the driver's result, which is the only one where no job file was given.
pub(crate) fn job(load: &Value) -> &Value {
    &load["jobs"][0]
}

/// What the driver says it did.
pub(crate) fn driven(load: &Value) -> Counts {
    let ioctls = load["ioctls"].as_array().unwrap();
    ioctls
        .iter()
        .map(|ioctl| {
            let text = |key: &str| ioctl[key].as_str().unwrap().to_owned();
            ((text("command"), text("outcome")), ioctl["count"].as_u64().unwrap())
        })
        .collect()
}

/// What the recorder saw at the dispatch site.
pub(crate) fn dispatched(report: &Value) -> Counts {
    let mut counts = Counts::new();
    for (command, calls) in report["dispatch"].as_object().unwrap() {
        add(&mut counts, command, calls, &calls["ok"]);
    }
    counts
}

/// What the recorder saw at the `get_phys` site.
pub(crate) fn scanned(report: &Value) -> Counts {
    let mut counts = Counts::new();
    let scans = &report["get_phys"];
    if !scans.is_null() {
        add(&mut counts, "get_phys", scans, &scans["ok"]);
    }
    counts
}

fn add(counts: &mut Counts, name: &str, calls: &Value, ok: &Value) {
    if let Some(count) = ok["count"].as_u64().filter(|&count| count > 0) {
        counts.insert((name.to_owned(), "ok".to_owned()), count);
    }
    for (errno, count) in calls["errors"].as_object().unwrap() {
        counts.insert((name.to_owned(), errno.clone()), count.as_u64().unwrap());
    }
}

/// Calls with an outcome, 0 when there are none.
pub(crate) fn count(counts: &Counts, name: &str, outcome: &str) -> u64 {
    counts.get(&(name.to_owned(), outcome.to_owned())).copied().unwrap_or(0)
}

/// Sum and count over all stops of the recorded runs, and over the driver's.
pub(crate) fn runs_agree(recorded: &Recorded) {
    let runs = recorded.report["get_phys"]["runs"].as_object().unwrap();
    let all = |key: &str| runs.values().map(|run| run[key].as_u64().unwrap()).collect::<Vec<_>>();
    let driven = &job(&recorded.load)["run_bytes"];
    assert_eq!(all("count").iter().sum::<u64>(), driven["count"].as_u64().unwrap());
    assert_eq!(all("sum").iter().sum::<u64>(), driven["sum"].as_u64().unwrap());
    assert_eq!(all("min").into_iter().min(), driven["min"].as_u64());
    assert_eq!(all("max").into_iter().max(), driven["max"].as_u64());
}

/// No program, link or map of ours and no kprobe is left, once the kernel's grace periods are over: it takes them
/// after the process is gone.
pub(crate) fn nothing_left() {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let left = left_behind();
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "left behind: {left:#?}");
    }
}

/// What a recorder's BPF objects are called by bpftool, and its kprobes by the kernel.
fn left_behind() -> Vec<String> {
    let listed = |kind: &str, is_ours: fn(&Value) -> bool| -> Vec<String> {
        let listed = succeed(Command::new("bpftool").args(["-j", kind, "show"]));
        let all: Value = serde_json::from_slice(&listed.stdout).unwrap();
        let ours = all.as_array().unwrap().iter().filter(|object| is_ours(object));
        ours.map(|object| format!("{kind} {object}")).collect()
    };
    let mut left = listed("prog", |program| is_one_of(program, &["kprobe", "tracing"]));
    left.extend(listed("link", |link| is_one_of(link, &["perf_event", "tracing", "kprobe_multi"])));
    left.extend(listed("map", |map| map["name"] == "BLOCKS"));
    let kprobes = fs::read_to_string("/sys/kernel/debug/kprobes/list").unwrap();
    left.extend(kprobes.lines().map(|line| format!("kprobe {line}")));
    left
}

fn is_one_of(object: &Value, types: &[&str]) -> bool {
    types.iter().any(|kind| object["type"] == *kind)
}
