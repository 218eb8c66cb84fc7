//! The ready jobs of `iovascope load`, each under the recorder.

use iovascope::workload::library;

use crate::guest;

/// Recorder and driver must count the same, per command and errno, for every ready job. `flags` outrank
/// what the jobs say. By kprobe sessions, which threads cannot be in the way of: a trampoline's program that is
/// preempted, in a job of many threads, misses the call of the next, and a kretprobe's pool runs empty.
pub(crate) fn agrees(name: &str, flags: &str) {
    guest::huge_pages(80);
    for (job, _) in library::READY {
        let recorded =
            guest::record_load_by("kprobe-session", &format!("{name}-{job}"), &format!("{job} {flags}"));
        let driven = guest::driven(&recorded.load);
        assert_eq!(guest::dispatched(&recorded.report), driven, "{job}");
        assert_eq!(recorded.report["complete"], true, "{job}: {}", recorded.said);
        assert!(guest::count(&driven, "IOAS_NOIOMMU_GET_PA", "ok") > 100, "{job} did nothing: {driven:?}");
        let answered = |key: &str| {
            let jobs = recorded.load["jobs"].as_array().unwrap();
            let seen = jobs.iter().filter_map(|job| job["verify"][key].as_u64());
            seen.sum::<u64>()
        };
        assert_eq!(answered("differences"), 0, "{job}: {}", recorded.load["jobs"]);
    }
}
