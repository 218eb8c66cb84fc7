//! Company: who else works on our functions. A look costs a system call for each BPF link of the machine
//! and a few small files; only somebody new is looked at closely.
//!
//! Seen are programs of trampolines, kprobes and kprobe sessions, kprobes of others, events on functions, and
//! the function tracers. Not seen: what comes and goes between two looks; what a module hooks by itself.

mod links;
mod tracing;

use std::path::PathBuf;

use probe_model::company::{Company, Look};

use links::Links;
use tracing::Tracing;

/// Time between two looks, ns: a dashboard that draws ten times a second looks once.
const APART: u64 = 1_000_000_000;

/// Looks for company.
pub struct Watcher {
    links: Links,
    tracing: Tracing,
    company: Company,
    last: Option<(u64, Look)>,
}

impl Watcher {
    /// For functions in a module, or built in.
    pub fn new(module: Option<&'static str>) -> Self {
        let tracing = Tracing::of(PathBuf::from("/"));
        Self { links: Links::new(module), tracing, company: Company::default(), last: None }
    }

    /// Who is there now.
    pub fn of_now(module: Option<&'static str>) -> Company {
        let mut watcher = Self::new(module);
        watcher.look_now(0);
        watcher.company
    }

    /// For a sample at an instant, ns by the monotonic clock: look, or say again what was found less than a
    /// second ago.
    pub fn look(&mut self, at: u64) {
        match &self.last {
            Some((last, found)) if at.saturating_sub(*last) < APART => self.company.add(*last, found.clone()),
            _ => self.look_now(at),
        }
    }

    /// Look.
    pub fn look_now(&mut self, at: u64) {
        let mut found = Look::default();
        let kprobes = self.links.look(&mut found);
        self.tracing.look(kprobes, &mut found);
        self.company.add(at, found.clone());
        self.last = Some((at, found));
    }

    /// What was found so far.
    pub fn found(&self) -> &Company {
        &self.company
    }
}
