//! Mappings in IOASes of their own: queries and churn share no lock of an IOAS.

use super::{Kind, PlaceOf};

pub(super) const KIND: Kind = Kind {
    name: "apart",
    about: "memory of its own in an IOAS of its own for each thread",
    disturbs_answers: false,
    place: PlaceOf::OwnIoas,
};
