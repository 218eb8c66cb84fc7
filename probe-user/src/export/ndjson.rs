//! NDJSON: the header, then a JSON object a window with every count, then the end; one line each.
//!
//! Buckets are `[lowest, highest, count]`, both ends included, so no reader needs the scheme.

use std::io::{self, Write};

use probe_model::origin::{Header, Recording};
use probe_model::sample::Counters;
use probe_model::scan_cost::{Conditions, ScanCost, Told};
use probe_model::series;
use probe_model::window::Window;
use probe_model::{errno, text};
use serde_json::{Map, Value, json};

use super::{Export, Options};

pub(super) fn make(_: &Options) -> Box<dyn Export> {
    Box::new(Lines { conditions: Conditions { page_size: 0, clock_step: 1 } })
}

struct Lines {
    conditions: Conditions,
}

impl Export for Lines {
    fn begin(&mut self, header: &Header, out: &mut dyn Write) -> io::Result<()> {
        self.conditions = Conditions::of(header);
        line(out, &json!({ "kind": "header", "header": header }))
    }

    fn window(&mut self, window: &Window, out: &mut dyn Write) -> io::Result<()> {
        let mut value = counters(&window.counters, self.conditions);
        value.insert("kind".to_owned(), "window".into());
        value.insert("from".to_owned(), json!(window.from));
        value.insert("to".to_owned(), json!(window.to));
        line(out, &Value::Object(value))
    }

    fn end(&mut self, whole: &Recording, out: &mut dyn Write) -> io::Result<()> {
        line(
            out,
            &json!({ "kind": "end", "end": whole.end, "unclean": whole.unclean, "windows": whole.windows,
                     "complete": whole.is_complete() }),
        )
    }
}

fn line(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

/// Every count by names, and what a scan cost.
pub(super) fn counters(counters: &Counters, conditions: Conditions) -> Map<String, Value> {
    let series: Map<_, _> = series::of(counters)
        .into_iter()
        .map(|series| {
            let histogram = &*series.histogram;
            let scheme = histogram.scheme();
            let bucket = |(&index, &count): (&u32, &u64)| {
                json!([scheme.lowest(index as usize), scheme.highest(index as usize), count])
            };
            let buckets: Vec<_> = histogram.buckets.iter().map(bucket).collect();
            let value = json!({
                "unit": series.unit.symbol(), "count": histogram.count, "sum": histogram.sum,
                "min": histogram.min, "max": histogram.max, "saturated": histogram.saturated, "buckets": buckets,
            });
            (series.name, value)
        })
        .collect();
    let named = |errors: &std::collections::BTreeMap<u32, u64>| -> Value {
        errors.iter().map(|(&number, &count)| (errno::name(number), Value::from(count))).collect()
    };
    let dispatch = counters.dispatch.iter().filter(|(_, calls)| !calls.errors.is_empty());
    let mut errors: Map<_, _> =
        dispatch.map(|(command, calls)| (command.clone(), named(&calls.errors))).collect();
    if let Some(scans) = counters.get_phys.as_ref().filter(|scans| !scans.errors.is_empty()) {
        errors.insert("get_phys".to_owned(), named(&scans.errors));
    }
    let processes = counters.attribution.values().map(|row| {
        let who = row.who.as_ref();
        json!({
            "site": row.site, "process": who.map(|who| text::visible(&who.comm)), "pid": who.map(|who| who.pid),
            "ioas": who.and_then(|who| who.ioas), "calls": row.calls, "failed": row.failed, "nanos": row.nanos,
            "pages": row.pages, "bytes": row.bytes,
        })
    });
    let processes = processes.collect::<Vec<_>>();
    let mut all = Map::new();
    all.insert("series".to_owned(), Value::Object(series));
    all.insert("errors".to_owned(), Value::Object(errors));
    all.insert("pages".to_owned(), json!(counters.get_phys.as_ref().map_or(0, |scans| scans.pages)));
    let cost = counters.get_phys.as_ref().map(|scans| Told::from(ScanCost::of(scans, conditions)));
    all.insert("scan_cost".to_owned(), json!(cost));
    all.insert("flow".to_owned(), json!(counters.flow));
    all.insert("processes".to_owned(), Value::Array(processes));
    all.insert("canary".to_owned(), json!(counters.canary));
    all
}
