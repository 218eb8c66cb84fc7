#!/bin/sh
# inside.sh CALLS DRIVER FILE LOOP…: the child of a tool, so that the tool lives exactly as long.
# Drives, then notes which BPF programs there are. With CALLS, drives as many again while the kernel counts
# the runs of programs, which it does not do before, because counting costs.
set -eu
calls=$1
shift
"$@"
if [ "$calls" -gt 0 ]; then
	echo 1 > /proc/sys/kernel/bpf_stats_enabled
	"$1" /tmp/again.json "mapped:4096:$calls"
fi
bpftool --json prog show > programs.json
cat "/proc/$PPID/fdinfo/"* > fdinfo 2> /dev/null || true
# A dashboard does not end with its command. Its last sample must hold the last call.
if [ -p /tmp/keys ]; then
	sleep 1
	printf eq > /tmp/keys
fi
if [ "$calls" -gt 0 ]; then
	echo 0 > /proc/sys/kernel/bpf_stats_enabled
fi
