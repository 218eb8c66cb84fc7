//! The ioctl.

use rustix::io::Errno;

use super::super::iommufd::{Answer, Iommufd, Query};
use super::Via;

pub struct GetPa<'a>(pub &'a Iommufd);

impl Via for GetPa<'_> {
    #[inline]
    fn ask(&mut self, query: Query, _offset: u64) -> Result<Answer, Errno> {
        self.0.get_pa_uncounted(query)
    }
}
