//! Kprobes, events and function tracers on our functions, by the files of tracefs and debugfs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use probe_common::site::{SITES, Site};
use probe_model::company::Look;

use super::links::Kprobes;

/// Where tracefs is mounted; the kernel mounts it in debugfs by itself.
const TRACEFS: [&str; 2] = ["sys/kernel/tracing", "sys/kernel/debug/tracing"];
/// Every kprobe that is set, however it was.
const KPROBES: &str = "sys/kernel/debug/kprobes/list";
/// Tracers that hook every function that their filter lets through (`kernel/trace/trace_functions.c` and
/// `trace_functions_graph.c`, Linux 7.3).
const TRACERS: [&str; 2] = ["function", "function_graph"];
/// Tracers of latencies: these do it too, unless the option says not to.
const LATENCY_TRACERS: [&str; 6] =
    ["irqsoff", "preemptoff", "preemptirqsoff", "wakeup", "wakeup_rt", "wakeup_dl"];
const NO_TRACEFS: &str = "function tracers and events: no tracefs that can be read";
const NO_KPROBES: &str = "others' kprobes: no debugfs that can be read, or no CAP_SYS_ADMIN";

pub(super) struct Tracing {
    root: PathBuf,
}

impl Tracing {
    /// Below the root of a file system.
    pub(super) fn of(root: PathBuf) -> Self {
        Self { root }
    }

    /// Note who is there now; `known` are kprobes of BPF programs, which are noted elsewhere. `None`: ours cannot
    /// be told from others'.
    pub(super) fn look(&self, known: Option<Kprobes>, look: &mut Look) {
        let tracefs = TRACEFS.map(|place| self.root.join(place));
        let Some(tracefs) = tracefs.iter().find(|place| place.join("current_tracer").exists()) else {
            look.unseen.insert(NO_TRACEFS.to_owned());
            self.kprobes(known, &BTreeSet::new(), look);
            return;
        };
        tracer(tracefs, "ftrace", look);
        for instance in fs::read_dir(tracefs.join("instances")).into_iter().flatten().flatten() {
            let name = instance.file_name().to_string_lossy().into_owned();
            tracer(&instance.path(), &format!("ftrace instance {name}"), look);
        }
        if text(&tracefs.join("function_profile_enabled")).trim() == "1" {
            all(look, "ftrace", "function profiler", tracefs);
        }
        let events = events(tracefs);
        for event in events.iter().filter(|event| event.kind != 'p' && event.kind != 'r' && event.is_on) {
            look.find(event.called(), "fprobe", SITES[event.site].name);
        }
        self.kprobes(known, &events, look);
    }

    /// Kprobes that no BPF link accounts for.
    fn kprobes(&self, known: Option<Kprobes>, events: &BTreeSet<Event>, look: &mut Look) {
        let (Ok(list), Some(known)) = (fs::read_to_string(self.root.join(KPROBES)), known) else {
            look.unseen.insert(NO_KPROBES.to_owned());
            for event in events.iter().filter(|event| matches!(event.kind, 'p' | 'r') && event.is_on) {
                look.find(event.called(), event.way(), SITES[event.site].name);
            }
            return;
        };
        for (place, site) in SITES.iter().enumerate() {
            let set = list.lines().filter(|line| is_kprobe_of(line, site)).count();
            let ours = known.ours_unnamed / SITES.len();
            let others = set.saturating_sub(known.at[place] + ours);
            if others == 0 {
                continue;
            }
            let mut is_named = false;
            for event in events.iter().filter(|event| event.site == place && matches!(event.kind, 'p' | 'r'))
            {
                look.find(event.called(), event.way(), site.name);
                is_named = true;
            }
            if !is_named {
                look.find("somebody".to_owned(), "kprobe", site.name);
            }
        }
    }
}

/// Whether a line of the list is a kprobe that is set in a site's function:
/// `ffffffffc0123456  k  name+0x0  [iommufd] [FTRACE]`, `r` for the entry of a kretprobe.
fn is_kprobe_of(line: &str, site: &Site) -> bool {
    let function = line.split_whitespace().nth(2).and_then(|place| place.split('+').next());
    function == Some(site.symbol) && !line.contains("[DISABLED]") && !line.contains("[GONE]")
}

/// Note a tracer that hooks our functions; `of` is tracefs or an instance in it.
fn tracer(of: &Path, who: &str, look: &mut Look) {
    let tracer = text(&of.join("current_tracer"));
    let tracer = tracer.trim();
    let hooks = TRACERS.contains(&tracer)
        || LATENCY_TRACERS.contains(&tracer) && text(&of.join("options/function-trace")).trim() == "1";
    if hooks {
        all(look, who, tracer, of);
    }
}

/// Note somebody on every site that the filters let through.
fn all(look: &mut Look, who: &str, way: &str, of: &Path) {
    let (filter, notrace) = (text(&of.join("set_ftrace_filter")), text(&of.join("set_ftrace_notrace")));
    for site in SITES.iter().filter(|site| filtered(&filter, site).unwrap_or(true)) {
        if !filtered(&notrace, site).unwrap_or(false) {
            look.find(who.to_owned(), way, site.name);
        }
    }
}

