#!/bin/sh
# Runs a command and then, with the kernel counting runs of BPF programs, 1000 more GET_PA calls: what is
# attached shows itself in programs.json. Counting starts after the command, because it costs.
set -eu
"$@"
echo 1 > /proc/sys/kernel/bpf_stats_enabled
"$1" /tmp/shown.json mapped:4096:1000
bpftool --json prog show > "$LAB_OUT/programs.json"
