//! A CloudPayments that does what a test tells it to.
//!
//! It keeps a ledger of the payments that it took and gave back, answers refunds by a script, and tells the server under
//! test of what happened, signed. Like the real one it answers a request under an `X-Request-ID` that it knows as the first
//! time; how often it was asked so is counted, because a careful client does not rely on it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::form_urlencoded;

use super::server::Setup;
use super::telegram::{Cut, Lines};

pub const PUBLIC_ID: &str = "pk_test";
pub const SECRET: &str = "a-secret-of-tests";

/// What happens to one request for a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refund {
    Ok,
    Refused,
    /// 500, and nothing was done.
    ErrorBefore,
    /// It is done, and the answer is a 500.
    ErrorAfter,
    /// Nothing is done, and nothing answered.
    HangBefore,
    /// It is done, and nothing answered.
    HangAfter,
    /// It is done, and the connection is reset.
    ResetAfter,
    ResetBefore,
}

/// What is known of one payment.
#[derive(Clone, Debug)]
pub struct Paid {
    pub order: String,
    pub amount: i64,
    pub returned: i64,
    /// Refunds that were performed; more than one means that money was given away.
    pub refunds: u32,
}

#[derive(Default)]
struct Book {
    payments: BTreeMap<u64, Paid>,
    script: VecDeque<Refund>,
    /// Answers by `X-Request-ID`.
    known: BTreeMap<String, Value>,
    /// Requests for refunds under an id that had been performed before.
    repeated: u32,
    /// Requests for refunds in all.
    refund_calls: u32,
    /// Questions cannot be answered while this is set.
    is_silent: bool,
}

/// Runs until it is dropped.
pub struct FakeCloudPayments {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    server: JoinHandle<()>,
    next: AtomicU64,
    client: reqwest::Client,
}

