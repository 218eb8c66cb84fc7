#!/usr/bin/env bash
# btf 0.5.1 (crates.io). BTF holds the size of each struct and union. The crate computes sizes of its own: padding at
# the end is missing (72 bits of 128), a bit field counts as its whole type (41 bits for fields of 9 and 7 bits in one
# int), and a union is given as Type::Struct, so Type::Union is never met.
# Guess before the run: sizes as recorded, union as Union.
# The input is written here by hand, as Documentation/bpf/btf.rst has it: int, long, char,
# struct { long; char; }, struct { int : 9; int : 7; }, union { int; char; }.
# Needs: cargo.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "look"
version = "0.0.0"
edition = "2021"

[dependencies]
btf = "=0.5.1"
TOML
cat >src/main.rs <<'RUST'
use btf::btf::{Btf, Type};

fn main() {
    let mut strings = vec![0u8];
    let mut types: Vec<u8> = Vec::new();
    let mut add = |name: &str, kind: u32, count: u32, flag: u32, size: u32, rest: &[u32]| {
        let at = strings.len() as u32;
        strings.extend(name.bytes().chain([0]));
        for word in [at, flag << 31 | kind << 24 | count, size].iter().chain(rest) {
            types.extend(word.to_le_bytes());
        }
    };
    add("int", 1, 0, 0, 4, &[1 << 24 | 32]);
    add("long", 1, 0, 0, 8, &[1 << 24 | 64]);
    add("char", 1, 0, 0, 1, &[2 << 24 | 8]);
    add("padded", 4, 2, 0, 16, &[0, 2, 0, 0, 3, 64]);
    add("fields", 4, 2, 1, 4, &[0, 1, 9 << 24, 0, 1, 7 << 24 | 9]);
    add("either", 5, 2, 0, 4, &[0, 1, 0, 0, 3, 0]);
    let mut file = 0xeb9fu16.to_le_bytes().to_vec();
    file.extend([1, 0]);
    let (t, s) = (types.len() as u32, strings.len() as u32);
    for word in [24, 0, t, t, s] {
        file.extend(word.to_le_bytes());
    }
    file.extend(types);
    file.extend(strings);
    std::fs::write("look.btf", file).unwrap();
    let btf = Btf::from_file("look.btf").unwrap();
    for (name, true_bits) in [("padded", 128), ("fields", 32), ("either", 32)] {
        let found = btf.get_type_by_name(name).unwrap();
        let kind = match found.base_type {
            Type::Struct(_) => "Struct",
            Type::Union(_) => "Union",
            _ => "something else",
        };
        println!("{name}: {kind} of {} bits, recorded {true_bits}", found.bits);
    }
}
RUST
seen=$(cargo run --quiet)
expected=$(cat <<'SEEN'
padded: Struct of 72 bits, recorded 128
fields: Struct of 41 bits, recorded 32
either: Struct of 32 bits, recorded 32
SEEN
)
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'changed; it was:\n%s\n' "$expected" >&2; exit 1; }
