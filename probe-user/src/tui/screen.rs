//! The whole screen.
//!
//! ```text
//! iovascope ● LIVE  name                                   window 10 s  12:00:00   title
//! 1 Overview  2 Commands  3 Scan …                                                 tabs
//!
//!   the view                                                                       body
//!
//! ▶ ×4  00:12.0 ━━━━━●──────────── 01:30.0                                         timeline, if not following
//! ? help  q quit  Tab view …                                                       footer
//! ```

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use probe_model::canary::Pulse;
use probe_model::unit;

use super::app::{App, Cursor, Overlay, State};
use super::canvas::{Canvas, FILL, Target, rows};
use super::key::KEYS;
use super::text;
use super::theme::{Depth, Looks};
use super::tone::Tone;
use super::views::{self, ALL, View};
use super::widgets::facts;

/// What the terminal can.
#[derive(Debug, Clone, Copy)]
pub struct Ability {
    pub depth: Depth,
    pub ascii: bool,
}

/// Smaller than this there is no dashboard.
pub const SMALLEST: (u16, u16) = (20, 6);

/// Draw the state; what clicks on it mean.
pub fn draw(app: &App, ability: Ability, buffer: &mut Buffer) -> Vec<(Rect, Target)> {
    let mut hits = Vec::new();
    let area = buffer.area;
    let looks = Looks { theme: Looks::theme(app.theme), depth: ability.depth, ascii: ability.ascii };
    let mut canvas = Canvas { buffer, looks, hits: &mut hits };
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text =
            format!("{}×{} is too small: needs {}×{}", area.width, area.height, SMALLEST.0, SMALLEST.1);
        facts::wrapped(&mut canvas, area, &text, Tone::Warn);
        return hits;
    }
    let tall = is_tall(area);
    let [head, tabs, body, travel, foot] = parts(app, area);
    title(app, &mut canvas, head, !tall);
    if tall {
        tab_bar(app, &mut canvas, tabs);
        footer(app, &mut canvas, foot);
    }
    if travel.height > 0 {
        timeline(app, &mut canvas, travel);
    }
    let body = warnings(app, &mut canvas, body);
    view(app, &mut canvas, body);
    overlay(app, &mut canvas, body);
    hits
}

fn is_tall(area: Rect) -> bool {
    area.height >= 10
}

/// Title, tabs, body, timeline and footer.
fn parts(app: &App, area: Rect) -> [Rect; 5] {
    let bars = u16::from(is_tall(area));
    let traveller =
        area.height >= 12 && (app.cursor != Cursor::Newest || !app.is_live()) && app.position().is_some();
    rows(area, [1, bars, FILL, u16::from(traveller), bars])
}

/// How many lines the help can be scrolled on a screen of this size, if it is what is looked at.
pub fn help_lines(app: &App, area: Rect) -> Option<usize> {
    let [_, _, body, _, _] = parts(app, area);
    let over = matches!(app.overlay, Overlay::Help(_));
    let body = if over {
        Rect::new(0, 0, body.width.saturating_sub(2), body.height.saturating_sub(2))
    } else {
        body
    };
    (over || current(app).name() == "Help").then(|| views::help_lines(body))
}

fn current(app: &App) -> &'static dyn View {
    ALL[app.view.min(ALL.len() - 1)]
}

fn title(app: &App, canvas: &mut Canvas<'_>, area: Rect, small: bool) {
    let (word, tone) = status(app);
    let mut right = Vec::new();
    if let Some(now) = &app.shown {
        right.push(format!("{} s", seconds(now.window.duration().as_secs_f64())));
        if area.width >= 70 {
            right.push(utc(now.window.to.realtime));
        }
    }
    let window = if area.width >= 50 { format!("window {}: ", app.length.name()) } else { String::new() };
    let right = format!("{window}{}", right.join("  "));
    let name = if small { current(app).name().to_owned() } else { "iovascope".to_owned() };
    let mut pieces = vec![(name.as_str(), Tone::Head), (" ", Tone::Text), (word.as_str(), tone)];
    let host = app.header.as_ref().map(|header| {
        text::cells(format!("  {}  Linux {}  {}", app.setup.name, header.kernel, header.backend).as_bytes())
    });
    let host = host.unwrap_or_else(|| text::cells(format!("  {}", app.setup.name).as_bytes()));
    if area.width >= 100 {
        pieces.push((&host, Tone::Dim));
    }
    let length = u16::try_from(right.chars().count()).unwrap_or(0);
    let needed = u16::try_from(name.chars().count() + word.chars().count() + 2).unwrap_or(u16::MAX);
    // What is looked at goes before of which time.
    let both = length <= area.width.saturating_sub(needed);
    let left = if both { area.width.saturating_sub(length + 1) } else { area.width };
    canvas.pieces(area.x, area.y, left, &pieces);
    if both {
        canvas.put(area.right() - length, area.y, length, &right, Tone::Dim);
    }
}

fn seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.2}") } else { format!("{seconds:.1}") }
}

