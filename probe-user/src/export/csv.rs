//! CSV (RFC 4180): a line a window and series, in ns or bytes; errors and losses as series of counts.
//!
//! Every window has lines, an idle one too: how many calls began at each site. Times are seconds since the recording
//! began. Nothing here is a name from outside: series are made of
//! harmless words, so no cell can be taken for a formula.

use std::io::{self, Write};

use probe_model::errno;
use probe_model::loss::Flow;
use probe_model::origin::{Header, Recording};
use probe_model::sample::Counters;
use probe_model::series;
use probe_model::window::Window;

use super::{Export, Options};

pub(super) fn make(_: &Options) -> Box<dyn Export> {
    Box::new(Table { started: 0, step: 1 })
}

struct Table {
    started: u64,
    /// The least ns that the clock tells apart: a figure that is less has an empty cell.
    step: u64,
}

impl Export for Table {
    fn begin(&mut self, header: &Header, out: &mut dyn Write) -> io::Result<()> {
        self.started = header.started.monotonic;
        self.step = header.host.clock_step();
        writeln!(out, "from,to,series,unit,count,sum,min,p50,p90,p99,p99.9,max,saturated")
    }

    fn window(&mut self, window: &Window, out: &mut dyn Write) -> io::Result<()> {
        let since = |at: u64| at.saturating_sub(self.started) as f64 / 1e9;
        let span = format!("{:.9},{:.9}", since(window.from.monotonic), since(window.to.monotonic));
        for series in series::of(&window.counters) {
            let figures = series.unit.figures_by_clock(&series.histogram, self.step);
            write!(out, "{span},{},{},{},{}", series.name, series.unit.symbol(), figures.count, figures.sum)?;
            for value in [figures.min, figures.p50, figures.p90, figures.p99, figures.p999, figures.max] {
                write!(out, ",{}", value.map(|value| value.to_string()).unwrap_or_default())?;
            }
            writeln!(out, ",{}", figures.saturated)?;
        }
        for (name, count) in counts(&window.counters) {
            writeln!(out, "{span},{name},calls,{count},,,,,,,,")?;
        }
        Ok(())
    }

    fn end(&mut self, _: &Recording, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// Calls that began by site, 0 in idle time; errors and losses by name, only those that occurred.
fn counts(counters: &Counters) -> Vec<(String, u64)> {
    let began =
        |(site, flow): (&String, &Flow)| (format!("began.{}", series::word(site)), flow.balance().calls);
    let mut all: Vec<_> = counters.flow.iter().map(began).collect();
    for (command, calls) in &counters.dispatch {
        for (&number, &count) in &calls.errors {
            all.push((format!("errors.dispatch.{}.{}", series::word(command), errno::name(number)), count));
        }
    }
    for (&number, &count) in counters.get_phys.iter().flat_map(|scans| &scans.errors) {
        all.push((format!("errors.get_phys.{}", errno::name(number)), count));
    }
    for (site, balance) in counters.balances() {
        for (cause, count) in balance.lost {
            all.push((format!("lost.{}.{}", series::word(site), cause.name()), count));
        }
    }
    all
}
