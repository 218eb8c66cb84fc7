//! The configuration file, and what is used when nothing is said.
//!
//! Flags and environment go before the file, the file before the defaults.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::app::{Length, Units};
use super::theme::{Depth, THEMES};
use super::views;

/// What may stand in the file; everything may be left out.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    pub theme: Option<String>,
    pub colours: Option<String>,
    pub ascii: Option<bool>,
    pub mouse: Option<bool>,
    /// ms
    pub refresh_ms: Option<u64>,
    pub window: Option<String>,
    pub units: Option<String>,
    pub view: Option<String>,
    pub remember_view: Option<bool>,
}

/// What is wrong with a configuration. Each says where and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: {why}", path.display())]
    Parse { path: PathBuf, why: String },
    #[error("{name} cannot be {value:?}: it is one of {choices}")]
    Value { name: &'static str, value: String, choices: String },
}

/// Everything decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    pub theme: usize,
    pub depth: Depth,
    pub ascii: bool,
    pub mouse: bool,
    pub refresh: Duration,
    pub length: Length,
    pub units: Units,
    pub view: usize,
    pub remember_view: bool,
}

/// What the environment says of the terminal.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    pub no_color: bool,
    pub term: String,
    pub colorterm: String,
    /// The locale's character set is UTF-8.
    pub utf8: bool,
}

impl Environment {
    /// Of this process.
    pub fn here() -> Self {
        let get = |name| std::env::var(name).unwrap_or_default();
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(get).into_iter().find(|value| !value.is_empty());
        let utf8 = locale.is_none_or(|locale| {
            let locale = locale.to_ascii_lowercase();
            // A machine without a locale still has, nearly always, a terminal with UTF-8.
            locale.contains("utf") || locale == "c" || locale == "posix"
        });
        Self { no_color: !get("NO_COLOR").is_empty(), term: get("TERM"), colorterm: get("COLORTERM"), utf8 }
    }

    /// Colours that the terminal has.
    pub fn depth(&self) -> Depth {
        if self.no_color || self.term == "dumb" {
            return Depth::None;
        }
        match self.colorterm.as_str() {
            "truecolor" | "24bit" => Depth::True,
            _ if self.term.contains("direct") => Depth::True,
            _ if self.term.contains("256color") => Depth::Ansi256,
            _ => Depth::Ansi16,
        }
    }
}

impl Config {
    /// The file at `path`, or the usual one if it exists.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let (path, asked) = match path {
            Some(path) => (path.to_owned(), true),
            None => match folder("XDG_CONFIG_HOME", ".config") {
                Some(folder) => (folder.join("config.toml"), false),
                None => return Ok(Self::default()),
            },
        };
        match fs::read_to_string(&path) {
            Ok(text) => {
                toml::from_str(&text).map_err(|error| ConfigError::Parse { path, why: error.to_string() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !asked => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path, source }),
        }
    }

    /// What is said here, else what `below` says.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            theme: self.theme.or(below.theme),
            colours: self.colours.or(below.colours),
            ascii: self.ascii.or(below.ascii),
            mouse: self.mouse.or(below.mouse),
            refresh_ms: self.refresh_ms.or(below.refresh_ms),
            window: self.window.or(below.window),
            units: self.units.or(below.units),
            view: self.view.or(below.view),
            remember_view: self.remember_view.or(below.remember_view),
        }
    }

    /// Decide everything; `length` is the window where nobody says one.
    pub fn choose(&self, environment: &Environment, length: Length) -> Result<Chosen, ConfigError> {
        let themes: Vec<_> = THEMES.iter().map(|theme| theme.name).collect();
        let views: Vec<_> = views::ALL.iter().map(|view| view.name()).collect();
        let depths = ["auto", "none", "16", "256", "true"];
        let lengths = ["1s", "10s", "1min", "all"];
        let units = ["auto", "ns", "us", "ms"];
        let colours = pick("colours", self.colours.as_deref(), &depths)?;
        let refresh = self.refresh_ms.unwrap_or(100);
        if !(10..=60_000).contains(&refresh) {
            return Err(wrong("refresh", &format!("{refresh} ms"), &["10 ms to 60,000 ms"]));
        }
        let view = match &self.view {
            Some(name) => views::by_name(name).ok_or_else(|| wrong("view", name, &views))?,
            None => 0,
        };
        let environment_depth = environment.depth();
        Ok(Chosen {
            theme: pick("theme", self.theme.as_deref(), &themes)?.unwrap_or(0),
            depth: match colours {
                Some(1) => Depth::None,
                _ if environment.no_color => Depth::None,
                Some(2) => Depth::Ansi16,
                Some(3) => Depth::Ansi256,
                Some(4) => Depth::True,
                _ => environment_depth,
            },
            ascii: self.ascii.unwrap_or(!environment.utf8),
            mouse: self.mouse.unwrap_or(true),
            refresh: Duration::from_millis(refresh),
            length: pick("window", self.window.as_deref(), &lengths)?
                .map_or(length, |place| Length::ALL[place]),
            units: pick("units", self.units.as_deref(), &units)?
                .map_or(Units::Auto, |place| Units::ALL[place]),
            view,
            remember_view: self.remember_view.unwrap_or(false),
        })
    }
}

