//! HdrHistogram's interval log, format 1.3: a line a window and series, the series' name as tag, values in ns
//! or bytes. Histograms are V2, deflated: the one encoding that every decoder reads. From its first value on a series
//! has a line in every window, an empty histogram where it was idle, so that plots of the log do not bridge the gap.
//!
//! Values beyond the range are in no histogram; a comment line says how many there were.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use probe_model::origin::{Header, Recording};
use probe_model::series::{self, Series};
use probe_model::window::Window;

use super::{Export, Options};

/// The tools print maxima divided by this; their own default too, which makes ms of ns.
const MAX_DIVISOR: f64 = 1e6;

pub(super) fn make(_: &Options) -> Box<dyn Export> {
    Box::new(Log { started: 0, saturated: BTreeMap::new(), seen: BTreeMap::new() })
}

struct Log {
    /// Monotonic ns at the beginning: `BaseTime`.
    started: u64,
    saturated: BTreeMap<String, u64>,
    /// An empty histogram, encoded, of each series that had a value.
    seen: BTreeMap<String, String>,
}

impl Export for Log {
    fn begin(&mut self, header: &Header, out: &mut dyn Write) -> io::Result<()> {
        self.started = header.started.monotonic;
        let started = seconds(header.started.realtime);
        writeln!(out, "#[Histogram log format version 1.3]")?;
        writeln!(
            out,
            "#[iovascope {}, Linux {}: durations in ns, run lengths in bytes]",
            header.tool, header.kernel
        )?;
        if let Some(line) = super::coarse(header.host.clock_step()) {
            writeln!(out, "#[{line}]")?;
        }
        writeln!(out, "#[StartTime: {started:.3} (seconds since epoch)]")?;
        writeln!(out, "#[BaseTime: {started:.3} (seconds since epoch)]")?;
        writeln!(
            out,
            "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""
        )
    }

    fn window(&mut self, window: &Window, out: &mut dyn Write) -> io::Result<()> {
        let from = seconds(window.from.monotonic.saturating_sub(self.started));
        let length = window.duration().as_secs_f64();
        let mut idle: BTreeSet<String> = self.seen.keys().cloned().collect();
        for Series { name, histogram, .. } in series::of(&window.counters) {
            if histogram.saturated > 0 {
                *self.saturated.entry(name.clone()).or_default() += histogram.saturated;
            }
            let mut hdr = histogram.to_hdr().map_err(|error| io::Error::other(error.to_string()))?;
            if hdr.is_empty() {
                continue;
            }
            let max = hdr.max() as f64 / MAX_DIVISOR;
            writeln!(out, "Tag={name},{from:.3},{length:.3},{max:.3},{}", encoded(&hdr)?)?;
            if !idle.remove(&name) {
                hdr.reset();
                self.seen.insert(name, encoded(&hdr)?);
            }
        }
        for name in idle {
            writeln!(out, "Tag={name},{from:.3},{length:.3},0.000,{}", self.seen[&name])?;
        }
        Ok(())
    }

    fn end(&mut self, _: &Recording, out: &mut dyn Write) -> io::Result<()> {
        for (name, count) in &self.saturated {
            writeln!(out, "#[{count} values of {name} are beyond the range and in no histogram]")?;
        }
        Ok(())
    }
}

fn encoded(hdr: &Histogram<u64>) -> io::Result<String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(hdr, &mut bytes)
        .map_err(|error| io::Error::other(format!("cannot encode a histogram: {error}")))?;
    Ok(STANDARD.encode(bytes))
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
