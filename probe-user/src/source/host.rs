//! Facts of this machine that latencies depend on, for a recording's header. What cannot be read is left
//! out; nothing here names the machine or its users.

use std::fs;
use std::path::Path;

use probe_model::origin::{Anchor, Host};
use probe_model::sample::Instant;
use rustix::time::{ClockId, clock_gettime};

/// Read them.
pub fn facts() -> Host {
    let text = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let field = |file: &str, key: &str| {
        let lines = text(file)?;
        let line = lines.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_start_matches([':', ' ', '\t']).trim().to_owned())
    };
    Host {
        boot_id: text("/proc/sys/kernel/random/boot_id"),
        cpu: field("/proc/cpuinfo", "model name"),
        clocksource: text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        memory: field("/proc/meminfo", "MemTotal")
            .and_then(|kib| kib.strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)),
        numa_nodes: nodes(Path::new("/sys/devices/system/node")),
    }
}

fn nodes(folder: &Path) -> Option<u32> {
    let is_node = |name: &str| name.strip_prefix("node").is_some_and(|rest| rest.parse::<u32>().is_ok());
    let nodes = fs::read_dir(folder).ok()?.flatten();
    u32::try_from(nodes.filter(|entry| entry.file_name().to_str().is_some_and(is_node)).count()).ok()
}

/// Now, by every clock.
pub fn anchor() -> Anchor {
    let read = |clock| {
        let time = clock_gettime(clock);
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
    };
    let at = Instant { monotonic: read(ClockId::Monotonic), realtime: read(ClockId::Realtime) };
    Anchor { at, boottime: read(ClockId::Boottime) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_facts_and_clocks_that_agree() {
        let host = facts();
        assert_eq!(host.boot_id.map(|id| id.len()), Some(36));
        assert!(host.memory.is_some_and(|bytes| bytes > 1 << 20));
        let anchor = anchor();
        assert!(anchor.boottime >= anchor.at.monotonic && anchor.at.realtime > anchor.boottime);
    }
}
