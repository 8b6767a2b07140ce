//! The provider's API, as far as refunds need it. Its answers are sorted by what is known after them.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::config;
use crate::delivery::client::{self, describe, read_at_most};
use crate::saga::{Asked, Called};
use crate::workloads::orders::amount_text;

/// Real answers have a few kilobytes.
const ANSWER_BYTES: usize = 256 * 1024;
const REASON_CHARS: usize = 200;

/// A client of one account. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CloudPayments {
    client: reqwest::Client,
    base_url: String,
    public_id: String,
    secret: SecretString,
}

/// What came of one request.
enum Reply {
    /// An answer in the provider's own form.
    Told {
        success: bool,
        message: String,
        model: Value,
    },
    Status(StatusCode),
    /// The request never left.
    NotSent(String),
    Unknown(String),
}

impl CloudPayments {
    /// For how long a request under a known `X-Request-ID` is answered as the first time.
    pub const IDS_KNOWN_FOR: Duration = Duration::from_secs(60 * 60);

    /// # Errors
    /// The HTTP client cannot be built.
    pub fn new(settings: &config::CloudPayments) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: client::builder().timeout(settings.time_limit.0).build()?,
            base_url: settings.base_url.trim_end_matches('/').to_owned(),
            public_id: settings.public_id.clone(),
            secret: settings.api_secret.clone(),
        })
    }

    /// Gives `amount` hundredths of a payment back, under the id of the saga.
    ///
    /// # Cancel safety
    /// None: dropped before its end, it may or may not have been performed.
    pub async fn refund(&self, id: &str, payment: &str, amount: i64) -> Called {
        let Ok(payment) = payment.parse::<u64>() else {
            return Called::Refused { reason: "the payment's number is none".into() };
        };
        // Written by hand, so that the amount is no float on the way.
        let body = format!(r#"{{"TransactionId":{payment},"Amount":{}}}"#, amount_text(amount));
        match self.ask_provider("/payments/refund", id, body).await {
            Reply::Told { success: true, model, .. } => {
                Called::Done { receipt: model["TransactionId"].as_u64().map_or_else(String::new, |id| id.to_string()) }
            }
            Reply::Told { success: false, message, .. } => Called::Refused { reason: message },
            Reply::Status(StatusCode::TOO_MANY_REQUESTS) => Called::NotSent { reason: "too many requests".into() },
            Reply::Status(status) if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => {
                Called::Refused { reason: format!("the provider answered {status}") }
            }
            Reply::Status(status) => Called::Unknown { reason: format!("the provider answered {status}") },
            Reply::NotSent(reason) => Called::NotSent { reason },
            Reply::Unknown(reason) => Called::Unknown { reason },
        }
    }

    /// Looks whether a payment was given back: by the payment itself, else by the last operation of its order.
    pub async fn look_for_refund(&self, id: &str, payment: &str, invoice: &str) -> Asked {
        let Ok(number) = payment.parse::<u64>() else {
            return Asked::Refused { reason: "the payment's number is none".into() };
        };
        // A look has an id of its own each time, or it would be answered as the first time.
        let fresh = || format!("{id}-{}", crate::id::new_token());
        let found = self.ask_provider("/payments/get", &fresh(), format!(r#"{{"TransactionId":{number}}}"#)).await;
        let is_refunded = match found {
            Reply::Told { success: true, ref model, .. } => model["Refunded"].as_bool(),
            Reply::Told { message, .. } => return Asked::CannotTell { reason: message },
            Reply::Status(status) => return Asked::CannotTell { reason: format!("the provider answered {status}") },
            Reply::NotSent(reason) | Reply::Unknown(reason) => return Asked::CannotTell { reason },
        };
        match is_refunded {
            Some(true) => return Asked::Done { receipt: "seen at the payment".into() },
            Some(false) => return Asked::NotDone,
            None => {}
        }
        let body = serde_json::json!({"InvoiceId": invoice}).to_string();
        match self.ask_provider("/v2/payments/find", &fresh(), body).await {
            // The last operation of the order is this payment's refund.
            Reply::Told { success: true, model, .. } if model["OriginalTransactionId"].as_u64() == Some(number) => {
                Asked::Done { receipt: model["TransactionId"].as_u64().map_or_else(String::new, |id| id.to_string()) }
            }
            _ => Asked::CannotTell { reason: "the provider does not say whether the payment was given back".into() },
        }
    }

    async fn ask_provider(&self, path: &str, id: &str, body: String) -> Reply {
        let request = self
            .client
            .post(format!("{}{path}", self.base_url))
            .basic_auth(&self.public_id, Some(self.secret.expose_secret()))
            .header("X-Request-ID", id)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() || error.is_builder() => return Reply::NotSent(describe(error)),
            Err(error) => return Reply::Unknown(describe(error)),
        };
        let status = response.status();
        if !status.is_success() {
            return Reply::Status(status);
        }
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Body {
            success: bool,
            #[serde(default)]
            message: Option<String>,
            #[serde(default)]
            model: Option<Box<RawValue>>,
        }
        let read = read_at_most(response, ANSWER_BYTES).await;
        match read.and_then(|body| serde_json::from_slice::<Body>(&body).ok()) {
            Some(Body { success, message, model }) => Reply::Told {
                success,
                message: message.unwrap_or_else(|| "no reason given".into()).chars().take(REASON_CHARS).collect(),
                model: model.and_then(|model| serde_json::from_str(model.get()).ok()).unwrap_or_default(),
            },
            None => Reply::Unknown("the provider's answer cannot be read".into()),
        }
    }
}
