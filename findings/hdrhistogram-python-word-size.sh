#!/usr/bin/env bash
# hdrhistogram 0.10.3 (PyPI). With word_size=2, 70,000 values of 5 are accepted by record_value (which says True) and
# counted in the total, but the bucket's 16 bits hold 70000 mod 2^16 = 4464, and the median is 0, a value never
# recorded. With 65,535 values everything is right.
# Guess before the run: record_value refuses or the bucket saturates. Seen: neither.
# Needs: python3 with venv.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check hdrhistogram==0.10.3
seen=$("$work/venv/bin/python" - <<'PY'
from hdrh.histogram import HdrHistogram

for count in (65_535, 70_000):
    h = HdrHistogram(1, 1_000_000, 3, word_size=2)
    accepted = h.record_value(5, count)
    print(f"{count}: accepted {accepted}, total {h.get_total_count()}, "
          f"at 5 {h.get_count_at_value(5)}, p50 {h.get_value_at_percentile(50)}")
PY
)
expected="65535: accepted True, total 65535, at 5 65535, p50 5
70000: accepted True, total 70000, at 5 4464, p50 0"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'changed; it was:\n%s\n' "$expected" >&2; exit 1; }
