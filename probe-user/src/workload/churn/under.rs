//! Slices of the queried buffer itself: queries find holes, and share `pages->mutex` with nobody for long.

use super::{Kind, PlaceOf};

pub(super) const KIND: Kind = Kind {
    name: "under",
    about: "slices of the queried buffer, which becomes one area a slice: queries meet holes",
    disturbs_answers: true,
    place: PlaceOf::Slices,
};
