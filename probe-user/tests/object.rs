//! The built BPF object against the tables it was built from. Needs `cargo xtask build`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;

use iovascope::source::kernel;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};
use probe_common::constant::{BLOCKS_PLACEHOLDER, Constant};
use probe_common::kfunc::{KFUNCS, RDONLY_CAST};
use probe_common::site::{LOCK_PROGRAMS, SITES};
use probe_common::wire::{
    BLOCKS_MAP, Block, CALLER_ROWS, CALLERS_MAP, CALLS_MAP, CAPS_MAP, Caller, CallerKey, DispatchOpen,
    GetPhysOpen, LOCK_BLOCKS_MAP, LockBlock, OPEN_CALLS, OPEN_SLOTS, SHARED_MAP, SLOTS_MAP, Shared,
    WAITS_MAP, Wait,
};

/// Helper numbers (include/uapi/linux/bpf.h) that read user memory, or memory of either kind.
const READS_USER_MEMORY: [i32; 6] = [4, 45, 112, 114, 148, 197];
/// Opcode of a call.
const CALL: u8 = 0x85;
/// Helpers count from 1 and are a few hundred (include/uapi/linux/bpf.h, Linux 7.3); larger numbers are
/// ours, for kernel functions.
const MOST_HELPERS: i32 = 0x1000;
/// Opcode of a 64-bit immediate load.
const LOAD: u8 = 0x18;
/// Sections of programs.
const SECTIONS: [&str; 6] = ["kprobe", "kretprobe", "fentry", "fexit", SESSION, "raw_tp"];
/// The one of kprobe sessions.
const SESSION: &str = "kprobe/session";

fn file() -> object::File<'static> {
    let bytes = kernel::object();
    assert!(!bytes.is_empty(), "this test binary holds no BPF object: run `cargo xtask build` first");
    object::File::parse(bytes).unwrap()
}

