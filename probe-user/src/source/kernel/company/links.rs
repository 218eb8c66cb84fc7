//! BPF programs on our functions, by the machine's links. A link never changes, so each is looked at once.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use probe_common::site::{SITES, Site};
use probe_model::company::Look;

use super::super::bpf::AttachType;
use super::super::objects::{self, Link, Target};
use super::super::types::Types;

/// `BPF_MODIFY_RETURN` (`enum bpf_attach_type`, include/uapi/linux/bpf.h, Linux 7.3).
const MODIFY_RETURN: u32 = 26;
/// An address that is told for a function may be that of the tracer's call in it, this much further at most:
/// behind `endbr64`, or the two instructions of arm64.
const INTO_FUNCTION: u64 = 16;
/// What cannot be seen without the right.
const PROGRAMS: &str = "BPF programs of others: that needs CAP_SYS_ADMIN";
const ADDRESSES: &str = "the functions of others' kprobe sessions: /proc/kallsyms hides addresses";
const NAMELESS: &str = "the functions of others' kprobes: before Linux 6.6 the kernel does not tell";

/// Kprobes that BPF links account for, ours and others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Kprobes {
    /// By the place of the site in the table.
    pub(super) at: [usize; SITES.len()],
    /// Those of ours whose function the kernel does not tell: as many at each site.
    pub(super) ours_unnamed: usize,
}

