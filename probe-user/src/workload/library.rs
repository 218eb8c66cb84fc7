//! The ready jobs: files of `probe-user/jobs/`, part of the program.

/// A ready job file. A new one is a file and a line here.
macro_rules! ready {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../jobs/", $name, ".toml"))),)*]
    };
}

/// Names and texts.
pub const READY: &[(&str, &str)] = ready! {
    "startup-100gib-like"
    "spdk-init"
    "fragmented-heap"
    "contention"
    "cap-sweep"
    "error-mix"
    "break-even"
    "churn"
    "open-loop"
};

/// The text of a ready job.
pub fn named(name: &str) -> Option<&'static str> {
    READY.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