fn utc(realtime: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(realtime))
        .map_or_else(|_| String::new(), |at| at.strftime("%H:%M:%S UTC").to_string())
}

/// In a word, what we are looking at.
fn status(app: &App) -> (String, Tone) {
    let speed = || match app.speed {
        0 => String::new(),
        up @ 1.. => format!(" ×{}", 1 << up),
        down => format!(" ×1/{}", 1 << -down),
    };
    match (&app.state, app.cursor) {
        (State::Failed(_), _) => ("✗ ERROR".to_owned(), Tone::Bad),
        (State::Waiting, _) => ("· WAITING".to_owned(), Tone::Warn),
        _ if app.playing => (format!("▶ PLAY{}", speed()), Tone::Good),
        (State::Running, Cursor::Newest) if app.setup.live => ("● LIVE".to_owned(), Tone::Good),
        (State::Running, Cursor::At(_)) if app.setup.live => ("‖ FROZEN".to_owned(), Tone::Warn),
        (State::Running, _) => ("· READING".to_owned(), Tone::Warn),
        (State::Ended(ended), Cursor::Newest) => match ended.unclean {
            Some(_) => ("■ ENDED, UNCLEAN".to_owned(), Tone::Warn),
            None => ("■ END".to_owned(), Tone::Accent),
        },
        (State::Ended(_), Cursor::At(_)) => (format!("‖ PAUSED{}", speed()), Tone::Warn),
    }
}

fn tab_bar(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    let needed: usize = ALL.iter().map(|view| view.name().chars().count() + 4).sum();
    if needed > usize::from(area.width) {
        return short_tabs(app, canvas, area);
    }
    let mut x = area.x;
    for (number, view) in ALL.iter().enumerate() {
        let label = format!(" {} {} ", (number + 1) % 10, view.name());
        let tone = if number == app.view { Tone::Accent } else { Tone::Dim };
        let used = canvas.put(x, area.y, area.right().saturating_sub(x), &label, tone);
        let hit = Rect::new(x, area.y, used, 1);
        if number == app.view {
            canvas.row_style(hit, Tone::Selected);
        }
        canvas.hits.push((hit, Target::Tab(number)));
        x += used;
    }
}

/// Numbers for all, the name of one.
fn short_tabs(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    let mut x = area.x;
    for (number, view) in ALL.iter().enumerate() {
        let here = number == app.view;
        let key = (number + 1) % 10;
        let label = if here { format!(" {key} {} ", view.name()) } else { format!(" {key} ") };
        let tone = if here { Tone::Accent } else { Tone::Dim };
        let used = canvas.put(x, area.y, area.right().saturating_sub(x), &label, tone);
        let hit = Rect::new(x, area.y, used, 1);
        if here {
            canvas.row_style(hit, Tone::Selected);
        }
        canvas.hits.push((hit, Target::Tab(number)));
        x += used;
    }
}

fn footer(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    if let Some((message, _)) = &app.message {
        canvas.put(area.x, area.y, area.width, &text::cells(message.as_bytes()), Tone::Accent);
        return;
    }
    let mut x = area.x;
    for binding in KEYS.iter().filter(|binding| !binding.hint.is_empty()) {
        let (key, hint) = (format!("{} ", binding.shown), format!("{}  ", binding.hint));
        let length = u16::try_from(key.chars().count() + hint.chars().count()).unwrap_or(0);
        if x + length > area.right() {
            break;
        }
        x += canvas.pieces(x, area.y, length, &[(&key, Tone::Accent), (&hint, Tone::Dim)]);
    }
    let units = format!("times in {}", app.units.name());
    let length = u16::try_from(units.chars().count()).unwrap_or(0);
    if app.units != super::app::Units::Auto && x + length < area.right() {
        canvas.put(area.right() - length, area.y, length, &units, Tone::Dim);
    }
}

/// Where we are in the recording.
fn timeline(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    let Some((first, here, last)) = app.position() else { return };
    let length = last.monotonic - first.monotonic;
    let at = views::clock(here.monotonic - first.monotonic);
    let whole = views::clock(length);
    let used = canvas.put(area.x, area.y, 12, &format!("{at} "), Tone::Head);
    let end = u16::try_from(whole.chars().count() + 1).unwrap_or(0);
    let track = Rect::new(area.x + used, area.y, area.width.saturating_sub(used + end), 1);
    canvas.put_right(area.x, area.y, area.width, &whole, Tone::Dim);
    if track.width == 0 {
        return;
    }
    let place = |at: u64| {
        let share = at.saturating_sub(first.monotonic) as f64 / length.max(1) as f64;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the track")]
        let cells = (share.clamp(0.0, 1.0) * f64::from(track.width - 1)).round() as u16;
        track.x + cells
    };
    let (line, done, knob, flag) =
        if canvas.looks.ascii { ('-', '=', 'O', '!') } else { ('─', '━', '●', '◆') };
    let begin = app.shown.as_ref().map_or(first.monotonic, |now| now.window.from.monotonic);
    let styles = [Tone::Line, Tone::Accent].map(|tone| canvas.looks.style(tone));
    for x in track.left()..track.right() {
        let inside = (place(begin)..=place(here.monotonic)).contains(&x);
        let (glyph, style) = if inside { (done, styles[1]) } else { (line, styles[0]) };
        canvas.cell(x, area.y, glyph, style);
    }
    let warn = canvas.looks.style(Tone::Warn);
    for mark in &app.marks {
        canvas.cell(place(mark.at.monotonic), area.y, flag, warn);
    }
    let head = canvas.looks.style(Tone::Head);
    canvas.cell(place(here.monotonic), area.y, knob, head);
    canvas.hits.push((track, Target::Timeline));
}

