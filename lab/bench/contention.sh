#!/bin/sh
# One arm of `cargo xtask bench completeness`, in the guest: contention.sh TOOL [ARGUMENT…]
# Leaves in the working folder what was driven, what the tool counted, and its words.
set -eu
here=$(dirname "$0")
tool=$1
shift
uname -r > kernel
if [ "$tool" = newest ]; then
	. "$here/newest.sh"
	tool=bpftrace
fi
case $tool in
bpftrace)
	bpftrace -f json -o tool.json -c "sh $here/drive.sh" "$here/$1" 2> said
	bpftrace --version > version
	;;
iovascope)
	"$here/iovascope" record --interval 1h --backend "$1" -o /tmp/run.iova -- sh "$here/drive.sh" 2> said
	"$here/iovascope" report --format json /tmp/run.iova > tool.json
	"$here/iovascope" report /tmp/run.iova > report
	# Its exit status says whether anything was lost.
	strict=0
	"$here/iovascope" report --strict /tmp/run.iova > strict.report 2>&1 || strict=$?
	echo "$strict" > strict
	;;
esac
