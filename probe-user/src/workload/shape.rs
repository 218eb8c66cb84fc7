//! What a buffer really is: its runs by pagemap, and by which pages it is mapped by smaps.

use std::fs;

use super::pagemap::Frames;
use super::quantity::Bytes;
use super::region::Region;

/// The physical layout of a buffer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Shape {
    /// Physically contiguous stretches.
    pub runs: u64,
    pub shortest_run_bytes: Bytes,
    pub median_run_bytes: Bytes,
    pub longest_run_bytes: Bytes,
    /// The page that the kernel's `KernelPageSize` names; absent where smaps does not say.
    pub page_bytes: Option<Bytes>,
    /// Bytes mapped by transparent huge pages.
    pub transparent_bytes: Option<Bytes>,
}

impl Shape {
    pub fn of(frames: &Frames, region: &Region) -> Self {
        let mut runs = frames.runs();
        runs.sort_unstable();
        let at = |index: usize| Bytes(runs.get(index).copied().unwrap_or(0));
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        let (page_bytes, transparent_bytes) = mapped(&smaps, region.address() as u64, region.len() as u64);
        Self {
            runs: runs.len() as u64,
            shortest_run_bytes: at(0),
            median_run_bytes: at(runs.len() / 2),
            longest_run_bytes: at(runs.len().saturating_sub(1)),
            page_bytes,
            transparent_bytes,
        }
    }
}

/// Page size and transparent bytes of the mappings that lie in the range (`fs/proc/task_mmu.c`, Linux 7.3).
fn mapped(smaps: &str, address: u64, len: u64) -> (Option<Bytes>, Option<Bytes>) {
    let (mut page, mut transparent) = (None, None);
    let mut ours = false;
    for line in smaps.lines() {
        if let Some((from, to)) = range_of(line) {
            ours = from >= address && to <= address + len;
            continue;
        }
        if !ours {
            continue;
        }
        let field = |name: &str| -> Option<u64> {
            let value = line.strip_prefix(name)?.strip_prefix(':')?;
            Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
        };
        if let Some(bytes) = field("KernelPageSize") {
            page = Some(Bytes(bytes));
        }
        if let Some(bytes) = field("AnonHugePages") {
            let Bytes(sum) = transparent.unwrap_or(Bytes(0));
            transparent = Some(Bytes(sum + bytes));
        }
    }
    (page, transparent)
}

/// `7f00-7f10 rw-p …`
fn range_of(line: &str) -> Option<(u64, u64)> {
    let (from, to) = line.split_whitespace().next()?.split_once('-')?;
    Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::quantity::PageSize;
    use super::super::region::Pages;
    use super::*;

    #[test]
    fn runs_are_summed_up() {
        let page = PageSize::of_system();
        let len = usize::try_from(page.0).expect("fits");
        let mut region = Region::map(7 * len, len, Pages::Base).expect("map");
        region.touch_all(len);
        let frames = Frames::new(vec![10, 11, 12, 30, 20, 21, 50], page);
        let shape = Shape::of(&frames, &region);
        let pages = |bytes: Bytes| bytes.0 / page.0;
        assert_eq!(shape.runs, 4);
        let found = [shape.shortest_run_bytes, shape.median_run_bytes, shape.longest_run_bytes].map(pages);
        assert_eq!(found, [1, 2, 3]);
        // The region between its guards is a mapping of its own.
        assert_eq!((shape.page_bytes, shape.transparent_bytes), (Some(Bytes(page.0)), Some(Bytes(0))));
    }

    #[test]
    fn only_the_range_counts() {
        let text = "1000-2000 rw-p 00000000 00:00 0\nKernelPageSize:        4 kB\nAnonHugePages:         0 kB\n\
                    200000-400000 rw-p 00000000 00:00 0\nKernelPageSize:        4 kB\nAnonHugePages:      2048 kB\n";
        assert_eq!(mapped(text, 0x20_0000, 0x20_0000), (Some(Bytes(4096)), Some(Bytes(2 << 20))));
        assert_eq!(mapped(text, 0x50_0000, 0x1000), (None, None));
    }
}
