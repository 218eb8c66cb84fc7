//! The ioctl.

use rustix::io::Errno;

use super::super::iommufd::{Answer, Iommufd, Query};
use super::Via;

pub struct GetPa<'a>(pub &'a Iommufd);

impl Via for GetPa<'_> {
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the measured loop: a call of it costs as much as its own work")]
    fn ask(&mut self, query: Query, _offset: u64) -> Result<Answer, Errno> {
        self.0.get_pa_uncounted(query)
    }
}
