# Sourced by arm.sh and contention.sh: `bpftrace` is the newest one from now on, that `cargo xtask bench` shares as
# `newest`. It comes with its own C library, and its children keep the guest's. Its arguments need /dev/fd.
newest=/lab/share/newest/usr
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
bpftrace() {
	"$newest/lib64/ld-linux-x86-64.so.2" --library-path "$newest/lib/x86_64-linux-gnu" "$newest/bin/bpftrace" "$@"
}
