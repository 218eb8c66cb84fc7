#!/bin/sh
# What the arms of `cargo xtask bench completeness` watch: 64 threads, 10 calls each, one mapping, no cap. All
# callers but one sleep inside the kernel function. Says nothing, so that the tool's words are the tool's.
exec "$(dirname "$0")/iovascope" load --memory hugetlb --size 128M --cap max --threads 64 --count 640 \
	--json --output driver.json > driver.said 2>&1
