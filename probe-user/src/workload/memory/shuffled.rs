//! Base pages touched in an order of the seed's: neighbours are rarely physically adjacent, as in an
//! old, much used heap.

use std::io;

use super::super::random::Random;
use super::super::region::{Pages, Region};
use super::{Buffer, Kind, Order, Unit};

pub(super) const KIND: Kind = Kind {
    name: "shuffled",
    about: "base pages touched in shuffled order: a fragmented heap",
    alias: Some("fragmented"),
    unit: Unit::Base,
    build,
};

fn build(order: &Order) -> io::Result<Buffer> {
    let mut region = Region::map(order.len, order.page, Pages::Base)?;
    for index in Random::new(order.seed, 0).shuffled(order.len / order.page) {
        region.touch(index * order.page);
    }
    Ok(Buffer::of(region))
}
