//! Processes and IOASes: whose calls they were.

use probe_model::attribution::Row as Attributed;
use probe_model::unit;
use ratatui::layout::Rect;

use super::{View, rate, shown};
use crate::tui::app::App;
use crate::tui::canvas::Canvas;
use crate::tui::table::{Cell, Column, Row, Table};
use crate::tui::text;
use crate::tui::tone::Tone;
use crate::tui::widgets::table;

pub(super) struct Processes;

const COLUMNS: [Column; 11] = [
    Column { name: "process", width: 15, right: false, rank: 0 },
    Column { name: "pid", width: 8, right: true, rank: 4 },
    Column { name: "site", width: 8, right: false, rank: 1 },
    Column { name: "ioas", width: 5, right: true, rank: 3 },
    Column { name: "calls", width: 10, right: true, rank: 2 },
    Column { name: "rate", width: 9, right: true, rank: 5 },
    Column { name: "mean", width: 9, right: true, rank: 3 },
    Column { name: "busy", width: 7, right: true, rank: 6 },
    Column { name: "failed", width: 8, right: true, rank: 6 },
    Column { name: "pages/call", width: 10, right: true, rank: 7 },
    Column { name: "mean run", width: 9, right: true, rank: 7 },
];

impl View for Processes {
    fn name(&self) -> &'static str {
        "Processes"
    }

    fn table(&self, app: &App) -> Option<Table> {
        let now = app.shown.as_ref()?;
        let seconds = now.window.duration().as_nanos();
        let rows = now.window.counters.attribution.values().map(|row| {
            let busy = if seconds > 0 { row.nanos as f64 / seconds as f64 } else { 0.0 };
            attributed(app, row, now.window.rate(row.calls), busy)
        });
        Some(Table {
            columns: COLUMNS.to_vec(),
            rows: rows.collect(),
            sort: (4, true),
            empty: "Nobody called in this window, or this recording does not say who did.",
        })
    }

    fn draw(&self, app: &App, canvas: &mut Canvas<'_>, area: Rect) {
        if let Some(table) = super::arranged(app) {
            table::draw(canvas, area, app, &table);
        }
    }
}

fn attributed(app: &App, row: &Attributed, speed: Option<f64>, busy: f64) -> Row {
    let (name, pid, ioas) = match &row.who {
        Some(who) => {
            (text::cells(&who.comm), who.pid.to_string(), who.ioas.map_or("-".into(), |id| id.to_string()))
        }
        None => ("(all others)".to_owned(), "-".to_owned(), "-".to_owned()),
    };
    let began = row.who.as_ref().and_then(|who| who.started);
    let began = began.map_or_else(|| "-".to_owned(), |at| format!("{} after boot", super::clock(at)));
    let scans = row.site == "get_phys";
    let mean = row.nanos.checked_div(row.calls);
    let pages = row.pages.checked_div(row.calls).filter(|_| scans);
    let run = row.bytes.checked_div(row.calls).filter(|_| scans);
    let dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let number =
        |text: String, value: Option<u64>| Cell::number(text, value.map_or(-1.0, |value| value as f64));
    let details = vec![
        ("process".to_owned(), name.clone()),
        ("pid".to_owned(), pid.clone()),
        ("began".to_owned(), began),
        ("site".to_owned(), row.site.clone()),
        ("ioas".to_owned(), ioas.clone()),
        ("calls".to_owned(), unit::count(row.calls)),
        ("failed".to_owned(), unit::count(row.failed)),
        ("time in calls".to_owned(), unit::nanos(row.nanos)),
        ("pages".to_owned(), unit::count(row.pages)),
        ("returned".to_owned(), unit::bytes(row.bytes)),
    ];
    Row {
        cells: vec![
            Cell::text(name).tone(if row.who.is_some() { Tone::Text } else { Tone::Dim }),
            number(pid, row.who.as_ref().map(|who| who.pid.into())),
            Cell::text(text::cells(row.site.as_bytes())).tone(if scans {
                Tone::Scan
            } else {
                Tone::Dispatch
            }),
            number(ioas, row.who.as_ref().and_then(|who| who.ioas).map(u64::from)),
            number(unit::count(row.calls), Some(row.calls)),
            Cell::number(rate(speed), speed.unwrap_or(0.0)),
            number(shown(app, mean), mean),
            Cell::number(format!("{:.1} %", 100.0 * busy), busy),
            number(unit::count(row.failed), Some(row.failed)).tone(if row.failed > 0 {
                Tone::Warn
            } else {
                Tone::Dim
            }),
            number(dash(pages.map(unit::count)), pages),
            number(dash(run.map(unit::bytes)), run),
        ],
        details,
    }
}
