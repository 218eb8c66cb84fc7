//! Driver: the workload beside us, as it sees itself, and what its command prints.

use probe_model::figures::Figures;
use probe_model::unit;
use ratatui::layout::Rect;

use super::{View, rate, shown};
use crate::tui::app::App;
use crate::tui::canvas::{Canvas, FILL, rows};
use crate::tui::tone::Tone;
use crate::tui::widgets::{facts, facts::Fact};

pub(super) struct Driver;

impl View for Driver {
    fn name(&self) -> &'static str {
        "Driver"
    }

    fn is_timeless(&self) -> bool {
        true
    }

    fn draw(&self, app: &App, canvas: &mut Canvas<'_>, area: Rect) {
        if app.driver.is_none() && app.output.is_empty() && app.command_ended.is_none() {
            let text = "No workload runs beside this dashboard. Start one with it: \
                        `iovascope top --load contention`, or any command of yours as \
                        `iovascope top -- COMMAND`; its output is shown here.";
            facts::wrapped(canvas, area, text, Tone::Dim);
            return;
        }
        let facts = figures(app);
        let height = u16::try_from(facts.len()).unwrap_or(0);
        let height = if height == 0 { 0 } else { (height + 2).min(area.height.saturating_sub(4).max(3)) };
        let [above, below] = rows(area, [height, FILL]);
        if height > 0 {
            let inner = canvas.panel(above, "driver", Tone::Accent);
            facts::draw(canvas, inner, 14, &facts);
        }
        output(app, canvas, below);
    }
}

fn figures(app: &App) -> Vec<Fact> {
    let Some(driver) = &app.driver else { return Vec::new() };
    let times = |histogram: &probe_model::histogram::Histogram| {
        let f = Figures::of_latency(histogram);
        format!(
            "p50 {}  p99 {}  p99.9 {}  max {}",
            shown(app, f.p50),
            shown(app, f.p99),
            shown(app, f.p999),
            shown(app, f.max)
        )
    };
    let behind = driver.intended.is_some_and(|intended| driver.achieved < 0.98 * intended);
    let intended =
        driver.intended.map_or_else(|| "as fast as answers come".to_owned(), |rps| rate(Some(rps)));
    let mut facts = vec![
        Fact::new("job", crate::tui::text::cells(driver.phase.as_bytes())),
        Fact::new("intended", intended),
        Fact::toned("achieved", rate(Some(driver.achieved)), if behind { Tone::Warn } else { Tone::Good }),
        Fact::new("calls", unit::count(driver.calls)),
        Fact::toned(
            "failed",
            unit::count(driver.failed),
            if driver.failed > 0 { Tone::Warn } else { Tone::Dim },
        ),
    ];
    if let Some(done) = driver.done {
        facts.push(Fact::new("done", format!("{:.0} %", 100.0 * done)));
    }
    if driver.behind > 0 {
        facts.push(Fact::toned(
            "behind",
            format!("by up to {}", shown(app, Some(driver.behind))),
            Tone::Warn,
        ));
    }
    facts.extend(driver.service.as_ref().map(|service| Fact::new("service", times(service))));
    facts.extend(driver.response.as_ref().map(|response| Fact::new("response", times(response))));
    facts
}

fn output(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    let title = match &app.command_ended {
        Some(how) => format!("the command ended: {how}"),
        None => "the command's output".to_owned(),
    };
    let inner = canvas.panel(area, &title, Tone::Head);
    let skip = app.output.len().saturating_sub(inner.height.into());
    for (y, line) in (inner.top()..inner.bottom()).zip(app.output.iter().skip(skip)) {
        canvas.put(inner.x, y, inner.width, line, Tone::Text);
    }
    if app.output.is_empty() {
        canvas.put(inner.x, inner.y, inner.width, "nothing yet", Tone::Dim);
    }
}
