//! Linux 7.3 with iommufd, VFIO and no-IOMMU.

mod attribution;
mod backends;
mod buckets;
mod canary;
mod contention;
mod endings;
mod exactness;
mod extras;
mod losses;
mod odd_calls;
mod privacy;
mod random;
mod recorder;
mod residue;
mod stops;
mod truth;