fn names_in(section: &str) -> Vec<String> {
    let file = file();
    let index = file.section_by_name(section).unwrap().index();
    let mut names: Vec<String> = file
        .symbols()
        .filter(|symbol| symbol.section_index() == Some(index) && symbol.kind() == SymbolKind::Text)
        .map(|symbol| symbol.name().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn programs_are_those_of_the_site_table() {
    let expected = [
        SITES.map(|site| site.kprobe.entry).to_vec(),
        SITES.map(|site| site.kprobe.exit).to_vec(),
        SITES.iter().flat_map(|site| [site.fentry.entry, site.fsession, site.fsession_extra]).collect(),
        SITES.map(|site| site.fentry.exit).to_vec(),
        SITES.iter().flat_map(|site| [site.kprobe_session, site.kprobe_session_extra]).collect(),
        LOCK_PROGRAMS.map(|(program, _)| program).to_vec(),
    ];
    for (section, mut names) in SECTIONS.into_iter().zip(expected) {
        names.sort_unstable();
        assert_eq!(names_in(section), names, "{section}");
    }
}

/// Type, key size, value size and number of entries, as in the object.
fn maps() -> BTreeMap<String, [u32; 4]> {
    let file = file();
    let section = file.section_by_name("maps").unwrap();
    let bytes = section.data().unwrap();
    file.symbols()
        .filter(|symbol| symbol.section_index() == Some(section.index()) && symbol.is_definition())
        .map(|symbol| {
            let at = usize::try_from(symbol.address()).unwrap();
            let word = |place: usize| u32::from_le_bytes(bytes[at + 4 * place..][..4].try_into().unwrap());
            (symbol.name().unwrap().to_owned(), [word(0), word(1), word(2), word(3)])
        })
        .collect()
}

#[test]
fn maps_are_those_of_the_wire_and_forget_nothing_by_themselves() {
    const HASH: u32 = 1;
    const ARRAY: u32 = 2;
    const RINGBUF: u32 = 27;
    let size = |bytes: usize| u32::try_from(bytes).unwrap();
    let expected = BTreeMap::from([
        (BLOCKS_MAP.to_owned(), [ARRAY, 4, size(size_of::<Block>()), 1]),
        (SITES[0].open_map.to_owned(), [ARRAY, 4, size(size_of::<DispatchOpen>()), OPEN_SLOTS]),
        (SITES[1].open_map.to_owned(), [ARRAY, 4, size(size_of::<GetPhysOpen>()), OPEN_SLOTS]),
        (CAPS_MAP.to_owned(), [HASH, 8, 8, OPEN_CALLS]),
        (SHARED_MAP.to_owned(), [ARRAY, 4, size(size_of::<Shared>()), 1]),
        (SLOTS_MAP.to_owned(), [HASH, size(size_of::<CallerKey>()), 4, size(CALLER_ROWS)]),
        (CALLERS_MAP.to_owned(), [ARRAY, 4, size(size_of::<Caller>()), size(CALLER_ROWS)]),
        // User space makes these larger where they are wanted.
        (CALLS_MAP.to_owned(), [RINGBUF, 0, 0, 1 << 12]),
        (WAITS_MAP.to_owned(), [ARRAY, 4, size(size_of::<Wait>()), 1]),
        (LOCK_BLOCKS_MAP.to_owned(), [ARRAY, 4, size(size_of::<LockBlock>()), 1]),
        // aya-log's own.
        ("AYA_LOGS".to_owned(), [RINGBUF, 0, 0, 1 << 17]),
    ]);
    assert_eq!(maps(), expected);
}

/// The code of a section.
fn code(section: &str) -> Vec<u8> {
    file().section_by_name(section).unwrap().data().unwrap().to_vec()
}

/// Numbers of the helpers, and of kernel functions by our numbers, that code calls.
fn calls_of(code: &[u8]) -> Vec<i32> {
    // The upper half of byte 1 is the kind of call; 0 is a helper.
    let calls = code.chunks_exact(8).filter(|instruction| instruction[0] == CALL && instruction[1] >> 4 == 0);
    calls.map(|instruction| i32::from_le_bytes(instruction[4..].try_into().unwrap())).collect()
}

fn calls_in(section: &str) -> Vec<i32> {
    calls_of(&code(section))
}

/// Functions that programs share, which come for each kind of program: name and code.
fn shared_functions() -> Vec<(String, Vec<u8>)> {
    let (file, text) = (file(), code(".text"));
    let index = file.section_by_name(".text").unwrap().index();
    file.symbols()
        .filter(|symbol| symbol.section_index() == Some(index) && symbol.size() > 0)
        .map(|symbol| {
            let [start, size] = [symbol.address(), symbol.size()].map(|at| usize::try_from(at).unwrap());
            (symbol.name().unwrap().to_owned(), text[start..start + size].to_vec())
        })
        .collect()
}

/// The immediates of 64-bit loads.
fn immediates(code: &[u8]) -> Vec<u64> {
    let half = |instruction: &[u8]| u64::from(u32::from_le_bytes(instruction[4..8].try_into().unwrap()));
    let pairs = (0..code.len() - 8).step_by(8).map(|at| (&code[at..at + 8], &code[at + 8..at + 16]));
    pairs.filter(|(low, _)| low[0] == LOAD).map(|(low, high)| half(low) | half(high) << 32).collect()
}

#[test]
fn no_program_reads_user_memory() {
    for section in SECTIONS.into_iter().chain([".text"]) {
        let calls = calls_in(section);
        assert!(calls.len() > 3 || section == ".text", "{section}: only {calls:?} looked at");
        let bad: Vec<_> = calls.iter().filter(|number| READS_USER_MEMORY.contains(number)).collect();
        assert!(bad.is_empty(), "{section} calls helpers {bad:?}");
    }
}

#[test]
fn kernel_functions_are_called_by_what_we_load_ourselves_and_are_in_the_table() {
    let kfuncs = |calls: Vec<i32>| calls.into_iter().filter(|number| *number > MOST_HELPERS);
    for section in ["kprobe", "kretprobe", "raw_tp"] {
        assert_eq!(kfuncs(calls_in(section)).next(), None, "{section}");
    }
    for (name, code) in shared_functions().iter().filter(|(name, _)| !name.contains("Typed")) {
        assert_eq!(kfuncs(calls_of(code)).next(), None, "{name}");
    }
    // Of the programs at the locks' tracepoints alone, which are typed always.
    let of_locks = |name: &str| name.contains("mutex_of_pages");
    let count = |kind: &str| {
        shared_functions().iter().filter(|(name, _)| name.contains(kind) && !of_locks(name)).count()
    };
    let (typed, untyped) = (count("5Typed"), count("7Untyped"));
    assert!(typed > 1 && typed == untyped, "{typed} and {untyped}");
    let table = KFUNCS.map(|kfunc| kfunc.number);
    assert!(kfuncs(calls_in("fexit")).all(|number| number == RDONLY_CAST.number));
    for section in ["fentry", SESSION] {
        assert!(kfuncs(calls_in(section)).all(|number| table.contains(&number)), "{section}");
        assert!(
            table.iter().all(|number| kfuncs(calls_in(section)).any(|called| called == *number)),
            "{section}"
        );
    }
}

#[test]
fn placeholders_are_those_of_the_table_and_the_blocks_address_is_for_what_we_load_ourselves() {
    let all: Vec<u64> =
        SECTIONS.into_iter().chain([".text"]).flat_map(|section| immediates(&code(section))).collect();
    for constant in Constant::ALL {
        assert!(all.contains(&constant.placeholder()), "{constant:?} is asked for by no program");
    }
    for section in ["fentry", "fexit", SESSION] {
        assert!(immediates(&code(section)).contains(&BLOCKS_PLACEHOLDER), "{section}");
    }
    for section in ["kprobe", "kretprobe", "raw_tp"] {
        assert!(!immediates(&code(section)).contains(&BLOCKS_PLACEHOLDER), "{section}");
    }
}

#[test]
fn the_licence_is_one_that_the_kernel_calls_compatible() {
    let file = file();
    assert_eq!(file.section_by_name("license").unwrap().data().unwrap(), b"Dual MIT/GPL\0");
}
