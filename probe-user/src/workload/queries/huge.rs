//! Huge page by huge page: how SPDK and DPDK fill their tables at start-up.

use super::{Ask, Field, Kind, Sequence, no_classes};

pub(super) const KIND: Kind = Kind {
    name: "huge",
    about: "each huge page of the default size in turn, as SPDK and DPDK do",
    follows_answers: false,
    classes: no_classes,
    begin: |field| Box::new(Huge { next: field.start, field }),
};

struct Huge {
    field: Field,
    next: u64,
}

impl Sequence for Huge {
    fn next(&mut self, _run: u64) -> Ask {
        let offset = self.next;
        self.next = self.field.forward(offset, self.field.huge.max(self.field.page));
        self.field.ask(offset)
    }
}