impl FakeCloudPayments {
    pub async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let book = Arc::<Mutex<Book>>::default();
        let router = Router::new()
            .route("/payments/refund", post(refund))
            .route("/payments/get", post(get))
            .with_state(book.clone())
            .into_make_service_with_connect_info::<Cut>();
        let server = tokio::spawn(async move {
            let _ = axum::serve(Lines(listener), router).await;
        });
        let client = reqwest::Client::builder().no_proxy().build().expect("TLS has a provider");
        Self { address, book, server, next: AtomicU64::new(1000), client }
    }

    /// Settings of a server whose provider this is.
    pub fn setup(&self, setup: Setup) -> Setup {
        setup
            .env("ONETAKE_CLOUDPAYMENTS__PUBLIC_ID", PUBLIC_ID)
            .env("ONETAKE_CLOUDPAYMENTS__API_SECRET", SECRET)
            .env("ONETAKE_CLOUDPAYMENTS__BASE_URL", format!("http://{}", self.address))
            .env("ONETAKE_CLOUDPAYMENTS__TIME_LIMIT", "400ms")
            .env("ONETAKE_SAGA__TIME_LIMIT", "1s")
            .env("ONETAKE_SAGA__LEASE", "2500ms")
            .env("ONETAKE_SAGA__INTERVAL", "100ms")
            .env("ONETAKE_SAGA__BACKOFF", r#"{kind="fixed", delay="100ms"}"#)
            .env("ONETAKE_SAGA__ASK_BACKOFF", r#"{kind="fixed", delay="100ms"}"#)
            .env("ONETAKE_ORDERS__EXPIRE_EVERY", "100ms")
            .env("ONETAKE_ORDERS__EXPIRE_GRACE", "0s")
    }

    /// The next requests for refunds go so; the ones after them well.
    pub fn script(&self, refunds: impl IntoIterator<Item = Refund>) {
        self.book().script.extend(refunds);
    }

    /// Whether it says what became of payments.
    pub fn be_silent(&self, is_silent: bool) {
        self.book().is_silent = is_silent;
    }

    pub fn payment(&self, transaction: u64) -> Paid {
        self.book().payments[&transaction].clone()
    }

    pub fn payments(&self) -> Vec<Paid> {
        self.book().payments.values().cloned().collect()
    }

    /// Requests for refunds, and those of them that asked again for what had been performed.
    pub fn refund_calls(&self) -> (u32, u32) {
        let book = self.book();
        (book.refund_calls, book.repeated)
    }

    /// Somebody pays `amount` hundredths for an order: the number of the payment. Nobody is told yet.
    pub fn take(&self, order: &str, amount: i64) -> u64 {
        let transaction = self.next.fetch_add(1, Ordering::SeqCst);
        let paid = Paid { order: order.to_owned(), amount, returned: 0, refunds: 0 };
        self.book().payments.insert(transaction, paid);
        transaction
    }

    /// Somebody gives a payment back in the provider's own pages: the number of the refund.
    pub fn give_back(&self, transaction: u64, amount: i64) -> u64 {
        let mut book = self.book();
        let paid = book.payments.get_mut(&transaction).expect("it was taken");
        paid.returned += amount;
        paid.refunds += 1;
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// What a pay, check or fail notification says of a payment.
    pub fn form_of(&self, transaction: u64, user: &str) -> Vec<(String, String)> {
        let paid = self.payment(transaction);
        form(&[
            ("TransactionId", &transaction.to_string()),
            ("Amount", &text(paid.amount)),
            ("Currency", "RUB"),
            ("InvoiceId", &paid.order),
            ("AccountId", user),
            ("Status", "Completed"),
            ("TestMode", "0"),
            ("Description", "Видео & открытка 100%"),
        ])
    }

    /// Tells a server, signed over the body as it is sent. The status, and the code of the answer.
    pub async fn tell(&self, server: &str, kind: &str, form: &[(String, String)]) -> (u16, Option<i64>) {
        self.try_tell(server, kind, form).await.expect("the server answers")
    }

    /// As [`FakeCloudPayments::tell`], for servers that die meanwhile.
    pub async fn try_tell(
        &self,
        server: &str,
        kind: &str,
        form: &[(String, String)],
    ) -> reqwest::Result<(u16, Option<i64>)> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let signature = sign(body.as_bytes());
        let headers = [("content-hmac", signature.as_str())];
        self.send(server, kind, "application/x-www-form-urlencoded", &headers, body).await
    }

    /// Any notification.
    pub async fn send(
        &self,
        server: &str,
        kind: &str,
        content_type: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> reqwest::Result<(u16, Option<i64>)> {
        let mut request = self.client.post(format!("{server}/v1/cloudpayments/{kind}"));
        request = request.header(header::CONTENT_TYPE, content_type);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body).send().await?;
        let status = response.status().as_u16();
        let answer: Value = serde_json::from_str(&response.text().await?).unwrap_or_default();
        Ok((status, answer["code"].as_i64()))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no test panics while it holds this")
    }
}

impl Drop for FakeCloudPayments {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Base64 of the HMAC-SHA256 with the account's secret.
pub fn sign(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    mac.update(body);
    STANDARD.encode(mac.finalize().into_bytes())
}

pub fn form(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The same form with another value of one field.
pub fn with(form: &[(String, String)], field: &str, value: &str) -> Vec<(String, String)> {
    let changed =
        |(name, old): &(String, String)| (name.clone(), if name == field { value.to_owned() } else { old.clone() });
    form.iter().map(changed).collect()
}

fn text(amount: i64) -> String {
    format!("{}.{:02}", amount / 100, amount % 100)
}

fn is_ours(headers: &HeaderMap) -> bool {
    let expected = format!("Basic {}", STANDARD.encode(format!("{PUBLIC_ID}:{SECRET}")));
    headers.get(header::AUTHORIZATION).is_some_and(|value| value.as_bytes() == expected.as_bytes())
}

async fn refund(
    State(book): State<Arc<Mutex<Book>>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    if !is_ours(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let id = headers.get("x-request-id").map(|value| value.to_str().unwrap_or_default().to_owned());
    let id = id.expect("each refund has an id of its own");
    let (mode, answer) = {
        let mut book = book.lock().expect("no test panics while it holds this");
        book.refund_calls += 1;
        let mode = book.script.pop_front().unwrap_or(Refund::Ok);
        let is_performed = matches!(mode, Refund::Ok | Refund::ErrorAfter | Refund::HangAfter | Refund::ResetAfter);
        let answer = match (book.known.get(&id).cloned(), is_performed) {
            (Some(known), _) => {
                book.repeated += 1;
                known
            }
            (None, true) => {
                let answer = book.perform(&body);
                book.known.insert(id, answer.clone());
                answer
            }
            (None, false) => json!({"Success": false, "Message": "Refund is not possible"}),
        };
        (mode, answer)
    };
    match mode {
        Refund::Ok | Refund::Refused => Json(answer).into_response(),
        Refund::ErrorBefore | Refund::ErrorAfter => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Refund::HangBefore | Refund::HangAfter => std::future::pending().await,
        Refund::ResetBefore | Refund::ResetAfter => {
            cut.0.store(true, Ordering::SeqCst);
            ().into_response()
        }
    }
}

impl Book {
    fn perform(&mut self, body: &Value) -> Value {
        let hundredths = (body["Amount"].as_f64().expect("an amount") * 100.0).round() as i64;
        let number = 900_000 + u64::from(self.refund_calls);
        let Some(paid) = body["TransactionId"].as_u64().and_then(|number| self.payments.get_mut(&number)) else {
            return json!({"Success": false, "Message": "Transaction not found"});
        };
        if paid.returned + hundredths > paid.amount {
            return json!({"Success": false, "Message": "Amount is too large"});
        }
        paid.returned += hundredths;
        paid.refunds += 1;
        json!({"Success": true, "Message": null, "Model": {"TransactionId": number}})
    }
}

async fn get(State(book): State<Arc<Mutex<Book>>>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if !is_ours(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let book = book.lock().expect("no test panics while it holds this");
    if book.is_silent {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let Some(paid) = body["TransactionId"].as_u64().and_then(|number| book.payments.get(&number)) else {
        return Json(json!({"Success": false, "Message": "Not found"})).into_response();
    };
    let model = json!({"TransactionId": body["TransactionId"], "InvoiceId": paid.order, "Status": "Completed",
        "Refunded": paid.returned == paid.amount});
    Json(json!({"Success": true, "Message": null, "Model": model})).into_response()
}
