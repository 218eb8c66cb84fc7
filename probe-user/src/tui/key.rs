//! Keys to actions: one table, which the help view, the footer and the tests read too.

/// A key, as far as the dashboard tells keys apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Ctrl(char),
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Tab,
    BackTab,
    Enter,
    Esc,
    Backspace,
}

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    View(usize),
    NextView,
    PreviousView,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    SortLeft,
    SortRight,
    Sort,
    Reverse,
    Filter,
    Details,
    Back,
    Freeze,
    Reset,
    Window,
    Units,
    Site,
    StepBack,
    StepOn,
    SeekBack,
    SeekOn,
    ToBegin,
    ToEnd,
    Faster,
    Slower,
    PreviousMark,
    NextMark,
    Mark,
    Theme,
    Export,
    Help,
    Suspend,
    Quit,
}

/// One line of the table.
#[derive(Debug)]
pub struct Binding {
    /// What does it.
    pub keys: &'static [Key],
    /// The keys, as the help shows them.
    pub shown: &'static str,
    /// What it does.
    pub action: Action,
    /// The word in the footer; none: not there.
    pub hint: &'static str,
    /// What it does, for the help.
    pub help: &'static str,
}

use Key::{
    BackTab, Backspace, Char, Ctrl, Down, End, Enter, Esc, Home, Left, PageDown, PageUp, Right, Tab, Up,
};

macro_rules! bind {
    ($([$($key:expr),+] $shown:literal $action:expr, $hint:literal, $help:literal;)+) => {
        &[$(Binding { keys: &[$($key),+], shown: $shown, action: $action, hint: $hint, help: $help }),+]
    };
}

/// The table.
pub const KEYS: &[Binding] = bind! {
    [Char('?'), Char('H')] "?" Action::Help, "help", "this page, and back";
    [Char('q'), Ctrl('c')] "q" Action::Quit, "quit", "quit";
    [Tab] "Tab" Action::NextView, "view", "next view; 1 to 9 and 0 go straight to one";
    [BackTab] "Shift-Tab" Action::PreviousView, "", "previous view";
    [Char(' ')] "Space" Action::Freeze, "freeze", "freeze, go on; a recording: play, pause";
    [Char('w')] "w" Action::Window, "window", "length of the window: 1 s, 10 s, 1 min, all";
    [Char('/')] "/" Action::Filter, "filter", "filter rows; Enter keeps it, Esc clears it";
    [Char('s')] "s" Action::Sort, "sort", "sort by the next column";
    [Char('S')] "S" Action::Reverse, "", "turn the order round";
    [Enter] "Enter" Action::Details, "details", "details of the selected row";
    [Esc, Backspace] "Esc" Action::Back, "", "close, clear the filter, follow the newest";
    [Char('j'), Down] "j ↓" Action::Down, "", "next row";
    [Char('k'), Up] "k ↑" Action::Up, "", "previous row";
    [PageDown, Ctrl('d')] "PgDn" Action::PageDown, "", "ten rows down";
    [PageUp, Ctrl('u')] "PgUp" Action::PageUp, "", "ten rows up";
    [Char('g'), Home] "g Home" Action::First, "", "first row";
    [Char('G'), End] "G End" Action::Last, "", "last row";
    [Char('h'), Left] "h ←" Action::SortLeft, "", "sort by the column left; charts: back in time";
    [Char('l'), Right] "l →" Action::SortRight, "", "sort by the column right; charts: on in time";
    [Char(',')] ", ." Action::StepBack, "step", "one sample back, one on";
    [Char('.')] "." Action::StepOn, "", "one sample on";
    [Char('<')] "< >" Action::SeekBack, "", "a twentieth of the recording back, or on";
    [Char('>')] ">" Action::SeekOn, "", "a twentieth of the recording on";
    [Char('b')] "b" Action::ToBegin, "", "to the beginning";
    [Char('e')] "e" Action::Export, "export", "export the screen, and its window as a report";
    [Char('f')] "f" Action::ToEnd, "", "to the newest sample, and follow it";
    [Char('+'), Char('=')] "+ -" Action::Faster, "", "play faster, slower";
    [Char('-')] "-" Action::Slower, "", "play slower";
    [Char('n')] "n N" Action::NextMark, "", "next mark, previous mark";
    [Char('N')] "N" Action::PreviousMark, "", "previous mark";
    [Char('m')] "m" Action::Mark, "", "mark this instant";
    [Char('r')] "r" Action::Reset, "reset", "the window \"all\" begins here, or not any more";
    [Char('u')] "u" Action::Units, "", "time in: automatic, ns, µs, ms";
    [Char('x')] "x" Action::Site, "", "heatmap and overview: the other site";
    [Char('t')] "t" Action::Theme, "", "next theme";
    [Ctrl('z')] "Ctrl-Z" Action::Suspend, "", "back to the shell; fg returns";
};

/// What a key does.
pub fn action(key: Key) -> Option<Action> {
    if let Char(digit @ '0'..='9') = key {
        // The key after 9 stands for the tenth view.
        let place = digit.to_digit(10).map_or(0, |digit| digit as usize);
        return Some(Action::View((place + 9) % 10));
    }
    KEYS.iter().find(|binding| binding.keys.contains(&key)).map(|binding| binding.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_does_two_things_and_every_line_says_what_it_does() {
        let mut seen = Vec::new();
        for binding in KEYS {
            assert!(!binding.help.is_empty() && !binding.shown.is_empty());
            for key in binding.keys {
                assert!(!seen.contains(key), "{key:?} stands twice");
                seen.push(*key);
                assert_eq!(action(*key), Some(binding.action));
            }
        }
        assert_eq!(action(Char('1')), Some(Action::View(0)));
        assert_eq!(action(Char('0')), Some(Action::View(9)));
        assert_eq!(action(Char('~')), None);
    }
}
