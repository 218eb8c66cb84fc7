//! The kernel's word that the wall clock was set, by a timer that such a change cancels.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// The kernel's word that the wall clock was set, or the machine woke up: it comes at once, so that two steps between
/// two looks are two.
pub struct WallClock(AsyncFd<OwnedFd>);

/// Far away, seconds since 1970: the timer itself is not waited for.
const NEVER: i64 = 1 << 34;

impl WallClock {
    /// Needs tokio's runtime.
    pub fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let never = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: NEVER, tv_nsec: 0 },
        };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &never)?;
        // SAFETY: the descriptor is owned, and neither replaced nor closed as long as this lives.
        #[allow(unsafe_code, reason = "tokio cannot know that the descriptor stays the same")]
        let registered = unsafe { AsyncFd::register(timer) };
        Ok(Self(registered?))
    }

    /// Wait until it was set.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0u8; 8])?));
            match read {
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::CANCELED.raw_os_error()) => {
                    return Ok(());
                }
                Ok(Err(error)) => return Err(error),
                Ok(Ok(_)) | Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn nothing_is_said_while_nobody_sets_the_clock() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let clock = WallClock::new().unwrap();
        let mut changed = std::pin::pin!(clock.changed());
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(changed.as_mut().poll(&mut context), Poll::Pending));
    }
}
