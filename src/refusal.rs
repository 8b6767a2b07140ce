//! Refusals for end users: an expected "no", with a stable code for programs and a sentence in each language for people.
//!
//! A refusal is an answer, not an error: nothing broke and nothing was changed. Each workload lists its own as constants,
//! so that code and texts stand side by side.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What sort of "no" it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// There is no such thing.
    Unknown,
    /// It is somebody else's.
    Foreign,
    /// It is not in a state for that, or the time for it is over.
    Conflict,
    /// It is asked for in a way that can never be.
    Unfit,
}

/// An expected "no".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A stable word.
    pub code: Cow<'static, str>,
    pub kind: Kind,
    pub message: Message,
}

/// A sentence for people, in each language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub en: Cow<'static, str>,
    pub ru: Cow<'static, str>,
}

/// A language that people are answered in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    #[default]
    English,
    Russian,
}

impl Refusal {
    pub const fn new(code: &'static str, kind: Kind, en: &'static str, ru: &'static str) -> Self {
        let message = Message { en: Cow::Borrowed(en), ru: Cow::Borrowed(ru) };
        Self { code: Cow::Borrowed(code), kind, message }
    }
}

impl Message {
    pub fn in_language(&self, language: Language) -> &str {
        match language {
            Language::English => &self.en,
            Language::Russian => &self.ru,
        }
    }
}

impl Language {
    /// The one that an `Accept-Language` header likes best; English where it likes neither, or both alike.
    pub fn preferred(header: &str) -> Self {
        let liked = |language: &str| {
            let of_ours = |part: &str| {
                let mut words = part.split(';').map(str::trim);
                let tag = words.next().unwrap_or_default();
                let primary = tag.split('-').next().unwrap_or_default();
                let quality = words.find_map(|word| word.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
                (primary.eq_ignore_ascii_case(language) || tag == "*").then_some(quality)
            };
            header.split(',').filter_map(of_ours).fold(0.0, f32::max)
        };
        if liked("ru") > liked("en") { Self::Russian } else { Self::English }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_that_is_liked_best_is_chosen() {
        for russian in ["ru", "ru-RU,ru;q=0.9,en;q=0.8", "de, RU;q=0.5", "en;q=0.2, ru;q=0.3"] {
            assert_eq!(Language::preferred(russian), Language::Russian, "{russian}");
        }
        for english in ["", "en", "en-GB,ru;q=0.9", "*", "de", "ru;q=0", "rude", "ru;q=0.5, en;q=0.5", ";;,=,q"] {
            assert_eq!(Language::preferred(english), Language::English, "{english}");
        }
    }

    #[test]
    fn a_stored_refusal_is_read_as_it_was() {
        let refusal = Refusal::new("taken", Kind::Conflict, "It is taken.", "Уже занято.");
        let text = serde_json::to_string(&refusal).unwrap();
        assert_eq!(serde_json::from_str::<Refusal>(&text).unwrap(), refusal);
    }
}
