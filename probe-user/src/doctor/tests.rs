//! Diagnoses of fixture trees: files made up here, which stand for machines.

use std::fs;

use super::checks::State;
use super::refusal::Refusal;
use super::*;
use crate::btf::blob;
use crate::workload::abi::Abi;

const ALL_CAPABILITIES: &str = "CapEff:\t000001ffffffffff\n";
/// `CAP_BPF` and `CAP_PERFMON`.
const TWO_CAPABILITIES: &str = "CapEff:\t000000c000000000\n";
const STATUS: &str = "proc/self/status";
const KALLSYMS: &str = "proc/kallsyms";
const BOTH: &str =
    "0000000000000000 t iommufd_fops_ioctl\t[iommufd]\n0000000000000000 T iopt_get_phys\t[iommufd]\n";

/// A machine on which everything is as it should be; each test breaks one thing.
struct Tree(tempfile::TempDir);

impl Tree {
    fn good() -> Self {
        let tree = Self(tempfile::tempdir().expect("a folder"));
        tree.file("proc/sys/kernel/osrelease", "7.3.4-test\n")
            .file(KALLSYMS, BOTH)
            .file(STATUS, ALL_CAPABILITIES)
            .file("proc/sys/kernel/perf_event_paranoid", "2\n")
            .file("sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
            .file("sys/kernel/debug/kprobes/enabled", "1\n")
            .file("sys/bus/event_source/devices/kprobe/type", "8\n")
            .file("sys/module/iommufd/refcnt", "0\n")
            .file("dev/iommu", "")
            .file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n")
            .file("dev/vfio/devices/noiommu-vfio0", "")
            .btf(&["main", "BPF_TRACE_FSESSION", "BPF_TRACE_KPROBE_SESSION"])
    }

    /// A kernel and a module with types; the kernel's have these names.
    fn btf(self, names: &[&str]) -> Self {
        // A module's strings count on from the kernel's: one NUL, then the names with theirs.
        let base = 1 + names.iter().map(|name| name.len() + 1).sum::<usize>();
        self.file("sys/kernel/btf/vmlinux", blob(names, 0))
            .file("sys/kernel/btf/iommufd", blob(&["iommufd_fops_ioctl", "iopt_get_phys"], base))
    }

    fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("has one")).expect("create");
        fs::write(path, content).expect("write");
        self
    }

    fn link(self, path: &str, target: &str) -> Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("has one")).expect("create");
        std::os::unix::fs::symlink(target, path).expect("link");
        self
    }

    fn without(self, path: &str) -> Self {
        let path = self.0.path().join(path);
        fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)).expect("was there");
        self
    }

    fn diagnose(&self, abi: Option<Abi>) -> Diagnosis {
        diagnose(&self.host(abi))
    }

    fn host(&self, abi: Option<Abi>) -> Host {
        Host::at(self.0.path(), abi)
    }
}

fn state(diagnosis: &Diagnosis, name: &str) -> State {
    diagnosis.checks.iter().find(|check| check.name == name).expect(name).state
}

#[track_caller]
fn assert_why(diagnosis: &Diagnosis, part: &str) {
    assert!(!diagnosis.record.able);
    let whys: Vec<&str> = diagnosis.record.obstacles.iter().map(|obstacle| &*obstacle.why).collect();
    assert!(whys.iter().any(|why| why.contains(part)), "{part} is not in {whys:?}");
    assert!(diagnosis.record.obstacles.iter().all(|obstacle| !obstacle.remedy.is_empty()));
}

#[test]
fn a_good_machine_has_nothing_to_complain_about() {
    let tree = Tree::good();
    let diagnosis = tree.diagnose(Some(Abi::Merged));
    let bad: Vec<_> = diagnosis.checks.iter().filter(|check| check.state != State::Ok).collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!(diagnosis.ways, Backend::ALL);
    assert!(diagnosis.record.able && diagnosis.load.able);
    let machine = require_record(&tree.host(Some(Abi::Merged))).expect("can record");
    assert_eq!((machine.release.as_str(), machine.abi), ("7.3.4-test", Some(Abi::Merged)));
}

#[test]
fn the_text_ends_with_both_verdicts() {
    let mut text = Vec::new();
    Tree::good()
        .without("dev/vfio/devices/noiommu-vfio0")
        .diagnose(Some(Abi::Merged))
        .write_text(&mut text)
        .expect("writes");
    let text = String::from_utf8(text).expect("text");
    assert!(text.contains("\nrecord: yes, by fsession, fentry, kprobe-session, kprobe\n"), "{text}");
    assert!(text.contains("\nload:   no, no no-IOMMU device is in /dev/vfio/devices\n"), "{text}");
    assert!(text.contains("            what to do: bind a device"), "{text}");
}

