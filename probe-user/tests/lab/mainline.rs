//! Linux 7.3 with iommufd, VFIO and no-IOMMU.

mod backends;
mod contention;
mod exactness;
mod losses;
mod odd_calls;
mod privacy;
mod recorder;
mod residue;
mod truth;
