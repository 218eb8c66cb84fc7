//! SVG: the percentiles of the latencies, or of the one series that is asked for.

use std::io::{self, Write};

use probe_model::origin::Recording;
use probe_model::series::{self, Unit};
use probe_model::unit::nanos;

use super::{Export, Options, no_such_series};
use crate::plot::{Line, Values, percentiles, standalone};

pub(super) fn make(options: &Options) -> Box<dyn Export> {
    Box::new(Plot { series: options.series.clone() })
}

struct Plot {
    series: Option<String>,
}

impl Export for Plot {
    fn end(&mut self, whole: &Recording, out: &mut dyn Write) -> io::Result<()> {
        let all = series::of(&whole.window.counters);
        // Unasked, the ones that are compared: GET_PA, and the scan inside.
        let usual = ["dispatch.IOAS_NOIOMMU_GET_PA.ok", "get_phys.ok"];
        let wanted = |name: &str| self.series.as_deref().map_or(usual.contains(&name), |asked| asked == name);
        let chosen: Vec<_> = all.iter().filter(|series| wanted(&series.name)).collect();
        if let (Some(name), true) = (&self.series, chosen.is_empty()) {
            return Err(no_such_series(name, whole));
        }
        let unit = chosen.first().map_or(Unit::Nanos, |series| series.unit);
        let lines: Vec<_> =
            chosen.iter().map(|series| Line { name: &series.name, histogram: &series.histogram }).collect();
        let step = whole.clock_step();
        let coarse = if step > 1 { format!(", clock steps of {}", nanos(step)) } else { String::new() };
        let title = format!("iovascope: Linux {}, {}{coarse}", whole.header.kernel, whole.header.backend);
        let values = match unit {
            Unit::Nanos => Values::latencies(step),
            Unit::Bytes => Values::lengths(),
        };
        writeln!(out, "{}", standalone(&percentiles(&title, values, &lines)))
    }
}
