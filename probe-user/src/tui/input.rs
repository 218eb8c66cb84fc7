//! What the terminal sends, as keys and clicks: bytes in, events out.
//!
//! Ours, because crossterm 0.29 waits for keys and resizes with edge-triggered readiness and forgets a key that
//! comes with a resize until the next one. Knows the sequences of xterm and those that imitate it; drops others.

use super::key::Key;

/// A longer sequence is no key's.
const LONGEST: usize = 32;
const ESC: u8 = 0x1b;

/// Something that was typed or clicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typed {
    Key(Key),
    /// The left button, or dragging with it: column and row from 0.
    Click(u16, u16),
    /// The wheel: rows down.
    Wheel(isize),
}

/// What has come of a sequence so far.
#[derive(Debug, Default)]
pub(super) struct Parser {
    pending: Vec<u8>,
}

/// What the bytes at hand begin with.
enum Found {
    /// So many bytes, and what they mean.
    Whole(usize, Option<Typed>),
    /// The beginning of a sequence.
    Part,
}

impl Parser {
    /// More bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Typed> {
        self.pending.extend_from_slice(bytes);
        let mut typed = Vec::new();
        while let Some(&first) = self.pending.first() {
            match begin(first, &self.pending) {
                Found::Whole(length, what) => {
                    self.pending.drain(..length.clamp(1, self.pending.len()));
                    typed.extend(what);
                }
                Found::Part if self.pending.len() > LONGEST => self.pending.clear(),
                Found::Part => break,
            }
        }
        typed
    }

    /// Whether a sequence has begun and not ended.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// No more bytes come for now: a lone escape was the key; the rest of anything else is lost.
    pub(super) fn settle(&mut self) -> Option<Typed> {
        let lone = self.pending == [ESC];
        self.pending.clear();
        lone.then_some(Typed::Key(Key::Esc))
    }
}

fn begin(first: u8, bytes: &[u8]) -> Found {
    match first {
        ESC => escape(bytes),
        0x20..=0x7e => Found::Whole(1, Some(Typed::Key(Key::Char(char::from(first))))),
        0x80.. => character(bytes),
        _ => Found::Whole(1, control(first).map(Typed::Key)),
    }
}

fn control(byte: u8) -> Option<Key> {
    Some(match byte {
        b'\r' | b'\n' => Key::Enter,
        b'\t' => Key::Tab,
        0x08 | 0x7f => Key::Backspace,
        0x01..=0x1a => Key::Ctrl(char::from(byte - 1 + b'a')),
        _ => return None,
    })
}

/// A character beyond ASCII.
fn character(bytes: &[u8]) -> Found {
    let length = match bytes[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Found::Whole(1, None),
    };
    let Some(whole) = bytes.get(..length) else { return Found::Part };
    match std::str::from_utf8(whole) {
        Ok(text) => Found::Whole(length, text.chars().next().map(|c| Typed::Key(Key::Char(c)))),
        Err(_) => Found::Whole(1, None),
    }
}

fn escape(bytes: &[u8]) -> Found {
    match bytes.get(1) {
        None => Found::Part,
        Some(b'[') => sequence(bytes),
        Some(b'O') => match bytes.get(2) {
            None => Found::Part,
            Some(&last) => Found::Whole(3, named(last).map(Typed::Key)),
        },
        Some(&ESC) => Found::Whole(1, Some(Typed::Key(Key::Esc))),
        // With Alt: the key itself.
        Some(&next) => match begin(next, &bytes[1..]) {
            Found::Whole(length, what) => Found::Whole(1 + length, what),
            Found::Part => Found::Part,
        },
    }
}

/// `ESC [ parameters final` (ECMA-48 §5.4).
fn sequence(bytes: &[u8]) -> Found {
    let body = &bytes[2..];
    let Some(end) = body.iter().position(|byte| !(0x20..=0x3f).contains(byte)) else { return Found::Part };
    let (parameters, last) = (&body[..end], body[end]);
    let length = 2 + end + 1;
    match (last, parameters) {
        // Linux's console has function keys like `ESC [ [ A`.
        (b'[', []) => {
            if body.len() > 1 {
                Found::Whole(4, None)
            } else {
                Found::Part
            }
        }
        // The oldest way to tell a click: three bytes, each 32 more than it says.
        (b'M', []) => match body.get(1..4) {
            None => Found::Part,
            Some(&[button, column, row]) => {
                let place = |byte: u8| u16::from(byte.saturating_sub(33));
                let button = u16::from(button.saturating_sub(32));
                Found::Whole(length + 3, mouse(button, place(column), place(row)))
            }
            Some(_) => Found::Whole(length, None),
        },
        (b'M', [b'<', numbers @ ..]) => Found::Whole(length, clicked(numbers, 0)),
        (b'M', numbers) => Found::Whole(length, clicked(numbers, 32)),
        (b'Z', _) => Found::Whole(length, Some(Typed::Key(Key::BackTab))),
        (b'~', numbers) => Found::Whole(length, number(numbers).and_then(numbered).map(Typed::Key)),
        (0x40..=0x7e, _) => Found::Whole(length, named(last).map(Typed::Key)),
        // No sequence: what ended it is looked at by itself.
        _ => Found::Whole(length - 1, None),
    }
}

