//! Another mapping in the same IOAS: queries and churn meet at `iova_rwsem` only.

use super::{Kind, PlaceOf};

pub(super) const KIND: Kind = Kind {
    name: "beside",
    about: "memory of its own in the IOAS that is queried",
    disturbs_answers: false,
    place: PlaceOf::OwnMemory,
};
