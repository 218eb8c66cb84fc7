#!/bin/sh
# One arm of `cargo xtask bench overhead`, in the guest: arm.sh NAME LOOPS TOOL [ARGUMENT…]
# Leaves in $LAB_OUT/NAME what was driven, what the tool says that it saw, and which programs were attached.
set -eu
here=$(dirname "$0")
name=$1 loops=$2 tool=$3
shift 3
mkdir "$LAB_OUT/$name"
cd "$LAB_OUT/$name"
uname -r > kernel
# The driver takes a loop a word.
drive="$here/bare_loop driver.json $loops"
case $tool in
nothing)
	$drive
	"$here/iovascope" load --json --memory hugetlb --size 4M --cap page --step page --count 20000 > load.json
	;;
empty)
	bpftrace -f json -o tool.json -c "sh $here/inside.sh 1000 $drive" "$here/$1"
	;;
bpftrace)
	bpftrace -f json -o tool.json -c "sh $here/inside.sh 0 $drive" "$here/$1"
	bpftrace --version > version
	;;
iovascope)
	# The interval is longer than the run: the recorder sleeps while the loops run.
	"$here/iovascope" record --quiet --interval 1h -o "/tmp/$name.iova" "$@" -- sh "$here/inside.sh" 0 $drive
	"$here/iovascope" report --format json "/tmp/$name.iova" > tool.json
	;;
esac