fn named(last: u8) -> Option<Key> {
    Some(match last {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'M' => Key::Enter,
        _ => return None,
    })
}

fn numbered(number: u16) -> Option<Key> {
    Some(match number {
        1 | 7 => Key::Home,
        4 | 8 => Key::End,
        5 => Key::PageUp,
        6 => Key::PageDown,
        _ => return None,
    })
}

/// The first number.
fn number(text: &[u8]) -> Option<u16> {
    std::str::from_utf8(text.split(|byte| *byte == b';').next()?).ok()?.parse().ok()
}

/// `button ; column ; row`, the places from 1.
fn clicked(text: &[u8], more: u16) -> Option<Typed> {
    let mut numbers = text.split(|byte| *byte == b';').map(number);
    let mut next = || numbers.next().flatten();
    let (button, column, row) = (next()?, next()?, next()?);
    mouse(button.checked_sub(more)?, column.checked_sub(1)?, row.checked_sub(1)?)
}

/// Shift, Alt and Ctrl (4, 8, 16) make no difference.
fn mouse(button: u16, column: u16, row: u16) -> Option<Typed> {
    match button & !0b1_1100 {
        0 | 32 => Some(Typed::Click(column, row)),
        64 => Some(Typed::Wheel(-3)),
        65 => Some(Typed::Wheel(3)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typed(bytes: &[u8]) -> Vec<Typed> {
        let mut parser = Parser::default();
        let mut all = parser.feed(bytes);
        all.extend(parser.settle());
        all
    }

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let key = |typed| if let Typed::Key(key) = typed { key } else { panic!("{typed:?} is no key") };
        typed(bytes).into_iter().map(key).collect()
    }

    #[test]
    fn keys_are_what_terminals_send_for_them() {
        use Key::{
            BackTab, Backspace, Char, Ctrl, Down, End, Enter, Esc, Home, Left, PageDown, PageUp, Right, Tab,
            Up,
        };
        assert_eq!(keys(b"q1/ ?"), [Char('q'), Char('1'), Char('/'), Char(' '), Char('?')]);
        assert_eq!(keys(b"\r\t\x7f\x08\x03\x1a"), [Enter, Tab, Backspace, Backspace, Ctrl('c'), Ctrl('z')]);
        assert_eq!(keys(b"\x1b[A\x1b[B\x1b[C\x1b[D\x1bOA"), [Up, Down, Right, Left, Up]);
        assert_eq!(keys(b"\x1b[H\x1b[F\x1b[1~\x1b[4~\x1bOF"), [Home, End, Home, End, End]);
        assert_eq!(keys(b"\x1b[5~\x1b[6~\x1b[6;5~\x1b[Z"), [PageUp, PageDown, PageDown, BackTab]);
        assert_eq!(keys("µ日x".as_bytes()), [Char('µ'), Char('日'), Char('x')]);
        assert_eq!(keys(b"\x1b\x1b"), [Esc, Esc]);
        assert_eq!(keys(b"\x1bj"), [Char('j')], "with Alt");
        assert_eq!(
            keys(b"\x1b[15~\x1b[[A\x1b[I\x00\xff\xc3q"),
            [Char('q')],
            "what nobody asked for is dropped"
        );
    }

    #[test]
    fn clicks_are_told_in_three_ways() {
        let there = [Typed::Click(9, 1)];
        assert_eq!(typed(b"\x1b[<0;10;2M\x1b[<0;10;2m"), there);
        assert_eq!(typed(b"\x1b[32;10;2M"), there);
        assert_eq!(typed(b"\x1b[M\x20\x2a\x22"), there);
        assert_eq!(typed(b"\x1b[<32;10;2M"), there, "dragged");
        assert_eq!(typed(b"\x1b[<65;1;1M\x1b[<64;1;1M"), [Typed::Wheel(3), Typed::Wheel(-3)]);
        assert_eq!(typed(b"\x1b[<2;10;2M\x1b[<0;0;0M\x1b[<0;99999;1M"), []);
    }

    proptest! {
        #[test]
        fn wherever_it_is_cut_the_same_is_typed(
            text in prop::collection::vec(prop::sample::select(vec![
                "q", "\x1b[A", "\x1b[5~", "\x1b[<0;10;2M", "\x1b[M !!", "µ", "\x1bOF", "\r",
            ]), 0..8),
            cut in 0usize..60,
        ) {
            let bytes = text.concat().into_bytes();
            let cut = cut.min(bytes.len());
            let mut parser = Parser::default();
            let mut parts = parser.feed(&bytes[..cut]);
            parts.extend(parser.feed(&bytes[cut..]));
            prop_assert_eq!(parts, typed(&bytes));
            prop_assert!(!parser.is_waiting());
        }

        #[test]
        fn any_bytes_do_no_harm_and_a_key_after_them_is_seen(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut parser = Parser::default();
            parser.feed(&bytes);
            prop_assert!(parser.pending.len() <= LONGEST);
            parser.settle();
            prop_assert_eq!(parser.feed(b"q"), [Typed::Key(Key::Char('q'))]);
        }
    }
}
