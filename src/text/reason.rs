//! Why somebody did something that others will ask about.

use serde::{Deserialize, Deserializer, Serialize};

const LONGEST: usize = 500;

/// 1 to 500 characters, without blanks around them. A character that no database keeps as text is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Reason(pub String);

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed.chars().count() > LONGEST || trimmed.contains('\0') {
            return Err(serde::de::Error::custom(format!("a reason has 1 to {LONGEST} characters")));
        }
        Ok(Self(trimmed.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_something_and_fits() {
        let read = |text: &str| serde_json::from_value::<Reason>(serde_json::json!(text)).ok().map(|reason| reason.0);
        assert_eq!(read("  its host is gone\n").as_deref(), Some("its host is gone"));
        assert_eq!(read(&"я".repeat(500)), Some("я".repeat(500)));
        for bad in ["", " \n", "a\0b", &"я".repeat(501)] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
