//! The same run again and again: what it costs not to remember an answer.

use super::{Ask, Field, Kind, Sequence, no_classes};

pub(super) const KIND: Kind = Kind {
    name: "rescan",
    about: "the same address again and again: a scan that is paid for each time",
    follows_answers: false,
    classes: no_classes,
    begin: |field| Box::new(Rescan { field }),
};

struct Rescan {
    field: Field,
}

impl Sequence for Rescan {
    fn next(&mut self, _run: u64) -> Ask {
        self.field.ask(self.field.start)
    }
}
