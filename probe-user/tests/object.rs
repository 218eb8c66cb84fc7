//! The built BPF object against the tables it was built from. Needs `cargo xtask build`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;

use iovascope::source::kernel;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};
use probe_common::site::SITES;
use probe_common::wire::{BLOCKS_MAP, Block, CONTROL_MAP, Control, DispatchOpen, GetPhysOpen, OPEN_CALLS};

/// Helper numbers (include/uapi/linux/bpf.h) that read user memory, or memory of either kind.
const READS_USER_MEMORY: [i32; 6] = [4, 45, 112, 114, 148, 197];
/// Opcode of a call.
const CALL: u8 = 0x85;

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
    let mut entries = SITES.map(|site| site.entry_program);
    let mut returns = SITES.map(|site| site.return_program);
    entries.sort_unstable();
    returns.sort_unstable();
    assert_eq!(names_in("kprobe"), entries);
    assert_eq!(names_in("kretprobe"), returns);
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
        (CONTROL_MAP.to_owned(), [ARRAY, 4, size(size_of::<Control>()), 1]),
        (SITES[0].open_map.to_owned(), [HASH, 8, size(size_of::<DispatchOpen>()), OPEN_CALLS]),
        (SITES[1].open_map.to_owned(), [HASH, 8, size(size_of::<GetPhysOpen>()), OPEN_CALLS]),
        // aya-log's own.
        ("AYA_LOGS".to_owned(), [RINGBUF, 0, 0, 1 << 17]),
    ]);
    assert_eq!(maps(), expected);
}

#[test]
fn no_program_reads_user_memory() {
    let file = file();
    let mut instructions = 0;
    for section in ["kprobe", "kretprobe", ".text"] {
        for instruction in file.section_by_name(section).unwrap().data().unwrap().chunks_exact(8) {
            instructions += 1;
            let helper = i32::from_le_bytes(instruction[4..].try_into().unwrap());
            // The upper half of byte 1 is the kind of call; 0 is a helper.
            let calls_helper = instruction[0] == CALL && instruction[1] >> 4 == 0;
            assert!(!calls_helper || !READS_USER_MEMORY.contains(&helper), "{section} calls helper {helper}");
        }
    }
    assert!(instructions > 100, "only {instructions} instructions looked at");
}

#[test]
fn the_licence_is_one_that_the_kernel_calls_compatible() {
    let file = file();
    assert_eq!(file.section_by_name("license").unwrap().data().unwrap(), b"Dual MIT/GPL\0");
}
