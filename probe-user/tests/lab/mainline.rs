//! Linux 7.3 with iommufd, VFIO and no-IOMMU.

mod backends;
mod exactness;
mod losses;
mod privacy;
mod recorder;
mod truth;
