//! Runs a program inside the lab's root, in a mount namespace of its own.
//!
//! Nothing stays mounted, whatever happens to the program; and removing a cached root can never reach the
//! host's `/dev`. Needs no root: a plain user gets a user namespace.

use std::path::Path;
use std::process::Command;

use rustix::process::geteuid;

/// `$1` is the root, `$2` a folder to bind at `/lab/build` (or the root itself for none), the rest is run.
const SCRIPT: &str = r#"
root=$1; work=$2; shift 2
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
if [ "$work" != "$root" ]; then mount --bind "$work" "$root/lab/build"; fi
exec chroot "$root" "$@"
"#;

/// Where the work folder is inside.
pub(crate) const WORK: &str = "/lab/build";

/// A command that runs `program` in `root`, with `work` at [`WORK`] and an empty environment.
pub(crate) fn command(root: &Path, work: Option<&Path>, program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command
        .args(["sh", "-euc", SCRIPT, "sh"])
        .arg(root)
        .arg(work.unwrap_or(root))
        .arg(program)
        .env_clear()
        .env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin")
        .env("LC_ALL", "C")
        .env("TMPDIR", format!("{WORK}/tmp"));
    command
}
