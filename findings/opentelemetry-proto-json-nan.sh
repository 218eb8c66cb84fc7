#!/usr/bin/env bash
# opentelemetry-proto 0.33.1 (crates.io), feature with-serde. The protobuf JSON mapping, which OTLP/JSON follows, writes
# doubles that are no numbers as the strings "NaN" and "Infinity". Read, such a number point has no value at all and no
# error is given, while "asInt" as a string is read; written, an infinite maximum is null, which is read as absent.
# Guess before the run: an error for the string.
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
opentelemetry-proto = { version = "=0.33.1", default-features = false, features = ["gen-tonic-messages", "metrics", "with-serde"] }
serde_json = "1"
TOML
cat >src/main.rs <<'RUST'
use opentelemetry_proto::tonic::metrics::v1::{ExponentialHistogramDataPoint as Exponential, NumberDataPoint as Number};

fn main() {
    for value in [r#""asInt":"3""#, r#""asDouble":1.5"#, r#""asDouble":"NaN""#, r#""asDouble":"Infinity""#] {
        let text = format!(r#"{{"timeUnixNano":"1",{value}}}"#);
        let read = serde_json::from_str::<Number>(&text).map(|point| point.value);
        println!("{value}: {:?}", read.map_err(|error| error.to_string()));
    }
    let point = Exponential { count: 1, max: Some(f64::INFINITY), ..Default::default() };
    let value = serde_json::to_value(&point).unwrap();
    let back: Exponential = serde_json::from_value(value.clone()).unwrap();
    println!("max {:?}: written as {}, read as {:?}", point.max, value["max"], back.max);
}
RUST
seen=$(cargo run --quiet)
expected=$(cat <<'SEEN'
"asInt":"3": Ok(Some(AsInt(3)))
"asDouble":1.5: Ok(Some(AsDouble(1.5)))
"asDouble":"NaN": Ok(None)
"asDouble":"Infinity": Ok(None)
max Some(inf): written as null, read as None
SEEN
)
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'changed; it was:\n%s\n' "$expected" >&2; exit 1; }
