//! Page by page, whatever the answers were.

use super::{Ask, Field, Kind, Sequence, no_classes};

pub(super) const KIND: Kind = Kind {
    name: "page",
    about: "each page in turn",
    follows_answers: false,
    classes: no_classes,
    begin: |field| Box::new(Pages { next: field.start, field }),
};

struct Pages {
    field: Field,
    next: u64,
}

impl Sequence for Pages {
    fn next(&mut self, _run: u64) -> Ask {
        let offset = self.next;
        self.next = self.field.forward(offset, self.field.page);
        self.field.ask(offset)
    }
}
