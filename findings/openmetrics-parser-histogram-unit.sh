#!/usr/bin/env bash
# openmetrics-parser 0.5.1 (crates.io). OpenMetrics 1.0 lets every family but info and stateset have a UNIT, and asks
# for seconds and bytes. A histogram of seconds with its UNIT line is refused whole; without the line it is read.
# Guess before the run: read, unit kept.
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
openmetrics-parser = "=0.5.1"
TOML
cat >src/main.rs <<'RUST'
use openmetrics_parser::openmetrics::parse_openmetrics;

fn main() {
    let unit = "# UNIT latency_seconds seconds\n";
    let text = |unit: &str| {
        format!(
            "# TYPE latency_seconds histogram\n{unit}latency_seconds_bucket{{le=\"1.0\"}} 1\n\
             latency_seconds_bucket{{le=\"+Inf\"}} 2\nlatency_seconds_sum 3.0\nlatency_seconds_count 2\n# EOF\n"
        )
    };
    for (name, unit) in [("without UNIT", ""), ("with UNIT", unit)] {
        match parse_openmetrics(&text(unit)) {
            Ok(read) => println!("{name}: {} family", read.families.len()),
            Err(error) => println!("{name}: {error:?}"),
        }
    }
}
RUST
seen=$(cargo run --quiet)
expected=$(cat <<'SEEN'
without UNIT: 1 family
with UNIT: InvalidMetric("Some(Histogram) metrics can't have units")
SEEN
)
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'changed; it was:\n%s\n' "$expected" >&2; exit 1; }
