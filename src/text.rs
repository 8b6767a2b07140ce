//! Text of people's own: one spelling for comparing, and which characters cannot be seen. And text for people.

mod object;
mod plain;
mod reason;
pub mod template;

pub use object::{Object, object, object_if_any, objects};
pub use plain::{in_plain_words, plainly};
pub use reason::Reason;
use unicode_normalization::UnicodeNormalization;

/// The spelling by which two texts are the same: Unicode NFKC, trimmed, inner blanks collapsed, lower case.
///
/// Normalising twice changes nothing, so that a stored key can be asked for as it is shown.
pub fn normalise(text: &str) -> String {
    // Lower case may compose anew (a capital with a mark that has no single letter), hence the second pass.
    collapse(text).to_lowercase().nfkc().collect()
}

/// Unicode NFKC, trimmed, each run of blanks one space.
pub fn collapse(text: &str) -> String {
    let composed: String = text.nfkc().collect();
    let mut collapsed = String::with_capacity(composed.len());
    for word in composed.split_whitespace() {
        if !collapsed.is_empty() {
            collapsed.push(' ');
        }
        collapsed.push_str(word);
    }
    collapsed
}

/// Whether a character draws nothing or reorders its neighbours: controls, separators of lines, bidirectional and
/// zero-width marks, fillers. Two texts that differ only in these look the same.
pub fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_people_mean_alike_are_one() {
        for same in ["Анна-Мария", "  анна-мария ", "АННА-МАРИЯ\n"] {
            assert_eq!(normalise(same), "анна-мария", "{same}");
        }
        assert_eq!(normalise("Anna \u{a0}\t Maria"), "anna maria");
        assert_eq!(normalise("Ａｎｎａ"), "anna", "full-width letters are compatible ones");
        assert_eq!(normalise("Zoe\u{308}"), normalise("Zo\u{eb}"), "a letter with its mark, apart or in one");
        assert_eq!(normalise("   "), "");
    }

    #[test]
    fn names_that_differ_stay_apart() {
        assert_ne!(normalise("Анна Мария"), normalise("АннаМария"));
        assert_ne!(normalise("Алёна"), normalise("Алена"));
    }

    #[test]
    fn normalising_twice_changes_nothing_for_any_character() {
        for character in '\0'..=char::MAX {
            let once = normalise(&format!("a{character}b {character}"));
            assert_eq!(normalise(&once), once, "{:04x}", u32::from(character));
        }
    }

    #[test]
    fn what_cannot_be_seen_is_known() {
        for hidden in ['\0', '\n', '\u{7f}', '\u{200b}', '\u{202e}', '\u{2028}', '\u{2066}', '\u{feff}', '\u{3164}'] {
            assert!(is_invisible(hidden), "{:04x}", u32::from(hidden));
        }
        for seen in ['a', 'я', ' ', '-', '\u{301}', '名', '💖'] {
            assert!(!is_invisible(seen), "{seen}");
        }
    }
}
