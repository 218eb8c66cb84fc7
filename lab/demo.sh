#!/bin/sh
# The demo: real GET_PA calls of several kinds under one recorder. Needs a no-IOMMU device.
#
# 64 MiB of huge pages is used where the machine has them; the sysctl is not changed here.
# Arguments: where the recording goes [demo.iova, `-` for stdout], and how many times the usual calls.
set -eu
out=${1:-demo.iova}
n=${2:-1}
huge=$(awk '/^HugePages_Free:/ { print $2 }' /proc/meminfo)
[ "$huge" -ge 32 ] && memory=hugetlb || memory=anon

# What the drivers say must not stand in a recording on stdout.
exec iovascope record -i 200ms --slower 1ms --calls-every 100 -o "$out" -- sh -euc "
	exec >&2
	iovascope load --memory $memory --size 64M --cap page --step page --count $((20000 * n)) --verify
	iovascope load --memory $memory --size 64M --cap max --step huge --count $((64 * n)) --verify
	iovascope load --memory fragmented --size 64M --cap max --step returned --count $((8000 * n)) --verify
	iovascope load --size 1M --count $((500 * n)) --errors unmapped=40,zero-length=30,bad-ioas=20,flags=10
"
