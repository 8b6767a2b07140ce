//! What CloudPayments tells us. No API key: the signature over the body says who it is, and is looked at before anything else.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use metrics::counter;
use serde::Serialize;
use tracing::warn;
use utoipa::ToSchema;

use super::AppState;
use super::idempotency::Answer;
use super::input::{Path, Raw};
use super::problem::{Code, Problem};
use super::view::to_json;
use crate::workloads::orders::cloudpayments::{Notice, verify};

const KINDS: [&str; 4] = ["check", "pay", "fail", "refund"];

/// The answer that the provider understands.
#[derive(Serialize, ToSchema)]
#[schema(as = CloudPaymentsAnswer)]
pub(super) struct Coded {
    /// 0 taken, 10 no such order, 11 another account, 12 another amount or currency, 13 not acceptable, 20 too late.
    code: i64,
}

/// A notification of CloudPayments: `check`, `pay`, `fail` or `refund`, as a form or as JSON, signed with the API secret.
///
/// The same again is answered the same again. Whatever is not answered with the code 0 comes again later.
#[utoipa::path(post, path = "/v1/cloudpayments/{kind}", tag = "orders",
    params(("kind" = String, Path), ("Content-HMAC" = Option<String>, Header), ("X-Content-HMAC" = Option<String>, Header)),
    request_body(content((String = "application/x-www-form-urlencoded"), (serde_json::Value = "application/json"))),
    responses((status = 200, body = Coded), (status = 401), (status = 422)))]
pub(super) async fn notify(
    State(state): State<AppState>,
    Path(kind): Path<String>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response, Problem> {
    let known = KINDS.into_iter().find(|known| *known == kind);
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let secret = &state.settings.cloudpayments.api_secret;
    if let Err(reason) = verify(secret, &body, header("content-hmac"), header("x-content-hmac")) {
        let kind = known.unwrap_or("other");
        counter!("onetake_order_notices_total", "kind" => kind, "outcome" => "unsigned").increment(1);
        warn!(kind, %reason, "a notification of a payment was not believed");
        return Err(Problem::new(Code::SignatureInvalid, reason.to_string()));
    }
    let Some(kind) = known else {
        return Err(Problem::new(Code::NotFound, format!("the notifications are {}", KINDS.join(", "))));
    };
    let is_json = header(CONTENT_TYPE.as_str()).is_some_and(|kind| kind.to_ascii_lowercase().contains("json"));
    let notice = Notice::read(&body, is_json).map_err(|wrong| Problem::field(wrong.field, wrong.reason))?;
    let code = match kind {
        "check" => state.workloads.orders.check(&notice).await?,
        "pay" => state.workloads.orders.pay(notice).await?,
        "fail" => state.workloads.orders.fail(notice).await?,
        _ if notice.payment.is_none() => return Err(Problem::missing("PaymentTransactionId")),
        _ => state.workloads.orders.refunded(notice).await?,
    };
    let code = code.number();
    counter!("onetake_order_notices_total", "kind" => kind, "outcome" => code.to_string()).increment(1);
    Ok(Answer::ok(to_json(&Coded { code })).into_response())
}
