#!/usr/bin/env bash
# hdr-histogram-js 3.0.1 (npm). Its histograms have 32-bit counts by default, when they are built and when they are
# decoded. A count of 2^32 or more, which the V2 encoding holds as any other, is taken modulo 2^32: no error, the total
# is the true one, and percentiles are those of what is left.
# Guess before the run: decoding refuses, or saturates. Seen: neither.
# Needs: node, npm.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund hdr-histogram-js@3.0.1 >/dev/null
cat >look.js <<'JS'
const hdr = require("hdr-histogram-js");
const show = (name, h) => console.log(`${name}: total ${h.totalCount}, p50 ${h.getValueAtPercentile(50)}`);
const wide = hdr.build({ bitBucketSize: 64 });
wide.recordValueWithCount(100, 2 ** 33);
wide.recordValueWithCount(9, 2);
const bytes = hdr.encodeIntoCompressedBase64(wide);
show("as recorded", wide);
for (const bits of [64, "packed"]) show(`decoded, ${bits}`, hdr.decodeFromCompressedBase64(bytes, bits));
show("decoded, default", hdr.decodeFromCompressedBase64(bytes));
const sum = hdr.build();
sum.add(wide);
show("added to a default one", sum);
JS
seen=$(node look.js)
expected="as recorded: total 8589934594, p50 100
decoded, 64: total 8589934594, p50 100
decoded, packed: total 8589934594, p50 100
decoded, default: total 2, p50 9
added to a default one: total 8589934594, p50 0"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'changed; it was:\n%s\n' "$expected" >&2; exit 1; }