#[test]
fn no_iommufd_is_told_apart_by_what_is_known() {
    let bare =
        || Tree::good().without("sys/module/iommufd").without("dev/iommu").file(KALLSYMS, "0 T main\n");
    assert_why(&bare().diagnose(None), "no iommufd, loaded or as a module");
    let config = bare().file("boot/config-7.3.4-test", "# CONFIG_IOMMUFD is not set\n");
    assert_why(&config.diagnose(None), "built without CONFIG_IOMMUFD (/boot/config-7.3.4-test)");
    let modules = "kernel/drivers/iommu/iommufd/iommufd.ko.xz: kernel/lib/x.ko\n";
    let available = bare().file("lib/modules/7.3.4-test/modules.dep", modules);
    let diagnosis = available.diagnose(None);
    assert_why(&diagnosis, "not loaded");
    assert_eq!(diagnosis.record.obstacles[0].remedy, "modprobe iommufd");
    assert_eq!(diagnosis.record.obstacles.len(), 1, "consequences are left out");
}

#[test]
fn noiommu_off_names_the_function_and_the_option() {
    let only_dispatch = "0 t iommufd_fops_ioctl\t[iommufd]\n";
    let tree = Tree::good().file(KALLSYMS, only_dispatch);
    let diagnosis = tree.diagnose(Some(Abi::Off));
    assert_why(&diagnosis, "iopt_get_phys is not in this kernel");
    assert_why(&diagnosis, "CONFIG_IOMMUFD_NOIOMMU");
    assert_eq!(state(&diagnosis, "iommufd_fops_ioctl"), State::Ok);
    assert_eq!(state(&diagnosis, "GET_PA"), State::Missing);
    assert_why(&tree.diagnose(Some(Abi::Absent)), "older than GET_PA");
    let error = require_record(&tree.host(Some(Abi::Off))).expect_err("cannot");
    assert!(error.to_string().contains("what to do: a kernel with CONFIG_VFIO_NOIOMMU"), "{error}");
}

#[test]
fn a_compilers_copy_is_not_the_function() {
    let tree = Tree::good().file(KALLSYMS, BOTH.replace("iopt_get_phys", "iopt_get_phys.isra.0"));
    assert_why(&tree.diagnose(None), "left only iopt_get_phys.isra.0");
}

#[test]
fn debians_paranoia_matters_without_sys_admin_only() {
    let paranoid = || Tree::good().btf(&["main"]).file("proc/sys/kernel/perf_event_paranoid", "3\n");
    assert!(paranoid().diagnose(Some(Abi::Merged)).ways.contains(&Backend::Kprobe));
    let diagnosis = paranoid().file(STATUS, TWO_CAPABILITIES).diagnose(Some(Abi::NotPermitted));
    assert_why(&diagnosis, "perf_event_paranoid is 3");
    assert_why(&diagnosis, "iommufd is a module");
    assert_eq!(state(&diagnosis, "perf_event_paranoid"), State::Missing);
    assert_eq!(state(&diagnosis, "CAP_SYS_ADMIN"), State::Missing);
}

#[test]
fn two_capabilities_are_enough_where_perf_is_as_upstream() {
    let diagnosis = Tree::good().file(STATUS, TWO_CAPABILITIES).diagnose(Some(Abi::NotPermitted));
    assert!(diagnosis.record.able);
    assert_eq!(diagnosis.ways, [Backend::KprobeSession, Backend::Kprobe]);
    assert_eq!(state(&diagnosis, "CAP_SYS_ADMIN"), State::NotNeeded);
    assert_eq!(state(&diagnosis, "CAP_SYS_RAWIO"), State::Missing);
    assert!(!diagnosis.load.able);
}

#[test]
fn a_kprobe_session_needs_neither_perf_nor_the_modules_btf_object() {
    let tree = Tree::good().file("proc/sys/kernel/perf_event_paranoid", "3\n").file(STATUS, TWO_CAPABILITIES);
    assert_eq!(tree.diagnose(Some(Abi::NotPermitted)).ways, [Backend::KprobeSession]);
}

#[test]
fn a_user_without_rights_is_told_which() {
    let diagnosis = Tree::good().file(STATUS, "CapEff:\t0000000000000000\n").diagnose(None);
    assert_why(&diagnosis, "CAP_BPF and CAP_PERFMON not held");
}

#[test]
fn lockdown_to_confidentiality_forbids_kprobes_alone() {
    let level = "none integrity [confidentiality]\n";
    let diagnosis = Tree::good().file("sys/kernel/security/lockdown", level).diagnose(Some(Abi::Merged));
    assert_eq!(diagnosis.ways, Backend::ALL[..3]);
    assert_eq!(state(&diagnosis, "lockdown"), State::NotNeeded);
    let level = "none [integrity] confidentiality\n";
    assert!(Tree::good().file("sys/kernel/security/lockdown", level).diagnose(None).record.able);
}

/// A good machine whose trials ended so.
fn tried(files: impl FnOnce(Tree) -> Tree, outcome: &Result<(), Refusal>) -> Diagnosis {
    let tree = files(Tree::good());
    let mut machine = Machine::look(&tree.host(Some(Abi::Merged)));
    machine.trials = Backend::ALL.into_iter().map(|backend| (backend, outcome.clone())).collect();
    judge(&machine)
}

