//! Pages at random: a lookup per I/O buffer.

use super::{Ask, Field, Kind, Sequence, no_classes};

pub(super) const KIND: Kind = Kind {
    name: "random",
    about: "pages at random",
    follows_answers: false,
    classes: no_classes,
    begin: |field| Box::new(Random { pages: field.size / field.page, field }),
};

struct Random {
    field: Field,
    pages: u64,
}

impl Sequence for Random {
    fn next(&mut self, _run: u64) -> Ask {
        let offset = self.field.random.below(self.pages) * self.field.page;
        self.field.ask(offset)
    }
}
