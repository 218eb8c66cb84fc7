//! Pages scanned again although an earlier call had the answer, where single calls tell.
//!
//! A caller that advances by less than the run it was given walks the same pages again, quadratic in the
//! length of the run. Only calls that were all recorded, with their IOVA, can show it.

use std::collections::BTreeMap;

use crate::call::{Call, What};

/// What was scanned again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rescans {
    /// Calls looked at.
    pub calls: u64,
    /// Pages they walked.
    pub pages: u64,
    /// Of these, pages of a run that the same thread's call before had returned.
    pub again: u64,
}

impl Rescans {
    /// Share of the pages that were walked again, 0 to 1.
    pub fn share(&self) -> Option<f64> {
        (self.pages > 0).then(|| self.again as f64 / self.pages as f64)
    }
}

/// What `calls`, in order of time, walked again; `None` when none of them says where it looked.
pub fn of<'a>(calls: impl IntoIterator<Item = &'a Call>, page_size: u64) -> Option<Rescans> {
    let mut last: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    let mut found = Rescans::default();
    for call in calls {
        let What::GetPhys { iova: Some(iova), run: Some(run), pages: Some(pages), .. } = &call.what else {
            continue;
        };
        let (begin, end) = (*iova, iova.saturating_add(*run));
        found.calls += 1;
        found.pages += pages;
        if let Some((from, to)) = last.insert(call.tid, (begin, end)) {
            let overlap = end.min(to).saturating_sub(begin.max(from));
            found.again += (overlap / page_size.max(1)).min(*pages);
        }
    }
    (found.calls > 0).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(tid: u32, iova: Option<u64>, run: u64) -> Call {
        let what = What::GetPhys {
            iova,
            cap: None,
            run: Some(run),
            pages: Some(run / 4096),
            stop: Some("cap".into()),
        };
        Call { at: 0, nanos: 1, pid: 1, tid, cpu: 0, comm: Vec::new(), errno: 0, slow: false, what }
    }

    #[test]
    fn what_the_call_before_had_returned_is_walked_again() {
        let calls = [call(1, Some(0), 40_960), call(1, Some(4096), 36_864), call(2, Some(0), 40_960)];
        let found = of(&calls, 4096).unwrap();
        assert_eq!(found, Rescans { calls: 3, pages: 29, again: 9 });
        assert!((found.share().unwrap() - 9.0 / 29.0).abs() < 1e-12);
        let steps = [call(1, Some(0), 8192), call(1, Some(8192), 8192)];
        assert_eq!(of(&steps, 4096).unwrap().again, 0);
        assert_eq!(of(&[call(1, None, 4096)], 4096), None);
    }
}
