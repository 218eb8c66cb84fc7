//! What a window shows: every figure of it, computed once when the window changes and read by all views.
//!
//! The same functions as the report's, so that both say the same.

use std::collections::BTreeMap;

use probe_model::contiguity::{self, Contiguity};
use probe_model::errno;
use probe_model::figures::Figures;
use probe_model::finding::{self, Finding};
use probe_model::histogram::Histogram;
use probe_model::loss::{Balance, Flow};
use probe_model::sample::Calls;
use probe_model::scan_cost::{Conditions, ScanCost};
use probe_model::window::Window;

/// Calls of one command.
#[derive(Debug, Clone)]
pub struct CommandFigures {
    pub name: String,
    pub calls: u64,
    pub ok: Figures,
    pub failed: Figures,
    /// By errno name, most first.
    pub errors: Vec<(String, u64)>,
}

/// The scans.
#[derive(Debug, Clone)]
pub struct ScanFigures {
    pub calls: u64,
    pub ok: Option<Figures>,
    pub failed: Figures,
    pub errors: Vec<(String, u64)>,
    pub pages: u64,
    /// Run lengths by stop.
    pub runs: Vec<(String, Figures)>,
}

/// A window and its figures.
#[derive(Debug, Clone)]
pub struct Shown {
    pub window: Window,
    pub commands: Vec<CommandFigures>,
    /// Every successful dispatch call.
    pub dispatch: Option<Figures>,
    pub dispatch_calls: u64,
    pub dispatch_failed: u64,
    pub scans: Option<ScanFigures>,
    pub balances: BTreeMap<String, (Flow, Balance)>,
    pub contiguity: Option<Contiguity>,
    pub cost: Option<ScanCost>,
    pub findings: Vec<Finding>,
}

impl Shown {
    /// The figures of a window; `backend` recorded it under `conditions`.
    pub fn of(window: Window, conditions: Conditions, backend: &str) -> Self {
        let counters = &window.counters;
        let commands: Vec<_> = counters.dispatch.iter().map(|(name, calls)| command(name, calls)).collect();
        let scans = counters.get_phys.as_ref();
        Self {
            dispatch: merged(counters.dispatch.values().map(|calls| &calls.ok))
                .map(|all| Figures::of_latency(&all)),
            dispatch_calls: commands.iter().map(|command| command.calls).sum(),
            dispatch_failed: commands.iter().map(|command| command.failed.count).sum(),
            commands,
            scans: scans.map(|scans| ScanFigures {
                calls: scans.count(),
                ok: scans.latency().as_ref().map(Figures::of_latency),
                failed: Figures::of_latency(&scans.failed),
                errors: named(&scans.errors),
                pages: scans.pages,
                runs: scans
                    .runs
                    .iter()
                    .map(|(stop, runs)| (stop.clone(), Figures::of_length(runs)))
                    .collect(),
            }),
            balances: counters
                .balances()
                .into_iter()
                .map(|(site, balance)| {
                    (site.to_owned(), (counters.flow.get(site).copied().unwrap_or_default(), balance))
                })
                .collect(),
            contiguity: scans.and_then(contiguity::of),
            cost: scans.map(|scans| ScanCost::of(scans, conditions)),
            findings: finding::of(&window, conditions, backend),
            window,
        }
    }

    /// Calls that began and were not measured, of both sites.
    pub fn lost(&self) -> u64 {
        self.balances.values().map(|(_, balance)| balance.lost_calls()).sum()
    }

    /// Calls that are inside now.
    pub fn in_flight(&self) -> u64 {
        self.balances.values().map(|(_, balance)| balance.in_flight).sum()
    }

    /// Nothing was called.
    pub fn is_empty(&self) -> bool {
        self.dispatch_calls == 0 && self.scans.is_none()
    }
}

fn command(name: &str, calls: &Calls) -> CommandFigures {
    CommandFigures {
        name: name.to_owned(),
        calls: calls.count(),
        ok: Figures::of_latency(&calls.ok),
        failed: Figures::of_latency(&calls.failed),
        errors: named(&calls.errors),
    }
}

fn merged<'a>(mut histograms: impl Iterator<Item = &'a Histogram>) -> Option<Histogram> {
    let mut all = histograms.next()?.clone();
    for histogram in histograms {
        all.merge(histogram);
    }
    Some(all).filter(|all| !all.is_empty())
}

fn named(errors: &BTreeMap<u32, u64>) -> Vec<(String, u64)> {
    let mut named: Vec<_> = errors.iter().map(|(&number, &count)| (errno::name(number), count)).collect();
    named.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    named
}
