//! Transparent huge pages, mapped as such.

use std::io;

use super::super::region::{Pages, Region};
use super::{Buffer, Kind, Order, Unit};

pub(super) const KIND: Kind = Kind {
    name: "thp",
    about: "transparent huge pages, where the kernel gives them",
    alias: None,
    unit: Unit::Transparent,
    build,
};

fn build(order: &Order) -> io::Result<Buffer> {
    transparent(order).map(Buffer::of)
}

/// Huge pages are given at the first touch, or made afterwards of what was given instead.
pub(super) fn transparent(order: &Order) -> io::Result<Region> {
    let mut region = Region::map(order.len, order.unit, Pages::Transparent)?;
    region.touch_all(order.page);
    region.collapse();
    Ok(region)
}
