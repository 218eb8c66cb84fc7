//! Huge pages of the default size from the reserved pool: what DPDK and SPDK use.

use std::io;

use super::super::region::{Pages, Region};
use super::{Buffer, Kind, Order, Unit};

pub(super) const KIND: Kind = Kind {
    name: "hugetlb",
    about: "huge pages of the default size, from the reserved pool",
    alias: None,
    unit: Unit::Pool,
    build,
};

fn build(order: &Order) -> io::Result<Buffer> {
    let mut region = Region::map(order.len, order.unit, Pages::Huge)?;
    region.touch_all(order.unit);
    Ok(Buffer::of(region))
}
