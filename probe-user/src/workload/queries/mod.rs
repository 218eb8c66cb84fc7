//! Which address and which length each call asks for: the patterns there are.

mod cap_sweep;
mod huge;
mod page;
mod random;
mod rescan;
mod returned;
mod unaligned;

use super::quantity::Bytes;
use super::random::Random;

/// A pattern of queries. A new one is a file and a line in [`KINDS`].
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    /// For the help.
    pub about: &'static str,
    /// Whether a query depends on the answer before it: then the sequence is a matter of the memory's
    /// layout too, and not of the seed alone.
    pub follows_answers: bool,
    /// The lengths whose calls are counted apart, in bytes; empty for most.
    classes: fn(&Field) -> Vec<u64>,
    begin: fn(Field) -> Box<dyn Sequence>,
}

/// Every pattern.
pub const KINDS: &[&Kind] = &[
    &returned::KIND,
    &page::KIND,
    &huge::KIND,
    &random::KIND,
    &unaligned::KIND,
    &rescan::KIND,
    &cap_sweep::KIND,
];

/// One thread's queries, one after the other.
pub trait Sequence: Send {
    /// The next one; `run`: what the last answer gave in bytes, 0 for a failure and at the beginning.
    fn next(&mut self, run: u64) -> Ask;
}

/// A query, relative to the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    pub offset: u64,
    /// The cap.
    pub length: u64,
    /// Which of the pattern's classes it belongs to.
    pub class: usize,
}

/// The `length` of each query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    Bytes(Bytes),
    Page,
    /// From the asked IOVA to the end of the mapping.
    Area,
    /// `u64::MAX`: whatever there is.
    Max,
}

/// Where a thread's queries go.
#[derive(Debug, Clone)]
pub struct Field {
    /// Bytes of the buffer.
    pub size: u64,
    /// Bytes of a base page.
    pub page: u64,
    /// Bytes of a huge page.
    pub huge: u64,
    pub cap: Cap,
    /// Where this thread begins, a whole number of pages.
    pub start: u64,
    pub random: Random,
}

/// A pattern, chosen.
#[derive(Debug, Clone, Copy)]
pub struct Queries(&'static Kind);

impl Queries {
    /// What is taken where nothing is asked for.
    pub const RETURNED: Self = Self(&returned::KIND);

    pub fn named(name: &str) -> Option<Self> {
        KINDS.iter().find(|kind| kind.name == name).map(|kind| Self(kind))
    }

    pub fn name(self) -> &'static str {
        self.0.name
    }

    pub fn follows_answers(self) -> bool {
        self.0.follows_answers
    }

    pub fn classes(self, field: &Field) -> Vec<u64> {
        (self.0.classes)(field)
    }

    pub fn begin(self, field: Field) -> Box<dyn Sequence> {
        (self.0.begin)(field)
    }
}

impl Field {
    fn length_at(&self, offset: u64) -> u64 {
        match self.cap {
            Cap::Bytes(bytes) => bytes.0,
            Cap::Page => self.page,
            Cap::Area => self.size - offset,
            Cap::Max => u64::MAX,
        }
    }

    fn ask(&self, offset: u64) -> Ask {
        Ask { offset, length: self.length_at(offset), class: 0 }
    }

    /// Forward, and from the end back to the start.
    fn forward(&self, offset: u64, by: u64) -> u64 {
        match offset.checked_add(by) {
            Some(next) if next < self.size => next,
            _ => 0,
        }
    }
}

/// For patterns that count nothing apart.
fn no_classes(_: &Field) -> Vec<u64> {
    Vec::new()
}

impl std::str::FromStr for Cap {
    type Err = super::quantity::QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "page" => Ok(Self::Page),
            "area" => Ok(Self::Area),
            "max" => Ok(Self::Max),
            _ => text.parse().map(Self::Bytes),
        }
    }
}

impl std::fmt::Display for Cap {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(out, "{}", bytes.0),
            Self::Page => out.write_str("page"),
            Self::Area => out.write_str("area"),
            Self::Max => out.write_str("max"),
        }
    }
}

#[cfg(test)]
mod tests;
