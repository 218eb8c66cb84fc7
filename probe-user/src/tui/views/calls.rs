//! Calls: single calls, the latest and the slowest, where the recorder was asked for them.

use std::collections::HashMap;

use probe_model::call::{Call, What};
use probe_model::{errno, unit};
use ratatui::layout::Rect;

use super::{View, clock, shown};
use crate::tui::app::App;
use crate::tui::canvas::Canvas;
use crate::tui::table::{Cell, Column, Row, Table};
use crate::tui::text;
use crate::tui::tone::Tone;
use crate::tui::widgets::table;

pub(super) struct Calls;

const COLUMNS: [Column; 9] = [
    Column { name: "at", width: 10, right: true, rank: 4 },
    Column { name: "call", width: 20, right: false, rank: 1 },
    Column { name: "latency", width: 9, right: true, rank: 0 },
    Column { name: "pages", width: 8, right: true, rank: 5 },
    Column { name: "run", width: 9, right: true, rank: 6 },
    Column { name: "stop", width: 9, right: false, rank: 6 },
    Column { name: "outcome", width: 9, right: false, rank: 3 },
    Column { name: "thread", width: 15, right: false, rank: 2 },
    Column { name: "pid", width: 8, right: true, rank: 7 },
];

impl View for Calls {
    fn name(&self) -> &'static str {
        "Calls"
    }

    fn table(&self, app: &App) -> Option<Table> {
        let now = app.shown.as_ref()?;
        let begin = app.timeline.oldest().map_or(0, |sample| sample.at.monotonic);
        let window = now.window.from.monotonic..=now.window.to.monotonic;
        let processes = now.window.counters.attribution.values().filter_map(|row| row.who.as_ref());
        let names: HashMap<u32, String> = processes
            .filter(|who| !who.is_threads_name)
            .map(|who| (who.pid, text::cells(&who.comm)))
            .collect();
        let calls = app.calls.all().filter(|call| window.contains(&call.at));
        let rows = calls.map(|call| row(app, call, begin, names.get(&call.pid)));
        Some(Table {
            columns: COLUMNS.to_vec(),
            rows: rows.collect(),
            sort: (2, true),
            empty: "No single call in this window. They are kept on request: --slower 100us keeps the slow \
                    ones, --calls-every 1000 a sample. Every call is in the counters all the same.",
        })
    }

    fn draw(&self, app: &App, canvas: &mut Canvas<'_>, area: Rect) {
        if let Some(table) = super::arranged(app) {
            table::draw(canvas, area, app, &table);
        }
    }
}

/// A call; `process` is its process's name, where that is known.
fn row(app: &App, call: &Call, begin: u64, process: Option<&String>) -> Row {
    let at = clock(call.at.saturating_sub(begin));
    let thread = text::cells(&call.comm);
    let process = process.cloned().unwrap_or_else(|| "-".to_owned());
    let outcome = if call.errno == 0 { "ok".to_owned() } else { errno::name(call.errno) };
    let (name, tone, pages, run, stop) = match &call.what {
        What::Dispatch { command } => (text::cells(command.as_bytes()), Tone::Dispatch, None, None, None),
        What::GetPhys { run, pages, stop, .. } => {
            ("get_phys".to_owned(), Tone::Scan, *pages, *run, stop.clone())
        }
    };
    let stop = text::cells(stop.unwrap_or_else(|| "-".to_owned()).as_bytes());
    let dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let number =
        |text: String, value: Option<u64>| Cell::number(text, value.map_or(-1.0, |value| value as f64));
    let mut details = vec![
        ("returned at".to_owned(), at.clone()),
        ("call".to_owned(), name.clone()),
        ("latency".to_owned(), shown(app, Some(call.nanos))),
        ("outcome".to_owned(), outcome.clone()),
        ("process".to_owned(), process),
        ("thread".to_owned(), thread.clone()),
        ("pid, tid".to_owned(), format!("{}, {}", call.pid, call.tid)),
        ("cpu".to_owned(), call.cpu.to_string()),
        ("kept because".to_owned(), if call.slow { "it was slow" } else { "it is a sample" }.to_owned()),
    ];
    if let What::GetPhys { cap, iova, .. } = &call.what {
        details.push(("asked for".to_owned(), cap.map_or_else(|| "no limit".to_owned(), unit::bytes)));
        details.push(("run".to_owned(), dash(run.map(unit::bytes))));
        details.push(("pages".to_owned(), dash(pages.map(unit::count))));
        details.push(("stop".to_owned(), stop.clone()));
        if let Some(iova) = iova {
            details.push(("iova".to_owned(), format!("{iova:#x}")));
        }
    }
    Row {
        cells: vec![
            number(at, Some(call.at)),
            Cell::text(name).tone(tone),
            number(shown(app, Some(call.nanos)), Some(call.nanos)).tone(if call.slow {
                Tone::Warn
            } else {
                Tone::Text
            }),
            number(dash(pages.map(unit::count)), pages),
            number(dash(run.map(unit::bytes)), run),
            Cell::text(stop),
            Cell::text(outcome).tone(if call.errno == 0 { Tone::Dim } else { Tone::Warn }),
            Cell::text(thread),
            number(call.pid.to_string(), Some(call.pid.into())),
        ],
        details,
    }
}
