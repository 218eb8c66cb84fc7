//! Huge pages of 1 GiB from their pool: the longest scans that one page gives.

use std::io;

use super::super::region::{Pages, Region};
use super::{Buffer, Kind, Order, Unit};

/// Bytes of such a page.
pub(super) const SIZE: u64 = 1 << 30;

pub(super) const KIND: Kind = Kind {
    name: "hugetlb-1g",
    about: "huge pages of 1 GiB, from their pool",
    alias: None,
    unit: Unit::GiantPool,
    build,
};

fn build(order: &Order) -> io::Result<Buffer> {
    let mut region = Region::map(order.len, order.unit, Pages::Giant)?;
    region.touch_all(order.unit);
    Ok(Buffer::of(region))
}
