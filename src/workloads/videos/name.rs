//! The name that a video is made for: which are accepted, and how one is written and compared.

use std::iter;

use thiserror::Error;
use unicode_normalization::UnicodeNormalization;

use crate::text;

/// The longest name, in characters as they are drawn.
pub const MAX_CHARACTERS: usize = 100;

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("a name must not be empty")]
    Empty,
    #[error("a name may have at most {MAX_CHARACTERS} characters, this one has {characters}")]
    Long { characters: usize },
    #[error("a name may not contain the invisible character U+{:04X}", u32::from(*.character))]
    Invisible { character: char },
}

/// Whether a video can be made for `name` as somebody typed it.
///
/// # Errors
/// What is wrong with it, in words for whoever typed it.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let drawn = text::collapse(name);
    if drawn.is_empty() {
        return Err(NameError::Empty);
    }
    // A line break inside a name is a blank to Unicode and a mistake to us; around it, it is only untidy.
    if let Some(character) = name.trim().chars().chain(drawn.chars()).find(|c| text::is_invisible(*c)) {
        return Err(NameError::Invisible { character });
    }
    match drawn.chars().count() {
        characters if characters > MAX_CHARACTERS => Err(NameError::Long { characters }),
        _ => Ok(()),
    }
}

/// The spelling by which two names are the same name.
pub fn normalise(name: &str) -> String {
    text::normalise(name)
}

/// The name as it is drawn: trimmed, blanks collapsed, each word capitalised, also after a hyphen.
///
/// Names that compare equal are drawn alike, whoever asked first: "ANNA" is drawn "Anna". An apostrophe starts no new
/// word: it is a letter's sign inside names such as "Дем'ян".
pub fn display(name: &str) -> String {
    let mut drawn = String::with_capacity(name.len());
    let mut starts_a_word = true;
    for character in normalise(name).chars() {
        if starts_a_word {
            drawn.extend(capital(character));
        } else {
            drawn.push(character);
        }
        starts_a_word = character.is_whitespace() || is_hyphen(character);
    }
    drawn.nfkc().collect()
}

fn capital(character: char) -> Box<dyn Iterator<Item = char>> {
    // Georgian writes names without capitals; Unicode's upper case of its letters is for headlines only.
    match character {
        '\u{10d0}'..='\u{10ff}' => Box::new(iter::once(character)),
        _ => Box::new(character.to_uppercase()),
    }
}

fn is_hyphen(character: char) -> bool {
    matches!(character, '-' | '\u{2010}'..='\u{2015}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_drawn_with_a_capital() {
        for (typed, drawn) in [
            ("  анна-мария ", "Анна-Мария"),
            ("ANNA  maria", "Anna Maria"),
            ("жан-клод ван дамм", "Жан-Клод Ван Дамм"),
            ("дем'ян", "Дем'ян"),
            ("ёлка", "Ёлка"),
            ("ǆevad", "Dževad"),
            ("ნინო", "ნინო"),
            ("李小龙", "李小龙"),
            ("zoe\u{308}", "Zo\u{eb}"),
        ] {
            assert_eq!(display(typed), drawn, "{typed}");
        }
    }

    #[test]
    fn names_that_are_the_same_are_drawn_alike() {
        for (one, other) in [("ANNA", "anna"), ("İlker", "i̇lker"), ("straße", "STRAßE")] {
            assert_eq!(normalise(one), normalise(other));
            assert_eq!(display(one), display(other));
        }
        assert_eq!(normalise(&display("анна-мария")), normalise("анна-мария"));
    }

    #[test]
    fn names_that_people_have_are_accepted() {
        for name in ["Анна-Мария", "Д'Артаньян", " Anna\n", "O’Neil", "李小龙", "محمد", "X Æ A-12", &"я".repeat(100)]
        {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_that_cannot_be_drawn_are_refused_in_words() {
        assert_eq!(check_name(""), Err(NameError::Empty));
        assert_eq!(check_name(" \u{a0}\n"), Err(NameError::Empty));
        assert_eq!(check_name(&"я".repeat(300)), Err(NameError::Long { characters: 300 }));
        for hidden in ['\0', '\n', '\u{1b}', '\u{200b}', '\u{202e}', '\u{2028}', '\u{2067}', '\u{feff}'] {
            let refusal = check_name(&format!("An{hidden}na")).unwrap_err();
            assert_eq!(refusal, NameError::Invisible { character: hidden });
        }
        assert_eq!(
            check_name("A\u{202e}b").unwrap_err().to_string(),
            "a name may not contain the invisible character U+202E"
        );
    }

    #[test]
    fn a_character_that_unfolds_into_many_counts_as_what_is_drawn() {
        assert!(matches!(check_name(&"\u{fdfa}".repeat(10)), Err(NameError::Long { .. })));
    }
}
