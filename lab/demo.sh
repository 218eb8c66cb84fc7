#!/bin/sh
# The demo: real GET_PA calls of several kinds under one recorder. Needs a no-IOMMU device.
#
# 64 MiB of huge pages is used where the machine has them; the sysctl is not changed here.
set -eu
huge=$(awk '/^HugePages_Free:/ { print $2 }' /proc/meminfo)
[ "$huge" -ge 32 ] && memory=hugetlb || memory=anon

exec iovascope record -i 200ms -o demo.iova -- sh -euc "
	iovascope load --memory $memory --size 64M --cap page --step page --count 20000 --verify
	iovascope load --memory $memory --size 64M --cap max --step huge --count 64 --verify
	iovascope load --memory fragmented --size 64M --cap max --step returned --count 8000 --verify
	iovascope load --size 1M --count 500 --errors unmapped=40,zero-length=30,bad-ioas=20,flags=10
"