/// A line across the body for each thing that makes the figures untrue; the rest of the body.
fn warnings(app: &App, canvas: &mut Canvas<'_>, area: Rect) -> Rect {
    let mut lines: Vec<[String; 3]> = Vec::new();
    if let Some(now) = &app.shown {
        if now.window.counters.canary.pulse() == Pulse::Dark {
            let dark = unit::nanos(now.window.counters.canary.dark);
            lines.push([
                format!("✗ DARK for at most {dark}: the probes saw nothing. What looks idle is a gap."),
                format!("✗ DARK for at most {dark}: the probes saw nothing."),
                format!("✗ DARK up to {dark}"),
            ]);
        }
        let company = now.window.counters.company.visible().names();
        if let Some(first) = company.first() {
            let all = company.join("; ");
            lines.push([
                format!("✗ COMPANY: {all}. What they do is inside these latencies."),
                format!("✗ COMPANY: {first}"),
                "✗ COMPANY".to_owned(),
            ]);
        }
        if now.lost() > 0 {
            let biased = now.balances.values().any(|(_, balance)| balance.is_biased());
            let bias = if biased { ", the slow ones: percentiles are too low" } else { "" };
            let lost = unit::count(now.lost());
            let brief = if biased { ": p99 too low" } else { "" };
            lines.push([
                format!("✗ {lost} calls LOST{bias}. Loss & cost says why."),
                format!("✗ {lost} calls LOST{brief}"),
                format!("✗ {lost} calls LOST"),
            ]);
        }
    }
    if let State::Failed(why) = &app.state
        && app.shown.is_some()
    {
        let why = format!("✗ {}", text::cells(why.as_bytes()));
        lines.push([why.clone(), why.clone(), why]);
    }
    let room = if area.height >= 14 { 2 } else { 1 };
    lines.truncate(room);
    let used = u16::try_from(lines.len()).unwrap_or(0);
    for (y, line) in (area.top()..area.bottom()).zip(&lines) {
        let line = [line[0].as_str(), line[1].as_str(), line[2].as_str()];
        canvas.put_fitting(Rect { y, ..area }, &line, Tone::Bad);
    }
    Rect { y: area.y + used, height: area.height.saturating_sub(used), ..area }
}

fn view(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    if area.height == 0 {
        return;
    }
    let view = current(app);
    if app.shown.is_some() || view.is_timeless() {
        return view.draw(app, canvas, area);
    }
    let (what, advice, tone) = match &app.state {
        State::Failed(why) => (text::cells(why.replace('\n', " ").as_bytes()), "q quits.", Tone::Bad),
        State::Waiting => (
            format!("Waiting for {}.", text::cells(app.setup.name.as_bytes())),
            "The first bytes of a recording come as soon as its probes are attached. q quits.",
            Tone::Warn,
        ),
        State::Running => (
            "Counting.".to_owned(),
            "Figures are of the time between two samples: they appear with the second one.",
            Tone::Good,
        ),
        State::Ended(_) => (
            "Nothing was recorded between the beginning and the end.".to_owned(),
            "The recording has no window. `iovascope record -d 10s` makes one of ten seconds.",
            Tone::Warn,
        ),
    };
    let used = facts::wrapped(canvas, area, &what, tone);
    let rest = Rect { y: area.y + used, height: area.height.saturating_sub(used), ..area };
    facts::wrapped(canvas, rest, advice, Tone::Dim);
}

fn overlay(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    match app.overlay {
        Overlay::Help(first) => {
            canvas.clear(area);
            let inner = canvas.panel(area, "keys and words", Tone::Accent);
            views::help(canvas, inner, first);
        }
        Overlay::Details => details(app, canvas, area),
        Overlay::None | Overlay::Filter => {}
    }
}

fn details(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    let Some(table) = views::arranged(app).filter(|table| !table.rows.is_empty()) else { return };
    let selected = app.look().selected.min(table.rows.len() - 1);
    let details = &table.rows[selected].details;
    let width = 64.min(area.width);
    let height = u16::try_from(details.len() + 2).unwrap_or(area.height).min(area.height);
    let over =
        Rect::new(area.x + (area.width - width) / 2, area.y + (area.height - height) / 2, width, height);
    canvas.clear(over);
    let inner = canvas.panel(over, "details", Tone::Accent);
    let lines: Vec<_> = details.iter().map(|(name, value)| facts::Fact::new(name, value)).collect();
    facts::draw(canvas, inner, 16, &lines);
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