fn refusal(errno: i32) -> Result<(), Refusal> {
    Err(Refusal { what: format!("the kernel refused program: error {errno}"), errno: Some(errno) })
}

#[test]
fn what_was_tried_is_the_verdict() {
    let level = "none integrity [confidentiality]\n";
    let diagnosis = tried(|tree| tree.file("sys/kernel/security/lockdown", level), &Ok(()));
    assert_eq!(diagnosis.ways, Backend::ALL);
    let diagnosis = tried(|tree| tree, &refusal(libc::EINVAL));
    assert_why(&diagnosis, "was tried and refused");
    assert_eq!(diagnosis.record.obstacles.len(), Backend::ALL.len());
}

#[test]
fn refusals_are_explained_by_what_is_known() {
    let filtered = format!("{ALL_CAPABILITIES}Seccomp:\t2\n");
    for errno in [libc::EPERM, libc::ENOSYS] {
        assert_why(&tried(|tree| tree.file(STATUS, &filtered), &refusal(errno)), "seccomp");
    }
    assert_why(&tried(|tree| tree, &refusal(libc::ENOSYS)), "no bpf(2)");
    assert_why(&tried(|tree| tree, &refusal(libc::EACCES)), "did not permit");
    assert_why(&tried(|tree| tree, &refusal(libc::ENOMEM)), "no room");
    let none = "CapEff:\t0000000000000000\nSeccomp:\t2\n";
    let diagnosis = tried(|tree| tree.file(STATUS, none), &refusal(libc::EPERM));
    assert_why(&diagnosis, "CAP_BPF and CAP_PERFMON not held");
}

#[test]
fn capabilities_of_a_user_namespace_are_none() {
    let tree = Tree::good().link("proc/self/ns/user", "user:[4026532201]");
    let diagnosis = tree.diagnose(Some(Abi::NotPermitted));
    assert_why(&diagnosis, "user namespace");
    assert_eq!(diagnosis.record.obstacles.len(), 1);
    let initial = Tree::good().link("proc/self/ns/user", "user:[4026531837]");
    assert!(initial.diagnose(Some(Abi::Merged)).record.able);
}

#[test]
fn without_sysfs_nothing_else_is_blamed() {
    let diagnosis = Tree::good().without("sys").diagnose(Some(Abi::Merged));
    assert_why(&diagnosis, "no /sys");
    assert_eq!(diagnosis.record.obstacles.len(), 1);
}

#[test]
fn kprobes_that_are_off_close_one_way_of_four() {
    let off = || Tree::good().file("sys/kernel/debug/kprobes/enabled", "0\n");
    let diagnosis = off().diagnose(Some(Abi::Merged));
    assert_eq!(diagnosis.ways, [Backend::Fsession, Backend::Fentry, Backend::KprobeSession]);
    assert_eq!(state(&diagnosis, "kprobes"), State::NotNeeded);
    let diagnosis = off().without("sys/kernel/btf").diagnose(Some(Abi::Merged));
    assert_why(&diagnosis, "kprobes are switched off");
    assert_why(&diagnosis, "no BTF");
    assert_eq!(state(&diagnosis, "kprobes"), State::Missing);
}

#[test]
fn a_blacklisted_function_closes_kprobe_and_a_doubled_one_the_session_too() {
    let blacklist = "0xffffffff81000000-0xffffffff81000100\tiopt_get_phys\n";
    let tree = Tree::good().file("sys/kernel/debug/kprobes/blacklist", blacklist);
    assert_eq!(tree.diagnose(None).ways, Backend::ALL[..3]);
    let doubled = Tree::good().file(KALLSYMS, format!("{BOTH}{BOTH}"));
    assert_eq!(doubled.diagnose(None).ways, [Backend::Fsession, Backend::Fentry]);
}

#[test]
fn a_module_without_btf_leaves_kprobe() {
    let diagnosis = Tree::good().without("sys/kernel/btf/iommufd").diagnose(Some(Abi::Merged));
    assert_eq!(diagnosis.ways, [Backend::Kprobe]);
    assert_eq!(state(&diagnosis, "BTF"), State::NotNeeded);
}

#[test]
fn an_older_kernel_with_btf_has_no_sessions() {
    let ways = |names: &[&str]| Tree::good().btf(names).diagnose(Some(Abi::Merged)).ways;
    assert_eq!(ways(&["main"]), [Backend::Fentry, Backend::Kprobe]);
    let newer = ["main", "BPF_TRACE_KPROBE_SESSION"];
    assert_eq!(ways(&newer), [Backend::Fentry, Backend::KprobeSession, Backend::Kprobe]);
}

#[test]
fn an_empty_tree_is_diagnosed_too() {
    let tree = Tree(tempfile::tempdir().expect("a folder"));
    let diagnosis = tree.diagnose(None);
    assert!(!diagnosis.record.able && !diagnosis.load.able);
    assert_eq!(state(&diagnosis, "kernel"), State::Unknown);
}