/// What a link has to do with us.
enum Known {
    /// Nothing.
    Elsewhere,
    /// A link of this process's own.
    Ours,
    /// The same on a kprobe, whose site the kernel may not tell.
    OurKprobe { site: Option<usize> },
    /// Somebody on our functions.
    Other { who: String, way: &'static str, sites: Vec<usize>, is_kprobe: bool },
    /// It cannot be known.
    Unknown(&'static str),
}

pub(super) struct Links {
    module: Option<&'static str>,
    known: BTreeMap<u32, Known>,
    /// BTF ids of the sites' functions, once somebody's program had to be compared with them.
    functions: OnceCell<Option<[u32; SITES.len()]>>,
    /// Their addresses, likewise.
    addresses: OnceCell<Option<[u64; SITES.len()]>>,
}

impl Links {
    pub(super) fn new(module: Option<&'static str>) -> Self {
        Self { module, known: BTreeMap::new(), functions: OnceCell::new(), addresses: OnceCell::new() }
    }

    /// Note who is there now; `None` where that cannot be seen.
    pub(super) fn look(&mut self, look: &mut Look) -> Option<Kprobes> {
        let mut kprobes = Kprobes::default();
        let Ok(ids) = objects::links() else {
            look.unseen.insert(PROGRAMS.to_owned());
            return None;
        };
        self.known.retain(|id, _| ids.contains(id));
        for id in ids {
            if !self.known.contains_key(&id) {
                match self.examine(id) {
                    Ok(Some(known)) => drop(self.known.insert(id, known)),
                    // Gone meanwhile.
                    Ok(None) => continue,
                    Err(_) => {
                        look.unseen.insert(PROGRAMS.to_owned());
                        continue;
                    }
                }
            }
            match self.known.get(&id) {
                Some(Known::OurKprobe { site: Some(site) }) => kprobes.at[*site] += 1,
                Some(Known::OurKprobe { site: None }) => kprobes.ours_unnamed += 1,
                Some(Known::Other { who, way, sites, is_kprobe }) => {
                    for &site in sites {
                        look.find(who.clone(), way, SITES[site].name);
                        kprobes.at[site] += usize::from(*is_kprobe);
                    }
                }
                Some(Known::Unknown(what)) => drop(look.unseen.insert((*what).to_owned())),
                Some(Known::Elsewhere | Known::Ours) | None => {}
            }
        }
        Some(kprobes)
    }

    fn examine(&self, id: u32) -> io::Result<Option<Known>> {
        let Some(Link { program, target }) = objects::link(id)? else { return Ok(None) };
        let mut kprobe = None;
        let (way, sites) = match &target {
            Target::Other => return Ok(Some(Known::Elsewhere)),
            Target::Trampoline { attach, btf_object, function } => {
                let Some(way) = trampoline(*attach) else { return Ok(Some(Known::Elsewhere)) };
                (way, self.sites_of_type(*btf_object, *function)?)
            }
            Target::Functions { addresses, is_return } => {
                if is_ours(id) {
                    return Ok(Some(Known::Ours));
                }
                let Some(sites) = self.sites_at(addresses) else {
                    return Ok(Some(Known::Unknown(ADDRESSES)));
                };
                (if *is_return { "kretprobe.multi" } else { "kprobe.multi" }, sites)
            }
            Target::Kprobe { function, is_return } => {
                let site = SITES.iter().position(|site| site.symbol == function);
                if function.is_empty() && !is_ours(id) {
                    return Ok(Some(Known::Unknown(NAMELESS)));
                }
                let way = if *is_return { "kretprobe" } else { "kprobe" };
                kprobe = Some(Known::OurKprobe { site });
                (way, site.into_iter().collect())
            }
        };
        if is_ours(id) {
            return Ok(Some(kprobe.unwrap_or(Known::Ours)));
        }
        if sites.is_empty() {
            return Ok(Some(Known::Elsewhere));
        }
        Ok(Some(Known::Other { who: who(id, program)?, way, sites, is_kprobe: kprobe.is_some() }))
    }

    /// The sites among functions by BTF id; none where the types cannot be read, which our own programs
    /// then could not either.
    fn sites_of_type(&self, btf_object: u32, function: u32) -> io::Result<Vec<usize>> {
        if objects::btf_name(btf_object)?.as_deref() != Some(self.module.unwrap_or("vmlinux")) {
            return Ok(Vec::new());
        }
        let module = self.module;
        let known = self.functions.get_or_init(|| functions(module));
        let ids = known.iter().flat_map(|ids| ids.iter().enumerate());
        Ok(ids.filter(|(_, id)| **id == function).map(|(site, _)| site).collect())
    }

    /// The sites among addresses; `None` where addresses are hidden.
    fn sites_at(&self, addresses: &[u64]) -> Option<Vec<usize>> {
        if addresses.iter().all(|&address| address == 0) {
            return None;
        }
        let known = (*self.addresses.get_or_init(symbols))?;
        let is_in = |start: u64| {
            addresses.iter().any(|address| (start..=start.saturating_add(INTO_FUNCTION)).contains(address))
        };
        Some((0..SITES.len()).filter(|&site| is_in(known[site])).collect())
    }
}

/// How a program of a trampoline is attached; `None` for types that are on no function of ours.
fn trampoline(attach: u32) -> Option<&'static str> {
    [AttachType::Fentry, AttachType::Fexit, AttachType::Fsession]
        .into_iter()
        .find(|kind| *kind as u32 == attach)
        .map(AttachType::name)
        .or((attach == MODIFY_RETURN).then_some("fmod_ret"))
}

/// BTF ids of the sites' functions.
fn functions(module: Option<&str>) -> Option<[u32; SITES.len()]> {
    let types = Types::read(module).ok()?;
    let (_, kernel) = types.kernel().ok()?;
    let symbols = SITES.map(|site| site.symbol);
    let ids = match types.module().ok()? {
        Some((_, module)) => module.functions(Some(&kernel), &symbols).ok()?,
        None => kernel.functions(None, &symbols).ok()?,
    };
    Some(symbols.map(|symbol| ids.get(symbol).copied().unwrap_or(0)))
}

/// Addresses of the sites' functions; `None` where they are hidden.
fn symbols() -> Option<[u64; SITES.len()]> {
    let text = fs::read_to_string("/proc/kallsyms").ok()?;
    let address = |symbol: &str| {
        // `ffffffffc0123456 t name<tab>[module]`
        let line = text.lines().find(|line| line.split_whitespace().nth(2) == Some(symbol))?;
        u64::from_str_radix(line.split(' ').next()?, 16).ok().filter(|&address| address != 0)
    };
    let found = SITES.map(|site| address(site.symbol));
    found.iter().any(Option::is_some).then(|| found.map(|address| address.unwrap_or(u64::MAX)))
}

fn is_ours(link: u32) -> bool {
    holds(Path::new("/proc/self"), link)
}

/// Whether a process has a descriptor of a link.
fn holds(process: &Path, link: u32) -> bool {
    let wanted = format!("link_id:\t{link}");
    fs::read_dir(process.join("fdinfo")).into_iter().flatten().flatten().any(|descriptor| {
        fs::read_to_string(descriptor.path()).is_ok_and(|text| text.lines().any(|line| line == wanted))
    })
}

/// Whose a link is: the process that holds it, or where none can be found (it is pinned, or of another PID
/// namespace) the program.
fn who(link: u32, program: u32) -> io::Result<String> {
    let name = objects::program_name(program)?.unwrap_or_default();
    let is_iovascope = SITES.iter().flat_map(programs).any(|ours| ours == name);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let holder = processes
        .filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| holds(Path::new(&format!("/proc/{pid}")), link));
    let comm = holder.and_then(|pid| Some((pid, fs::read(format!("/proc/{pid}/comm")).ok()?)));
    Ok(match comm {
        Some((pid, _)) if is_iovascope => format!("another iovascope (process {pid})"),
        Some((pid, comm)) => format!("{} (process {pid})", String::from_utf8_lossy(comm.trim_ascii_end())),
        None if is_iovascope => format!("another iovascope (BPF program {program})"),
        None => format!("BPF program {name} ({program})"),
    })
}

/// Names of a site's programs, of every backend.
fn programs(site: &Site) -> [&'static str; 8] {
    [
        site.fsession,
        site.fsession_extra,
        site.fentry.entry,
        site.fentry.exit,
        site.kprobe_session,
        site.kprobe_session_extra,
        site.kprobe.entry,
        site.kprobe.exit,
    ]
}
