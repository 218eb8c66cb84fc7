//! Names from outside (a process's `comm`, a tag) made fit to print anywhere, and sentences fit to a width.
//!
//! A process chooses its own name, 15 arbitrary bytes: escape sequences that drive a terminal, marks that
//! turn the direction of the text around it, line ends that forge lines. Formats escape what they give a
//! meaning to; this takes out what no person should meet.

use std::fmt::Write as _;

/// The bytes as text: what is not UTF-8, control characters and invisible formatting become visible escapes
/// (`\x1b`, `\u{202e}`), a backslash becomes two, so no two names look the same.
pub fn visible(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                // Writing to a string does not fail.
                c if c.is_ascii_control() => drop(write!(text, "\\x{:02x}", u32::from(c))),
                c if c.is_control() || is_formatting(c) => drop(write!(text, "\\u{{{:x}}}", u32::from(c))),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Characters without a shape that change how others are shown: zero-width ones, directions, separators of
/// lines and paragraphs, tags.
fn is_formatting(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Text in lines of at most `width` characters, broken at spaces. A longer word has a line of its own.
pub fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines
            .last_mut()
            .filter(|line| line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width);
        match line {
            None => lines.push(word.to_owned()),
            Some(line) => {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_would_act_are_shown_instead() {
        assert_eq!(visible(b"dpdk-lcore 3"), "dpdk-lcore 3");
        assert_eq!(visible(b"\x1b]52;c;x\x07"), "\\x1b]52;c;x\\x07");
        assert_eq!(visible("a\u{202e}b\u{9b}".as_bytes()), "a\\u{202e}b\\u{9b}");
        assert_eq!(visible(b"\xff\xfe\\x\n"), "\\xff\\xfe\\\\x\\x0a");
        assert_eq!(visible("größe".as_bytes()), "größe");
    }

    #[test]
    fn lines_break_at_spaces_and_nothing_is_left_out() {
        assert_eq!(broken("a scan took  36 ms", 8), ["a scan", "took 36", "ms"]);
        assert_eq!(broken("a --very-long-flag", 4), ["a", "--very-long-flag"]);
        assert_eq!(broken("", 4), [""]);
    }

    proptest! {
        #[test]
        fn no_two_names_look_the_same_and_none_acts(
            a in prop::collection::vec(any::<u8>(), 0..16), b in prop::collection::vec(any::<u8>(), 0..16),
        ) {
            prop_assert_eq!(a == b, visible(&a) == visible(&b));
            prop_assert!(!visible(&a).chars().any(|c| c.is_control() || is_formatting(c)));
        }
    }
}