/// Whether a filter names a site's function; `None` for a filter that names none at all
/// (`#### all functions enabled ####`).
fn filtered(filter: &str, site: &Site) -> Option<bool> {
    let mut names = filter.lines().filter(|line| !line.starts_with('#')).peekable();
    names.peek()?;
    Some(names.any(|line| line.split_whitespace().next() == Some(site.symbol)))
}

/// An event on one of our functions that was made in tracefs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    /// `p`: kprobe, `r`: kretprobe, `f`: fprobe, `t`: tracepoint.
    kind: char,
    /// `group/name`.
    name: String,
    /// Its place in the table of sites.
    site: usize,
    /// Whether tracefs has it switched on; perf does not say there what it uses.
    is_on: bool,
}

impl Event {
    fn called(&self) -> String {
        format!("event {}", self.name)
    }

    fn way(&self) -> &'static str {
        if self.kind == 'r' { "kretprobe" } else { "kprobe" }
    }
}

fn events(tracefs: &Path) -> BTreeSet<Event> {
    let mut list = text(&tracefs.join("dynamic_events"));
    if list.is_empty() {
        list = text(&tracefs.join("kprobe_events"));
    }
    list.lines().filter_map(|line| event(line, tracefs)).collect()
}

/// `p:group/name module:function+0x0 …`, `r4:…`, `f:group/name function%return …`.
fn event(line: &str, tracefs: &Path) -> Option<Event> {
    let mut words = line.split_whitespace();
    let (kind, name) = words.next()?.split_once(':')?;
    let function = words.next()?;
    let function = function.rsplit(':').next()?.split(['+', '%']).next()?;
    let site = SITES.iter().position(|site| site.symbol == function)?;
    let is_on = !matches!(text(&tracefs.join("events").join(name).join("enable")).trim(), "" | "0");
    Some(Event { kind: kind.chars().next()?, name: name.to_owned(), site, is_on })
}

/// A file's text; empty where it cannot be read.
fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made-up files below a folder of their own.
    fn look(files: &[(&str, &str)], known: Kprobes) -> Look {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut look = Look::default();
        Tracing::of(root.path().to_owned()).look(Some(known), &mut look);
        look
    }

    fn found(look: &Look) -> Vec<String> {
        let all = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(" ");
        look.others
            .iter()
            .map(|(who, at)| format!("{who}: {} on {}", all(&at.ways), all(&at.sites)))
            .collect()
    }

    const LIST: &str = "ffffffffc0de1000  k  iopt_get_phys+0x0  iommufd [FTRACE]\n\
                        ffffffffc0de1000  r  iopt_get_phys+0x0  iommufd [FTRACE]\n\
                        ffffffffc0de2000  k  iommufd_fops_ioctl+0x0  iommufd [DISABLED][FTRACE]\n\
                        ffffffffc0de3000  k  iopt_get_phys_more+0x0  iommufd [FTRACE]\n";

    #[test]
    fn kprobes_that_are_nobodys_programs_are_somebodys() {
        let files = [("sys/kernel/tracing/current_tracer", "nop\n"), (KPROBES, LIST)];
        assert_eq!(found(&look(&files, Kprobes::default())), ["somebody: kprobe on get_phys"]);
        assert_eq!(found(&look(&files, Kprobes { at: [0, 2], ours_unnamed: 0 })), Vec::<String>::new());
        assert_eq!(found(&look(&files, Kprobes { at: [0, 0], ours_unnamed: 4 })), Vec::<String>::new());
    }

    #[test]
    fn events_have_their_names() {
        let on = ("sys/kernel/tracing/events/oracle/one/enable", "1*\n");
        let files = [
            ("sys/kernel/tracing/current_tracer", "nop\n"),
            (
                "sys/kernel/tracing/dynamic_events",
                "p:probe/a iommufd:iopt_get_phys\nf:oracle/one iommufd_fops_ioctl%return x=$retval\n\
                 f:oracle/off iopt_get_phys\n",
            ),
            on,
            (KPROBES, LIST),
        ];
        let look = look(&files, Kprobes { at: [0, 1], ours_unnamed: 0 });
        assert_eq!(
            found(&look),
            ["event oracle/one: fprobe on dispatch", "event probe/a: kprobe on get_phys"]
        );
        assert_eq!(look.unseen, BTreeSet::new());
    }

    #[test]
    fn tracers_are_on_what_their_filters_let_through() {
        let with = |filter| {
            let files = [
                ("sys/kernel/debug/tracing/current_tracer", "function_graph\n"),
                ("sys/kernel/debug/tracing/set_ftrace_filter", filter),
                ("sys/kernel/debug/tracing/set_ftrace_notrace", "#### no functions disabled ####\n"),
                ("sys/kernel/debug/tracing/instances/mine/current_tracer", "function\n"),
                ("sys/kernel/debug/tracing/instances/mine/set_ftrace_filter", "iopt_get_phys [iommufd]\n"),
                (KPROBES, ""),
            ];
            found(&look(&files, Kprobes::default()))
        };
        let mine = "ftrace instance mine: function on get_phys";
        let graph = "ftrace: function_graph on dispatch get_phys";
        assert_eq!(with("#### all functions enabled ####\n"), [graph, mine]);
        assert_eq!(with("schedule\n"), [mine]);
    }

    #[test]
    fn what_cannot_be_read_is_not_known() {
        let look = look(&[], Kprobes::default());
        assert_eq!(look.unseen, [NO_KPROBES, NO_TRACEFS].map(str::to_owned).into());
    }
}
