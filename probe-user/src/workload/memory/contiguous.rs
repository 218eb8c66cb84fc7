//! Memory mapped by base pages that is contiguous nevertheless: transparent huge pages whose mapping was
//! split. What a page-by-page walk costs when every page is physically next to the one before.

use std::io;

use super::super::region::Region;
use super::{Buffer, Kind, Order, Unit, thp};

pub(super) const KIND: Kind = Kind {
    name: "contiguous",
    about: "base pages that are contiguous for 2 MiB and more: huge pages, their mapping split",
    alias: None,
    unit: Unit::Transparent,
    build,
};

fn build(order: &Order) -> io::Result<Buffer> {
    let mut region: Region = thp::transparent(order)?;
    for offset in (0..order.len).step_by(order.unit) {
        region.split(offset, order.page)?;
    }
    Ok(Buffer::of(region))
}
