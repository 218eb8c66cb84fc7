//! Addresses inside pages: what a caller asks who has a pointer and not a page.

use super::{Ask, Field, Kind, Sequence, no_classes};

pub(super) const KIND: Kind = Kind {
    name: "unaligned",
    about: "bytes at random, mostly inside pages",
    follows_answers: false,
    classes: no_classes,
    begin: |field| Box::new(Unaligned { field }),
};

struct Unaligned {
    field: Field,
}

impl Sequence for Unaligned {
    fn next(&mut self, _run: u64) -> Ask {
        let offset = self.field.random.below(self.field.size);
        self.field.ask(offset)
    }
}
