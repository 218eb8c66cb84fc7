//! Linux 7.3 with iommufd, VFIO and no-IOMMU.

mod attribution;
mod backends;
mod buckets;
mod canary;
mod change;
mod clock;
mod company;
mod contention;
mod endings;
mod exactness;
mod extras;
mod killed;
mod losses;
mod map_code;
mod odd_calls;
mod privacy;
mod random;
mod recorder;
mod residue;
mod rights;
mod serve;
mod stops;
mod truth;
