//! The lab's own promises, each kept by a real guest.
//!
//! Boots take seconds, so one guest answers several questions. Needs what `cargo xtask setup` makes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Prints what a variant has.
const INVENTORY: &str = "for node in /dev/iommu /dev/vfio/devices/noiommu-vfio0 /sys/kernel/btf/iommufd; do \
                             test -e $node && echo $node; \
                         done; \
                         grep -qw 't iopt_get_phys' /proc/kallsyms && echo iopt_get_phys; true";

/// `cargo xtask lab run`, with its output folder in `out`, of `script` for the guest's sh.
fn lab(out: &Path, options: &[&str], script: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["lab", "run", "--no-build", "--out"]).arg(out).args(options);
    command.args(["--", "sh", "-c", script]);
    match command.output() {
        Ok(output) => output,
        Err(error) => panic!("xtask does not start: {error}"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_status(output: &Output, status: i32) {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "\nstdout: {stdout}\nstderr: {stderr}");
}

/// Bytes of every value, with no period that a buffer's size could hide.
fn noise(length: usize) -> Vec<u8> {
    let step = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some(state.to_be_bytes()[0])
    };
    std::iter::repeat_with({
        let mut state = 7;
        move || step(&mut state).unwrap_or_default()
    })
    .take(length)
    .collect()
}

#[test]
fn a_run_passes_status_streams_and_files_and_leaves_the_host_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (out, data) = (dir.path().join("out"), dir.path().join("data, with a comma"));
    fs::create_dir(&data).unwrap();
    let (first, second) = (noise(300_001), noise(70_003));
    fs::write(data.join("first"), &first).unwrap();
    fs::write(data.join("second"), &second).unwrap();
    let canary = dir.path().join("canary");
    fs::write(&canary, "alive").unwrap();
    let share = format!("data={}", data.display());
    let lure = format!("LURE={}", canary.display());
    let script = r#"
        cat /lab/share/data/first
        cat /lab/share/data/second >&2
        [ "$PWD" = /lab/out ] && [ "$LAB_OUT" = /lab/out ] && [ "$LAB_VARIANT" = mainline ] || exit 91
        [ "$ANSWER" = "forty two" ] && [ -z "$(cat)" ] || exit 92
        mkdir sub && cp /lab/share/data/second sub/copy || exit 93
        rm /usr/bin/strace && echo x > /usr/bin/dash.new || exit 94
        for share in /lab/in /lab/modules /lab/share/data; do
            mount -o remount,rw "$share" 2> /dev/null
            touch "$share/intruder" 2> /dev/null && exit 95
            rm -f "$share"/* 2> /dev/null
        done
        ln -s "$LURE" "$LAB_OUT/console.log" || exit 96
        exit 7
    "#;
    let output = lab(&out, &["--share", &share, "--env", "ANSWER=forty two", "--env", &lure], script);
    assert_status(&output, 7);
    assert!(
        output.stdout == first,
        "stdout is not byte-exact: {} of {} bytes",
        output.stdout.len(),
        first.len()
    );
    // Before the guest runs, xtask itself may have to say that another cargo is at work.
    assert!(
        output.stderr.ends_with(&second),
        "stderr is not byte-exact: {} of {} bytes",
        output.stderr.len(),
        second.len()
    );
    assert_eq!(fs::read(out.join("sub/copy")).unwrap(), second);
    assert!(text(&fs::read(out.join("console.log")).unwrap()).contains("taint"), "the console's log is kept");
    assert_eq!(
        fs::read_to_string(&canary).unwrap(),
        "alive",
        "a link led the console's log out of the folder"
    );
    assert_eq!(fs::read_dir(&data).unwrap().count(), 2, "the guest wrote to a read-only share");
    // The next guest sees the root as it was.
    let script = format!("{INVENTORY}; test -x /usr/bin/strace && ! test -e /usr/bin/dash.new");
    let again = lab(&out, &["--variant", "stock"], &script);
    assert_status(&again, 0);
    assert_eq!(text(&again.stdout), "", "the stock kernel has no iommufd");
}

#[test]
fn each_variant_is_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let node = "/dev/vfio/devices/noiommu-vfio0";
    for (variant, expected) in [
        ("mainline", vec!["/dev/iommu", node, "/sys/kernel/btf/iommufd", "iopt_get_phys"]),
        ("v5", vec!["/dev/iommu", node, "/sys/kernel/btf/iommufd", "iopt_get_phys"]),
        ("noiommu-off", vec!["/dev/iommu", "/sys/kernel/btf/iommufd"]),
    ] {
        let output = lab(dir.path(), &["--variant", variant], INVENTORY);
        assert_status(&output, 0);
        assert_eq!(text(&output.stdout).lines().collect::<Vec<_>>(), expected, "{variant}");
    }
}

#[test]
fn trouble_in_the_kernel_fails_a_command_that_succeeded() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo '<4>WARNING: CPU: 0 PID: 1 at lab/test.c:1 f+0x0/0x1' > /dev/kmsg
                  echo 512 > /proc/sys/kernel/tainted";
    let output = lab(dir.path(), &["--variant", "stock"], script);
    assert_status(&output, 125);
    let said = text(&output.stderr);
    for told in ["the command ended with 0, but", "warning: [", "lab/test.c:1", "taint: bit 9"] {
        assert!(said.contains(told), "{told}: {said}");
    }
}

#[test]
fn a_panic_and_a_sudden_end_fail() {
    let dir = tempfile::tempdir().unwrap();
    for (key, told) in [("c", "panic: ["), ("o", "without a verdict")] {
        let script = format!("echo before; sleep 1; echo {key} > /proc/sysrq-trigger; sleep 60");
        let output = lab(dir.path(), &["--variant", "stock"], &script);
        assert_status(&output, 125);
        assert_eq!(text(&output.stdout), "before\n");
        assert!(text(&output.stderr).contains(told), "{}", text(&output.stderr));
    }
}

#[test]
fn a_hang_ends_at_the_time_limit_with_the_consoles_tail() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo '<2>the last words' > /dev/kmsg; echo begun; sleep 1000";
    let output = lab(dir.path(), &["--variant", "stock", "--timeout", "20"], script);
    assert_status(&output, 124);
    assert_eq!(text(&output.stdout), "begun\n");
    let said = text(&output.stderr);
    assert!(said.contains("time limit of 20 s") && said.contains("the last words"), "{said}");
    assert!(text(&fs::read(dir.path().join("console.log")).unwrap()).contains("the last words"));
}

#[test]
fn a_command_that_does_not_exist_is_the_labs_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["lab", "run", "--no-build", "--variant", "stock", "--out"]).arg(dir.path());
    let output = command.args(["--", "no-such-program"]).output().unwrap();
    assert_status(&output, 125);
    assert!(text(&output.stderr).contains("start no-such-program"), "{}", text(&output.stderr));
}
