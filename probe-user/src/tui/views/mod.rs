//! The views: one file and one line of the list each.

use probe_model::clock;
use ratatui::layout::Rect;

use super::app::App;
use super::canvas::Canvas;
use super::table::Table;

mod calls;
mod commands;
mod contiguity;
mod driver;
mod heatmap;
mod help;
mod loss;
mod overview;
mod processes;
mod scan;

/// A view: draws from the state, and changes nothing.
pub trait View: Sync {
    /// Its name on the tab.
    fn name(&self) -> &'static str;
    /// Whether it has something to show when there is no window yet.
    fn is_timeless(&self) -> bool {
        false
    }
    /// Its table, if it has one.
    fn table(&self, _app: &App) -> Option<Table> {
        None
    }
    fn draw(&self, app: &App, canvas: &mut Canvas<'_>, area: Rect);
}

/// Every view, in the order of its key.
pub const ALL: [&dyn View; 10] = [
    &overview::Overview,
    &commands::Commands,
    &scan::Scan,
    &contiguity::Contiguity,
    &heatmap::Heatmap,
    &processes::Processes,
    &calls::Calls,
    &driver::Driver,
    &loss::Loss,
    &help::Help,
];

/// The number of a view by its name; case and what is no letter do not matter.
pub fn by_name(name: &str) -> Option<usize> {
    let plain = |name: &str| {
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect::<String>()
    };
    ALL.iter().position(|view| plain(view.name()) == plain(name))
}

/// The view's table as it is looked at.
pub fn arranged(app: &App) -> Option<Table> {
    Some(ALL.get(app.view)?.table(app)?.arranged(app.look()))
}

/// How far the keys and words can be scrolled in an area.
pub(super) fn help_lines(area: Rect) -> usize {
    help::beyond(area)
}

/// The keys and words, over another view.
pub(super) fn help(canvas: &mut Canvas<'_>, area: Rect, first: usize) {
    help::draw(canvas, area, first);
}

/// A time, or a dash; what the clock does not tell from nothing, as less than its step.
fn shown(app: &App, nanos: Option<u64>) -> String {
    let show = |nanos| clock::shown_by(nanos, app.clock_step(), |nanos| app.units.show(nanos));
    nanos.map_or_else(|| "-".to_owned(), show)
}

/// A rate, three digits.
pub(super) fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => "-".to_owned(),
        Some(rate) if rate < 10.0 => format!("{rate:.2}/s"),
        Some(rate) if rate < 100.0 => format!("{rate:.1}/s"),
        Some(rate) if rate < 10_000.0 => format!("{rate:.0}/s"),
        Some(rate) if rate < 1e6 => format!("{:.1}k/s", rate / 1e3),
        Some(rate) => format!("{:.1}M/s", rate / 1e6),
    }
}

/// Nanoseconds on an axis.
fn axis(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{n:.0}ns"),
        n if n < 1e6 => format!("{:.0}µs", n / 1e3),
        n if n < 1e9 => format!("{:.0}ms", n / 1e6),
        n => format!("{:.0}s", n / 1e9),
    }
}

/// A stretch of time, for people.
pub(super) fn clock(nanos: u64) -> String {
    let tenths = nanos / 100_000_000;
    let (seconds, minutes, hours) = (tenths / 10 % 60, tenths / 600 % 60, tenths / 36_000);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes:02}:{seconds:02}.{}", tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn views_are_found_by_name() {
        for (place, view) in super::ALL.iter().enumerate() {
            assert_eq!(super::by_name(&view.name().to_uppercase()), Some(place));
        }
        assert_eq!(super::by_name("loss-cost"), Some(8));
        assert_eq!(super::by_name("nothing"), None);
    }

    #[test]
    fn times_and_rates_keep_three_digits() {
        assert_eq!(
            [0.0, 12.34, 999.6, 12_345.0].map(|r| super::rate(Some(r))),
            ["0.00/s", "12.3/s", "1000/s", "12.3k/s"]
        );
        assert_eq!(
            [0, 61_500_000_000, 3_661_000_000_000].map(super::clock),
            ["00:00.0", "01:01.5", "1:01:01"]
        );
    }
}
