//! Facts of this machine that latencies depend on, for a recording's header. What cannot be read is left
//! out; nothing here names the machine or its users.

use std::fs;
use std::path::Path;

use probe_model::origin::Host;

use super::clock;

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
        clocksource: clock::source(),
        clock_step: clock::step(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_facts() {
        let host = facts();
        assert_eq!(host.boot_id.map(|id| id.len()), Some(36));
        assert!(host.memory.is_some_and(|bytes| bytes > 1 << 20));
        assert!(host.clock_step.is_some_and(|step| step > 0));
    }
}
