//! Words from outside made fit for a grid of cells.
//!
//! A process chooses its own name. On a terminal, escapes would act, direction marks turn the row round,
//! and characters that are wide, empty or combining shift every column behind them. All of them become
//! visible escapes; what is left takes one cell a character.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar as _;

/// The bytes as text of which every character takes one cell.
pub fn cells(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_plain(c) {
                text.push(c);
            } else if c.is_ascii() {
                // Writing to a string does not fail.
                let _ = write!(text, "\\x{:02x}", u32::from(c));
            } else {
                let _ = write!(text, "\\u{{{:x}}}", u32::from(c));
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// One cell wide whatever stands around it.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && c.width() == Some(1)
        && c.width_cjk() == Some(1)
        && !is_right_to_left(c)
        && !is_private(c)
}

/// Scripts that a terminal may reorder.
fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}'
        | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}' | '\u{200b}'..='\u{206f}')
}

/// Fonts draw these as they please.
fn is_private(c: char) -> bool {
    matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}')
}

/// At most `width` characters; what was cut off shows as `~` (one that has no other meaning in a name
/// is not needed: the details have it whole).
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        short.push('~');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_take_one_cell_a_character() {
        let names: [&[u8]; 9] = [
            b"dpdk-lcore 3",
            b"\x1b[2J\x1b]52;c;x\x07",
            "a\u{202e}b\u{200b}".as_bytes(),
            b"\xff\xfe\x9b31m",
            "日本語".as_bytes(),
            "שלום".as_bytes(),
            "e\u{301}\u{fe0f}".as_bytes(),
            "🦀\u{200d}🦀".as_bytes(),
            b"tab\there\r\n",
        ];
        for name in names {
            let text = cells(name);
            assert!(text.chars().all(is_plain), "{text}");
            assert_eq!(unicode_width::UnicodeWidthStr::width(text.as_str()), text.chars().count());
        }
        assert_eq!(cells(b"dpdk-lcore 3"), "dpdk-lcore 3");
        assert_eq!(cells(b"\x1b[2J"), "\\x1b[2J");
        assert_eq!(cells("日".as_bytes()), "\\u{65e5}");
    }

    #[test]
    fn what_is_cut_shows_it() {
        assert_eq!(
            (cut("abcdef", 4), cut("abcd", 4), cut("ab", 0)),
            ("abc~".into(), "abcd".into(), String::new())
        );
    }
}
