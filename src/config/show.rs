//! What is in force and where it came from, fit to be pasted into a bug report: secrets are masked.

use serde_json::Value;
use url::Url;

use super::load::Loaded;

/// Values that are secret as a whole.
const SECRETS: [&str; 4] = ["http.admin_key", "telegram.bot_token", "webhook.secret", "cloudpayments.api_secret"];

/// What a query parameter of an address must not be called to be shown.
const SECRET_PARAMETERS: [&str; 4] = ["token", "key", "secret", "password"];

const MASK: &str = "***";

/// One value, masked.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Row {
    pub key: String,
    pub value: Value,
    /// "default", "onetake.toml:12", "environment variable REDIS_URL" or "flag --bind".
    pub origin: String,
}

impl Loaded {
    /// Every value in force, by key.
    pub fn rows(&self) -> Vec<Row> {
        let row = |(key, entry): (&String, &super::Entry)| Row {
            key: key.clone(),
            value: masked(key, &entry.value),
            origin: entry.origin.to_string(),
        };
        self.origins.iter().map(row).collect()
    }
}

pub(super) fn is_secret(key: &str) -> bool {
    SECRETS.contains(&key)
}

/// `value` without what nobody else may see: keys and tokens, and passwords inside addresses.
pub fn masked(key: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if is_secret(key) && !text.is_empty() => MASK.into(),
        Value::String(text) => masked_address(text).into(),
        Value::Array(items) => items.iter().map(|item| masked(key, item)).collect(),
        other => other.clone(),
    }
}

fn masked_address(text: &str) -> String {
    if !text.contains("://") {
        return text.to_owned();
    }
    let Ok(mut url) = Url::parse(text) else { return masked_by_hand(text) };
    let mut touched = false;
    if url.password().is_some() {
        touched |= url.set_password(Some(MASK)).is_ok();
    } else if !url.username().is_empty() && url.scheme().starts_with("http") {
        // A name without a password is a token by custom.
        touched |= url.set_username(MASK).is_ok();
    }
    let is_secret = |name: &str| SECRET_PARAMETERS.iter().any(|part| name.to_lowercase().contains(part));
    if url.query_pairs().any(|(name, _)| is_secret(&name)) {
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let shown = pairs.iter().map(|(name, value)| (name, if is_secret(name) { MASK } else { value }));
        url.query_pairs_mut().clear().extend_pairs(shown);
        touched = true;
    }
    // An address without secrets is shown as it was written.
    if touched { url.to_string() } else { text.to_owned() }
}

/// Something like an address that no parser takes may still hold a password.
fn masked_by_hand(text: &str) -> String {
    match (text.split_once("://"), text.rfind('@')) {
        (Some((scheme, _)), Some(at)) if at > scheme.len() => format!("{scheme}://{MASK}{}", &text[at..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn shown(key: &str, text: &str) -> Value {
        masked(key, &json!(text))
    }

    #[test]
    fn keys_and_tokens_are_masked_whole_and_an_empty_one_is_seen_to_be_empty() {
        assert_eq!(shown("telegram.bot_token", "123:abc"), MASK);
        assert_eq!(shown("http.admin_key", "0123456789abcdef"), MASK);
        assert_eq!(shown("webhook.secret", ""), "");
    }

    #[test]
    fn every_secret_of_the_settings_is_known_here() {
        // Addresses are shown without their passwords.
        let shown_in_part = ["store.url", "redis.url"];
        let (mut table, mut tables, mut secrets) = ("", BTreeMap::new(), Vec::new());
        for line in include_str!("settings.rs").lines() {
            if let Some(name) = line.strip_prefix("pub struct ") {
                table = name.trim_end_matches(" {");
            } else if let Some((name, kind)) = line.trim().strip_prefix("pub ").and_then(|field| field.split_once(": "))
            {
                if table == "Settings" {
                    tables.insert(kind.trim_end_matches(','), name);
                } else if kind.contains("SecretString") {
                    secrets.push(format!("{}.{name}", tables[table]));
                }
            }
        }
        assert_eq!(secrets.len(), SECRETS.len() + shown_in_part.len(), "{secrets:?}");
        for key in secrets.iter().filter(|key| !shown_in_part.contains(&key.as_str())) {
            assert!(is_secret(key), "{key} would be printed");
        }
    }

    #[test]
    fn passwords_inside_addresses_are_masked_and_the_rest_stays() {
        assert_eq!(shown("redis.url", "redis://:hunter2@db:6379/1"), "redis://:***@db:6379/1");
        assert_eq!(shown("store.url", "postgres://ann:hunter2@db/one"), "postgres://ann:***@db/one");
        assert_eq!(shown("store.url", "postgres://ann:hun/ter@db:x/one"), "postgres://***@db:x/one");
        let query = shown("store.url", "postgres://db/one?user=ann&password=hunter2");
        assert_eq!(query, "postgres://db/one?user=ann&password=***");
        assert_eq!(shown("queues.a.processor.url", "https://t0ken@host/x"), "https://***@host/x");
    }

    #[test]
    fn an_address_without_secrets_is_shown_as_written() {
        for text in ["sqlite://data/onetake.db", "https://API.telegram.org", "redis-cluster://a:1", "50:50"] {
            assert_eq!(shown("store.url", text), text);
        }
    }
}
