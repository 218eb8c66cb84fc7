//! The table of iommufd ioctls, by their UAPI names.
//!
//! Source: include/uapi/linux/iommufd.h and `iommufd_ioctl_ops[]` in drivers/iommu/iommufd/main.c,
//! Linux 7.3. Every command is `_IO(';', nr)`: no size and no direction bits, so the whole ioctl
//! number is `(';' << 8) | nr`.

/// The ioctl type byte of iommufd and VFIO, `';'`.
pub const IOCTL_TYPE: u32 = 0x3b;
/// The first iommufd command, `IOMMUFD_CMD_BASE`.
pub const FIRST_NR: u32 = 0x80;
/// The first VFIO command number, `VFIO_BASE` (include/uapi/linux/vfio.h).
pub const VFIO_FIRST_NR: u32 = 100;

/// UAPI names without the `IOMMU_` prefix, in the order of their numbers from [`FIRST_NR`].
pub const NAMES: [&str; 22] = [
    "DESTROY",
    "IOAS_ALLOC",
    "IOAS_ALLOW_IOVAS",
    "IOAS_COPY",
    "IOAS_IOVA_RANGES",
    "IOAS_MAP",
    "IOAS_UNMAP",
    "OPTION",
    "VFIO_IOAS",
    "HWPT_ALLOC",
    "GET_HW_INFO",
    "HWPT_SET_DIRTY_TRACKING",
    "HWPT_GET_DIRTY_BITMAP",
    "HWPT_INVALIDATE",
    "FAULT_QUEUE_ALLOC",
    "IOAS_MAP_FILE",
    "VIOMMU_ALLOC",
    "VDEVICE_ALLOC",
    "IOAS_CHANGE_PROCESS",
    "VEVENTQ_ALLOC",
    "HW_QUEUE_ALLOC",
    "IOAS_NOIOMMU_GET_PA",
];

/// Row of ioctls that the dispatch hands to the VFIO compatibility layer.
pub const ROW_VFIO_COMPAT: usize = NAMES.len();
/// Row of ioctls that neither iommufd nor VFIO defines.
pub const ROW_UNKNOWN: usize = NAMES.len() + 1;
/// Rows of a per-command table.
pub const ROWS: usize = NAMES.len() + 2;
/// Row of `IOMMU_IOAS_NOIOMMU_GET_PA`.
pub const ROW_GET_PA: usize = 0x15;
/// Row of `IOMMU_IOAS_ALLOC`.
pub const ROW_IOAS_ALLOC: usize = 0x01;

/// Whether commands of a row may change which areas an IOAS has: DESTROY, `IOAS_COPY`, `IOAS_MAP`,
/// `IOAS_UNMAP`, `IOAS_MAP_FILE`, and whatever the VFIO compatibility layer does.
#[must_use]
pub const fn changes_areas(row: usize) -> bool {
    const ROWS: u32 = 1 | 1 << 0x03 | 1 << 0x05 | 1 << 0x06 | 1 << 0x0f | 1 << ROW_VFIO_COMPAT;
    row < 32 && ROWS >> row & 1 != 0
}

/// Whether commands of a row may make an IOAS.
#[must_use]
pub const fn makes_ioas(row: usize) -> bool {
    row == ROW_IOAS_ALLOC || row == ROW_VFIO_COMPAT
}

/// The row of an ioctl number as the dispatch sees it.
///
/// The dispatch compares the whole number (`op->ioctl_num != cmd`), so a known `nr` with size or
/// direction bits is unknown.
#[must_use]
pub const fn row_of(ioctl: u32) -> usize {
    let base = IOCTL_TYPE << 8;
    let index = ioctl.wrapping_sub(base | FIRST_NR) as usize;
    if index < NAMES.len() {
        index
    } else if ioctl.wrapping_sub(base | VFIO_FIRST_NR) < FIRST_NR - VFIO_FIRST_NR {
        ROW_VFIO_COMPAT
    } else {
        ROW_UNKNOWN
    }
}

/// The name of a row; `None` beyond the table.
#[must_use]
pub fn name_of(row: usize) -> Option<&'static str> {
    match row {
        ROW_VFIO_COMPAT => Some("VFIO_COMPAT"),
        ROW_UNKNOWN => Some("UNKNOWN"),
        _ => NAMES.get(row).copied(),
    }
}

/// The row of a name; `None` when no row has it.
#[must_use]
pub fn row_of_name(name: &str) -> Option<usize> {
    (0..ROWS).find(|&row| name_of(row) == Some(name))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn commands_that_change_areas() {
        let names: Vec<_> = (0..ROWS).filter(|&row| changes_areas(row)).filter_map(name_of).collect();
        let expected = ["DESTROY", "IOAS_COPY", "IOAS_MAP", "IOAS_UNMAP", "IOAS_MAP_FILE", "VFIO_COMPAT"];
        assert_eq!(names, expected);
        assert_eq!(row_of_name("IOAS_ALLOC"), Some(ROW_IOAS_ALLOC));
        assert!(makes_ioas(ROW_IOAS_ALLOC) && !makes_ioas(ROW_GET_PA));
    }

    #[test]
    fn numbers_find_their_rows() {
        assert_eq!(row_of(0x3b80), 0);
        assert_eq!(row_of(0x3b95), ROW_GET_PA);
        assert_eq!(name_of(row_of(0x3b95)), Some("IOAS_NOIOMMU_GET_PA"));
        assert_eq!(row_of(0x3b85), row_of_name("IOAS_MAP").unwrap());
        assert_eq!(row_of(0x3b64), ROW_VFIO_COMPAT);
        assert_eq!(row_of(0x3b7f), ROW_VFIO_COMPAT);
        assert_eq!(row_of(0x3b63), ROW_UNKNOWN);
        assert_eq!(row_of(0x3b96), ROW_UNKNOWN);
        assert_eq!(row_of(0xc028_3b95), ROW_UNKNOWN);
        assert_eq!(row_of(0), ROW_UNKNOWN);
    }
}
