//! Base pages in the order of their addresses: what a program that simply allocates gets.

use std::io;

use super::super::region::{Pages, Region};
use super::{Buffer, Kind, Order, Unit};

pub(super) const KIND: Kind = Kind {
    name: "anon",
    about: "base pages touched in ascending order, as contiguous as the kernel makes them",
    alias: None,
    unit: Unit::Base,
    build,
};

fn build(order: &Order) -> io::Result<Buffer> {
    let mut region = Region::map(order.len, order.page, Pages::Base)?;
    region.touch_all(order.page);
    Ok(Buffer::of(region))
}