impl Chosen {
    /// As a configuration file that would choose the same.
    pub fn to_toml(&self) -> String {
        let depth = match self.depth {
            Depth::None => "none",
            Depth::Ansi16 => "16",
            Depth::Ansi256 => "256",
            Depth::True => "true",
        };
        let window = ["1s", "10s", "1min", "all"]
            [Length::ALL.iter().position(|length| *length == self.length).unwrap_or(3)];
        let units =
            ["auto", "ns", "us", "ms"][Units::ALL.iter().position(|units| *units == self.units).unwrap_or(0)];
        let themes: Vec<_> = THEMES.iter().map(|theme| theme.name).collect();
        format!(
            "# iovascope's dashboards: ~/.config/iovascope/config.toml\n\
             # Flags and IOVASCOPE_… variables go before this file.\n\n\
             # {}\n\
             theme = \"{}\"\n\
             # auto, none, 16, 256, true; NO_COLOR is obeyed\n\
             colours = \"{depth}\"\n\
             # draw with ASCII alone\n\
             ascii = {}\n\
             mouse = {}\n\
             # time between two frames\n\
             refresh-ms = {}\n\
             # 1s, 10s, 1min, all\n\
             window = \"{window}\"\n\
             # auto, ns, us, ms\n\
             units = \"{units}\"\n\
             # the first view\n\
             view = \"{}\"\n\
             # begin with the view that was shown last\n\
             remember-view = {}\n",
            themes.join(", "),
            THEMES[self.theme].name,
            self.ascii,
            self.mouse,
            self.refresh.as_millis(),
            views::ALL[self.view].name(),
            self.remember_view,
        )
    }

    /// How the app begins.
    pub fn setup(&self, name: String, live: bool) -> super::Setup {
        super::Setup {
            app: super::app::Setup {
                length: self.length,
                units: self.units,
                theme: self.theme,
                view: self.view,
                ..super::app::Setup::usual(name, live)
            },
            ability: super::screen::Ability { depth: self.depth, ascii: self.ascii },
            refresh: self.refresh,
            mouse: self.mouse,
        }
    }
}

/// Whether there is a view of this name.
pub fn is_view(name: &str) -> bool {
    views::by_name(name).is_some()
}

/// The view that was shown last, where it was kept.
pub fn remembered() -> Option<String> {
    fs::read_to_string(folder("XDG_STATE_HOME", ".local/state")?.join("view"))
        .ok()
        .map(|name| name.trim().to_owned())
}

/// Keep the view that was shown last.
pub fn remember(view: usize) -> io::Result<()> {
    let Some(folder) = folder("XDG_STATE_HOME", ".local/state") else { return Ok(()) };
    fs::create_dir_all(&folder)?;
    let name = views::ALL[view.min(views::ALL.len() - 1)].name();
    // Beside it, then in its place: a link that stands there is replaced, not followed.
    let new = folder.join(format!("view.{}", std::process::id()));
    fs::write(&new, name)?;
    fs::rename(new, folder.join("view"))
}

fn folder(variable: &str, usual: &str) -> Option<PathBuf> {
    let set = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(usual)))?;
    Some(base.join("iovascope"))
}

fn pick(name: &'static str, value: Option<&str>, choices: &[&str]) -> Result<Option<usize>, ConfigError> {
    let Some(value) = value else { return Ok(None) };
    match choices.iter().position(|choice| *choice == value) {
        Some(place) => Ok(Some(place)),
        None => Err(wrong(name, value, choices)),
    }
}

fn wrong(name: &'static str, value: &str, choices: &[&str]) -> ConfigError {
    ConfigError::Value { name, value: value.to_owned(), choices: choices.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal(term: &str, colorterm: &str) -> Environment {
        Environment { no_color: false, term: term.into(), colorterm: colorterm.into(), utf8: true }
    }

    #[test]
    fn what_is_printed_chooses_the_same() {
        let environment = terminal("xterm-256color", "");
        let config: Config =
            toml::from_str("theme = \"light\"\nwindow = \"10s\"\nview = \"loss & cost\"\nascii = true")
                .unwrap();
        let chosen = config.choose(&environment, Length::All).unwrap();
        assert_eq!((chosen.theme, chosen.view, chosen.length), (1, 8, Length::TenSeconds));
        let again: Config = toml::from_str(&chosen.to_toml()).unwrap();
        assert_eq!(again.choose(&environment, Length::All).unwrap(), chosen);
    }

    #[test]
    fn flags_go_before_the_file_and_mistakes_name_the_choices() {
        let flags = Config { theme: Some("dark".into()), ..Config::default() };
        let file = Config { theme: Some("light".into()), units: Some("us".into()), ..Config::default() };
        let chosen = flags.over(file).choose(&terminal("xterm", ""), Length::All).unwrap();
        assert_eq!((chosen.theme, chosen.units, chosen.depth), (0, Units::Micros, Depth::Ansi16));
        let wrong = Config { theme: Some("pink".into()), ..Config::default() };
        let error = wrong.choose(&terminal("", ""), Length::All).unwrap_err().to_string();
        assert!(error.contains("pink") && error.contains("high-contrast"), "{error}");
        assert!(toml::from_str::<Config>("colour = 1").is_err(), "an unknown word is a mistake");
    }

    #[test]
    fn the_terminal_says_how_many_colours_there_are() {
        assert_eq!(terminal("xterm-256color", "").depth(), Depth::Ansi256);
        assert_eq!(terminal("xterm", "truecolor").depth(), Depth::True);
        assert_eq!(terminal("linux", "").depth(), Depth::Ansi16);
        assert_eq!(terminal("dumb", "truecolor").depth(), Depth::None);
        let asked = Environment { no_color: true, ..terminal("xterm", "truecolor") };
        assert_eq!(asked.depth(), Depth::None);
        let forced = Config { colours: Some("true".into()), ..Config::default() };
        assert_eq!(forced.choose(&asked, Length::All).unwrap().depth, Depth::None, "NO_COLOR is obeyed");
    }
}
