//! Pages of a memfd, mapped as a file (`IOAS_MAP_FILE`): memory that processes share.

use std::io;
use std::os::fd::AsFd as _;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::super::region::{Pages, Region};
use super::{Buffer, Kind, Order, Unit};

pub(super) const KIND: Kind = Kind {
    name: "memfd",
    about: "pages of a memfd, mapped through IOAS_MAP_FILE",
    alias: None,
    unit: Unit::Base,
    build,
};

fn build(order: &Order) -> io::Result<Buffer> {
    let file = memfd_create("iovascope", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, order.len as u64)?;
    let mut region = Region::map(order.len, order.page, Pages::File(file.as_fd()))?;
    region.touch_all(order.page);
    Ok(Buffer { region, file: Some(file) })
}
