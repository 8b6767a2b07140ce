//! Webhooks by the Standard Webhooks rules: signed, each repetition under one id, and never into our own network.
//!
//! An ambiguous answer is simply sent again: receivers leave out what they have seen, by `webhook-id`. When to send
//! again, by the schedule in the configuration, is the caller's business.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use url::{Host, Url};

use super::Outcome;
use super::address::{NotPublic, PublicOnly, is_public};
use super::client::{self, describe, retry_after};
use super::signature::{Message, Secret, sign};
use crate::config;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

const LONGEST_URL: usize = 2048;

/// The webhook client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Webhook {
    client: reqwest::Client,
    secrets: Arc<[Secret]>,
    allow_private: bool,
}

/// Why there is no webhook client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("webhook.secret: {0}")]
    Secret(#[from] config::SecretError),
    #[error("the HTTP client for webhooks cannot be built")]
    Client(#[from] reqwest::Error),
}

/// Why nothing is sent to an address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UrlError {
    #[error("webhook.secret is not set, and an unsigned webhook is not sent")]
    NoSecret,
    #[error("a webhook address has at most {LONGEST_URL} characters")]
    Long,
    #[error("this is not an address: {0}")]
    Unreadable(#[from] url::ParseError),
    #[error("a webhook address starts with https:// or http://")]
    Scheme,
    #[error("a webhook address holds no user or password")]
    Credentials,
    #[error("a webhook address must be public; webhook.allow_private lifts this")]
    Private,
}

impl Webhook {
    /// `time_limit` is for one sending, from connection to answer. Proxies of the environment are not used: behind one,
    /// nobody here could see which address a name leads to.
    ///
    /// # Errors
    /// A secret that is none; without any, this client refuses every address.
    pub fn new(settings: &config::Webhook, time_limit: Duration) -> Result<Self, Error> {
        let secrets =
            settings.secret.expose_secret().split_whitespace().map(Secret::parse).collect::<Result<_, _>>()?;
        let mut builder = client::builder().timeout(time_limit).no_proxy();
        if !settings.allow_private {
            builder = builder.dns_resolver(Arc::new(PublicOnly));
        }
        Ok(Self { client: builder.build()?, secrets, allow_private: settings.allow_private })
    }

    /// Whether messages may be sent to `text`, as far as the address itself tells; what its name resolves to is checked
    /// at each sending.
    ///
    /// # Errors
    /// Why not.
    pub fn check_url(&self, text: &str) -> Result<Url, UrlError> {
        if self.secrets.is_empty() {
            return Err(UrlError::NoSecret);
        }
        if text.len() > LONGEST_URL {
            return Err(UrlError::Long);
        }
        let url = Url::parse(text)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::Credentials);
        }
        if !self.allow_private && !may_be_public(&url) {
            return Err(UrlError::Private);
        }
        Ok(url)
    }

    /// Sends `message` once. Nothing but the status of the answer is read.
    pub async fn send(&self, url: &str, message: Message<'_>) -> Outcome {
        // Checked again: the address was stored, and the configuration may have changed since.
        let url = match self.check_url(url) {
            Ok(url) => url,
            Err(error) => return Outcome::Rejected { reason: error.to_string() },
        };
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(ID, message.id)
            .header(TIMESTAMP, message.timestamp_s)
            .header(SIGNATURE, self.signatures(message))
            .body(message.body.to_owned());
        match request.send().await {
            Ok(response) => judge(response.status(), retry_after(response.headers(), message.timestamp_s)),
            Err(error) if error.is_builder() || NotPublic::caused(&error) => {
                Outcome::Rejected { reason: describe(error) }
            }
            Err(error) => Outcome::Retry { after: None, reason: describe(error) },
        }
    }

    /// One signature for each secret, so that receivers may know the old or the new one while secrets are changed.
    fn signatures(&self, message: Message<'_>) -> String {
        let signatures: Vec<_> = self.secrets.iter().map(|secret| sign(secret, message)).collect();
        signatures.join(" ")
    }
}

/// False for what is inside without asking a resolver. The url crate has turned odd spellings (`0x7f.1`, `2130706433`)
/// into addresses already.
fn may_be_public(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => is_public(ip.into()),
        Some(Host::Ipv6(ip)) => is_public(ip.into()),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name != "localhost" && !name.ends_with(".localhost")
        }
        None => false,
    }
}

fn judge(status: StatusCode, after: Option<Duration>) -> Outcome {
    let reason = format!("the endpoint answered {status}");
    match status {
        status if status.is_success() => Outcome::Delivered { receipt: status.as_u16().to_string() },
        StatusCode::GONE => Outcome::Suppressed { reason },
        _ => Outcome::Retry { after, reason },
    }
}

#[cfg(test)]
mod tests;
