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
if [ "$tool" = newest ]; then
	. "$here/newest.sh"
	tool=bpftrace
fi
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
watched)
	mode=$1
	shift
	case $mode in
	record)
		"$here/iovascope" record --quiet --interval 100ms -o "/tmp/$name.iova" "$@" -- sh "$here/inside.sh" 0 $drive
		"$here/iovascope" report --format json "/tmp/$name.iova" > tool.json
		grep -o '"windows": *[0-9]*' tool.json | grep -o '[0-9]*$' > looks
		;;
	top)
		# On a terminal of script's. Its keys come from inside.sh in the end: e writes the report, q ends it.
		mkfifo /tmp/keys
		exec 3<> /tmp/keys
		top="$here/iovascope top --interval 100ms --refresh 100ms --window all $* -- sh $here/inside.sh 0 $drive"
		TERM=xterm-256color SHELL=/bin/sh script -q -e -c "stty cols 120 rows 40; exec $top" screen <&3 > /dev/null
		rm /tmp/keys
		mv iovascope-*.json tool.json
		# A frame is one update of the terminal.
		grep -o '\[?2026h' screen | wc -l > looks
		;;
	esac
	;;
esac
