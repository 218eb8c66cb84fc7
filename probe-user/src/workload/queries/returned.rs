//! From run to run, as a caller does who builds a scatter list.

use super::{Ask, Field, Kind, Sequence, no_classes};

pub(super) const KIND: Kind = Kind {
    name: "returned",
    about: "each query begins where the last answer ended",
    follows_answers: true,
    classes: no_classes,
    begin: |field| Box::new(Returned { last: None, field }),
};

struct Returned {
    field: Field,
    last: Option<u64>,
}

impl Sequence for Returned {
    fn next(&mut self, run: u64) -> Ask {
        let offset = match self.last {
            None => self.field.start,
            // A failed call returned nothing to advance by.
            Some(last) if run == 0 => self.field.forward(last, self.field.page),
            Some(last) => self.field.forward(last, run),
        };
        self.last = Some(offset);
        self.field.ask(offset)
    }
}
