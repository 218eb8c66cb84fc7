//! Base pages, first the even ones and then the odd ones: no two neighbours come from one stretch of
//! free memory, so runs are one page. The worst case for whoever wants long ones.

use std::io;

use super::super::region::{Pages, Region};
use super::{Buffer, Kind, Order, Unit};

pub(super) const KIND: Kind = Kind {
    name: "alternating",
    about: "base pages, even ones touched first and then odd ones: runs of one page",
    alias: None,
    unit: Unit::Base,
    build,
};

fn build(order: &Order) -> io::Result<Buffer> {
    let mut region = Region::map(order.len, order.page, Pages::Base)?;
    for first in [0, order.page] {
        (first..order.len).step_by(2 * order.page).for_each(|offset| region.touch(offset));
    }
    Ok(Buffer::of(region))
}
