#!/usr/bin/env bash
# prometheus-parse 0.2.5 (crates.io). The text format allows any character in a label value. A sample with a closing
# brace in one is dropped; a label with `=` in its value is dropped, the sample stays without it; a value is cut at its
# first comma. A name with a colon, as recording rules have, is dropped with its sample. Nothing is said of any.
# Guess before the run: `}` and `,` go wrong, the rest is right.
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
prometheus-parse = "=0.2.5"
TOML
cat >src/main.rs <<'RUST'
fn main() {
    let text = concat!(
        "# TYPE calls counter\n",
        "calls{who=\"plain\"} 1\n",
        "calls{who=\"a=b\"} 2\n",
        "calls{who=\"a,b\",site=\"dispatch\"} 3\n",
        "calls{who=\"a}b\"} 4\n",
        "# TYPE job:calls:rate gauge\n",
        "job:calls:rate{who=\"plain\"} 5\n",
    );
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    let scrape = prometheus_parse::Scrape::parse(lines).unwrap();
    for sample in &scrape.samples {
        println!("{}{{{}}} {:?}", sample.metric, sample.labels, sample.value);
    }
    println!("{} of 5 samples", scrape.samples.len());
}
RUST
seen=$(cargo run --quiet)
expected=$(cat <<'SEEN'
calls{who="plain"} Counter(1.0)
calls{} Counter(2.0)
calls{site="dispatch",who="a"} Counter(3.0)
3 of 5 samples
SEEN
)
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'changed; it was:\n%s\n' "$expected" >&2; exit 1; }
