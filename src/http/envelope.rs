//! The outermost layer: request ids, spans, metrics, panics, and the writing of problem documents.
//!
//! One layer instead of one for each, because every answer passes through it.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ACCEPT_LANGUAGE, HeaderMap, HeaderName, X_FRAME_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use metrics::{Histogram, histogram};
use tracing::{Instrument, debug_span, error, warn};

use super::AppState;
use super::problem::{Code, Problem};
use crate::id;
use crate::refusal::Language;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const LONGEST_REQUEST_ID: usize = 128;
/// How long an answer may take beyond the longest wait that a caller may ask for. The events of a stream come after its
/// answer has begun, so that they are not bounded by this.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The histograms of this server's routes, so that a request does not look its own up by label.
#[derive(Clone, Default)]
pub struct Timings(Arc<RwLock<HashMap<String, [Option<Histogram>; 6]>>>);

pub(super) async fn envelop(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let request_id = request_id(request.headers());
    let language = language(request.headers());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("none", MatchedPath::as_str);
    // The route, not the path: paths name users and keys.
    let span = debug_span!("http.request", method = %request.method(), route, request.id = ?request_id);
    let longest = state.settings.http.max_wait.0 + ANSWER_WITHIN;
    let answer = AssertUnwindSafe(tokio::time::timeout(longest, next.run(request))).catch_unwind();
    let mut response = match answer.instrument(span).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            warn!(route, "an answer took too long");
            Problem::new(Code::StoreUnavailable, "the answer took too long; try again").into_response()
        }
        // The panic's message is in the log already, by the panic hook.
        Err(_) => Problem::new(Code::Internal, "the log has more, under this request's id").into_response(),
    };
    if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
        let text = request_id.to_str().unwrap_or_default();
        log(&problem, route, text);
        problem.write(&mut response, text, language);
    }
    response.headers_mut().insert(REQUEST_ID.clone(), request_id);
    // A page of somebody else's must not have ours clicked on: what is sent from /docs counts as our own.
    response.headers_mut().insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    state.timings.record(route, response.status(), started.elapsed());
    response
}

fn log(problem: &Problem, route: &str, request_id: &str) {
    let causes = problem.causes();
    let (code, cause) = (problem.code.as_str(), causes.as_deref().unwrap_or("none told"));
    match problem.code {
        Code::Internal => error!(request.id = request_id, route, cause, "a request failed"),
        Code::StoreUnavailable | Code::RedisUnavailable => {
            warn!(request.id = request_id, route, code, cause, "a request was put off");
        }
        _ => {}
    }
}

fn language(headers: &HeaderMap) -> Language {
    let header = headers.get(&ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    header.map(Language::preferred).unwrap_or_default()
}

/// The caller's, if it is fit for a log line; else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_fit = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        let is_plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        (1..=LONGEST_REQUEST_ID).contains(&bytes.len()) && bytes.iter().all(is_plain)
    };
    match headers.get(&REQUEST_ID).filter(is_fit) {
        Some(value) => value.clone(),
        None => HeaderValue::try_from(id::new_id()).expect("hexadecimal digits are a header value"),
    }
}

impl Timings {
    fn record(&self, route: &str, status: StatusCode, took: Duration) {
        const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];
        let class = usize::from(status.as_u16() / 100).min(5);
        let seconds = took.as_secs_f64();
        if let Some(known) = self.0.read().expect("no user panics inside").get(route)
            && let Some(histogram) = &known[class]
        {
            histogram.record(seconds);
            return;
        }
        let histogram =
            histogram!("onetake_http_request_seconds", "route" => route.to_owned(), "status" => CLASSES[class]);
        histogram.record(seconds);
        let mut routes = self.0.write().expect("no user panics inside");
        routes.entry(route.to_owned()).or_default()[class] = Some(histogram);
    }
}

pub(super) async fn not_found() -> Problem {
    Problem::new(Code::NotFound, "there is nothing at this address; /docs lists what there is")
}

pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(Code::MethodNotAllowed, "the Allow header lists the methods of this address")
}
