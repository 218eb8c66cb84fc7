//! Lengths from one page to the whole buffer, doubling, in turn: what a call costs by what it may scan.

use super::{Ask, Field, Kind, Sequence};

pub(super) const KIND: Kind = Kind {
    name: "cap-sweep",
    about: "caps from one page to the whole buffer, doubling, in turn; instead of --cap",
    follows_answers: false,
    classes,
    begin: |field| Box::new(CapSweep { caps: classes(&field), turn: 0 }),
};

fn classes(field: &Field) -> Vec<u64> {
    let doubling = std::iter::successors(Some(field.page), |cap| cap.checked_mul(2));
    doubling.take_while(|&cap| cap < field.size).chain([field.size]).collect()
}

/// All from the start of the buffer: anywhere else the longest cap would have less to scan.
struct CapSweep {
    caps: Vec<u64>,
    turn: usize,
}

impl Sequence for CapSweep {
    fn next(&mut self, _run: u64) -> Ask {
        let class = self.turn;
        self.turn = (self.turn + 1) % self.caps.len();
        Ask { offset: 0, length: self.caps[class], class }
    }
}
