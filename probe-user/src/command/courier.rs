//! Between a stream and the dashboard: news are taken at once and handed over when there is room.
//!
//! Bounded whatever the terminal does: of samples that wait, the newest is enough, for it holds what those before
//! it held. So whoever writes the stream never waits for us.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use probe_model::call::Call;
use probe_model::origin::MOST_MARKS;

use crate::tui::feed::Feed;
use crate::tui::run::Feeder;

/// Single calls that wait; the oldest go.
const MOST_CALLS: usize = 4096;

/// What waits.
#[derive(Default)]
struct Waiting {
    sample: Option<Feed>,
    calls: VecDeque<Call>,
    marks: VecDeque<Feed>,
    last: Option<Feed>,
    /// Nobody takes any more.
    gone: bool,
}

/// Takes news.
#[derive(Default)]
pub(super) struct Courier {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

impl Courier {
    /// Take news in; false when the dashboard is gone.
    pub(super) fn take(&self, feed: Feed) -> bool {
        let mut waiting = self.waiting();
        match feed {
            Feed::Sample(_) => waiting.sample = Some(feed),
            Feed::Calls(calls) => {
                waiting.calls.extend(calls);
                let beyond = waiting.calls.len().saturating_sub(MOST_CALLS);
                drop(waiting.calls.drain(..beyond));
            }
            Feed::Mark(_) if waiting.marks.len() < MOST_MARKS => waiting.marks.push_back(feed),
            Feed::Mark(_) => {}
            // The end, or a failure: nothing comes after it.
            other => waiting.last = Some(other),
        }
        self.news.notify_one();
        !waiting.gone
    }

    /// Hand over until the last, or until nobody takes it.
    pub(super) fn deliver(self: &Arc<Self>, feeder: &Feeder) {
        loop {
            let nothing = |waiting: &mut Waiting| {
                let none = waiting.sample.is_none() && waiting.calls.is_empty() && waiting.marks.is_empty();
                none && waiting.last.is_none()
            };
            let waited = self.news.wait_while(self.waiting(), nothing);
            let mut waiting = waited.unwrap_or_else(PoisonError::into_inner);
            let Waiting { sample, calls, marks, last, gone } = std::mem::take(&mut *waiting);
            drop(waiting);
            let calls = (!calls.is_empty()).then(|| Feed::Calls(calls.into()));
            let is_last = last.is_some();
            let taken =
                sample.into_iter().chain(calls).chain(marks).chain(last).all(|feed| feeder.send(feed));
            if is_last || gone || !taken {
                self.waiting().gone = true;
                return;
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Each change is whole by itself.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
