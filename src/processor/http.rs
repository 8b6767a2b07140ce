//! An HTTP endpoint as a processor: the job is POSTed to it, its answer decides.
//!
//! The body is `{"id", "queue", "name", "data"}`, in a later step of a job with children also `"children"` as `command` has
//! it. The attempt's number stands in the header `onetake-attempt` alone: a
//! repeated attempt sends the same body under the same `idempotency-key`, as endpoints that honour the key require. A
//! further step of a job has a key of its own, and its number stands in the header `onetake-step`. A job that belongs to a
//! trace is sent with its `traceparent` and `tracestate`.
//!
//! 2xx                         done; the body is the result as JSON, and none at all is `null`
//! 2xx with the content type `application/vnd.onetake.next+json`: not done yet; the body says what is next, see `next`
//! 429, 503 with `Retry-After` not now: again after that time, without counting as an attempt
//! 429 without it, 5xx         the attempt failed and may be repeated; so do timeouts and broken connections
//! everything else             the job fails for good

use std::borrow::Cow;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::tail::Tail;
use super::{Children, Failure, Processor, Progress, ReturnValue, Unfinished, Work, program};
use crate::clock::Clock;

/// The type of an answer that says what is next instead of being a result.
const NEXT: &str = "application/vnd.onetake.next+json";

/// The longest answer, in bytes.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// The bounds of a `Retry-After`: 0 must not become a busy loop, nor a far date a job that nobody sees again.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(24 * 60 * 60);

/// POSTs each job to one address.
#[derive(Clone, Debug)]
pub struct HttpEndpoint {
    client: Client,
    url: Url,
    time_limit: Duration,
    clock: Clock,
}

/// The job, as the endpoint reads it.
#[derive(Serialize)]
struct Posted<'a> {
    id: &'a str,
    queue: &'a str,
    name: &'a str,
    data: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    children: Option<&'a Children>,
}

impl HttpEndpoint {
    /// `time_limit` is for the whole exchange, from the connection to the last byte of the answer.
    ///
    /// # Errors
    /// `url` is not an http(s) address.
    pub fn new(client: Client, url: &str, time_limit: Duration, clock: Clock) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| format!("\"{url}\" is not an address: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("\"{url}\" is not an http or https address"));
        }
        Ok(Self { client, url, time_limit, clock })
    }

    async fn exchange(&self, work: &Work) -> Result<ReturnValue, Failure> {
        let Work { id, queue, name, data, children, .. } = work;
        let posted = Posted { id, queue, name, data, children: children.as_ref() };
        let mut key = format!("{}:{}", work.queue, work.id);
        let mut post = self
            .client
            .post(self.url.clone())
            .header("onetake-job-id", header(&work.id))
            .header("onetake-attempt", work.attempt);
        if work.step > 0 {
            // Under the same key, an endpoint would answer again that it is not done.
            key = format!("{key}:{}", work.step);
            post = post.header("onetake-step", work.step);
        }
        if let Some(trace) = &work.trace {
            post = post.header("traceparent", header(trace.parent()));
            post = trace.state().into_iter().fold(post, |post, state| post.header("tracestate", state));
        }
        let sent = post.header("idempotency-key", header(&key)).json(&posted).send().await;
        let answer = sent.map_err(|error| Failure::retry(format!("no answer: {}", causes(&error))))?;
        if answer.status().is_success() { result(answer).await } else { Err(self.refusal(answer).await) }
    }

    async fn refusal(&self, answer: Response) -> Failure {
        let status = answer.status();
        let later = retry_after(answer.headers(), &self.clock);
        let reason = format!("answered {status}{}", program::with(&end_of(answer).await));
        match (status, later) {
            (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(delay)) => {
                Failure::Later { delay, reason }
            }
            (StatusCode::TOO_MANY_REQUESTS, None) => Failure::retry(reason),
            _ if status.is_server_error() => Failure::retry(reason),
            _ => Failure::fatal(reason),
        }
    }
}

#[async_trait]
impl Processor for HttpEndpoint {
    async fn process(&self, work: Work, _progress: Progress) -> Result<ReturnValue, Failure> {
        match timeout(self.time_limit, self.exchange(&work)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::retry(format!("no whole answer within {:?}", self.time_limit))),
        }
    }
}

async fn result(mut answer: Response) -> Result<ReturnValue, Failure> {
    let status = answer.status();
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("no type").to_owned();
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => return Err(Failure::retry(format!("the answer broke off: {}", causes(&error)))),
        }
        if body.len() > MAX_BODY {
            return Err(Failure::fatal(format!("answered {status} with more than {MAX_BODY} bytes")));
        }
    }
    if kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(NEXT)) {
        return Err(match Unfinished::parse(&body) {
            Ok(unfinished) => Failure::Unfinished(unfinished),
            Err(error) => {
                Failure::retry(format!("answered {status}, but the body does not say what is next ({error})"))
            }
        });
    }
    if body.trim_ascii().is_empty() {
        return Ok(ReturnValue::null());
    }
    ReturnValue::read(&body).map_err(|error| {
        let said = program::with(&program::tail_of(&body));
        Failure::retry(format!("answered {status} with a body that is not JSON ({kind}, {error}){said}"))
    })
}

/// The end of a refusal's body, as far as it comes.
async fn end_of(mut answer: Response) -> String {
    let (mut tail, mut length) = (Tail::default(), 0);
    while let Ok(Some(chunk)) = answer.chunk().await {
        tail.push(&chunk);
        length += chunk.len();
        if length > MAX_BODY {
            break;
        }
    }
    tail.text()
}

/// The wait that `Retry-After` asks for: seconds, or a date of HTTP.
fn retry_after(headers: &HeaderMap, clock: &Clock) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(text).ok()?;
            let wait_ms = date.timestamp().as_millisecond().saturating_sub(clock.now_ms());
            Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0))
        }
    };
    Some(wait.clamp(SOONEST, LATEST))
}

/// A job's id may be any text, a header's value may not.
fn header(text: &str) -> HeaderValue {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    let plain =
        if is_plain { Cow::from(text) } else { url::form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    HeaderValue::from_str(&plain).expect("only visible ASCII is left")
}

/// An error with its causes in one line: reqwest tells the first only, and the last is what helps.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use axum::http::HeaderMap as Headers;
    use axum::response::IntoResponse;
    use axum::routing::post;
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    use super::*;
    use crate::processor::{Child, Next, Trace};

    const AMPLE: Duration = Duration::from_secs(30);

    fn client() -> Client {
        // The second test in one process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::new()
    }

    fn work() -> Work {
        Work {
            id: "Задача 1".into(),
            identity: "1@1".into(),
            queue: "mail".into(),
            name: "greet".into(),
            data: serde_json::value::to_raw_value(&json!({"n": 1})).unwrap(),
            attempt: 2,
            step: 0,
            children: None,
            trace: None,
            scratch: "/nonexistent".into(),
        }
    }

    /// A server of the test's own; it ends with the test's runtime.
    async fn serve(router: Router) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}/")
    }

    async fn process(url: &str, time_limit: Duration) -> Result<Value, Failure> {
        let endpoint = HttpEndpoint::new(client(), url, time_limit, Clock::manual(784_111_777_000)).unwrap();
        endpoint.process(work(), Arc::new(|_| {})).await.map(|returned| returned.to_value())
    }

    async fn answered<A: IntoResponse + Clone + Send + Sync + 'static>(answer: A) -> Result<Value, Failure> {
        let url = serve(Router::new().route("/", post(async move || answer))).await;
        process(&url, AMPLE).await
    }

    #[tokio::test]
    async fn the_job_is_posted_and_the_answer_is_its_result() {
        let echo = async |headers: Headers, body: axum::Json<Value>| {
            let text = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            axum::Json(json!({
                "headers": [text("onetake-job-id"), text("onetake-attempt"), text("idempotency-key")],
                "body": body.0,
            }))
        };
        let url = serve(Router::new().route("/", post(echo))).await;
        let seen = process(&url, AMPLE).await.unwrap();
        assert_eq!(seen["body"], json!({"id": "Задача 1", "queue": "mail", "name": "greet", "data": {"n": 1}}));
        let encoded = "%D0%97%D0%B0%D0%B4%D0%B0%D1%87%D0%B0+1";
        assert_eq!(
            seen["headers"],
            json!([encoded, "2", format!("mail%3A{encoded}")]),
            "the key is the same on each attempt"
        );
    }

    /// As a JavaScript program writes them: digits that a reader would round, half of a character, deep nesting.
    #[tokio::test]
    async fn a_result_is_kept_to_the_letter() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let answer = format!(
            r#"{{"zebra":9.570381778160241,"apple":[-0,1e999,9007199254740993],"cut":"\ud83d","deep":{deep}}}"#
        );
        let sent = answer.clone();
        let url = serve(Router::new().route("/", post(async move || sent))).await;
        let endpoint = HttpEndpoint::new(client(), &url, AMPLE, Clock::system()).unwrap();
        assert_eq!(endpoint.process(work(), Arc::new(|_| {})).await.unwrap().get(), answer);
    }

    #[tokio::test]
    async fn a_further_step_has_a_key_of_its_own_and_the_trace_goes_along() {
        let echo = async |headers: Headers| {
            let text = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            axum::Json(json!([text("onetake-step"), text("traceparent"), text("tracestate"), text("idempotency-key")]))
        };
        let url = serve(Router::new().route("/", post(echo))).await;
        let endpoint = HttpEndpoint::new(client(), &url, AMPLE, Clock::system()).unwrap();
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = Trace::parse(parent, Some("vendor=1"));
        let work = Work { id: "7".into(), step: 2, trace, ..work() };
        let seen = endpoint.process(work, Arc::new(|_| {})).await.unwrap().to_value();
        assert_eq!(seen, json!(["2", parent, "vendor=1", "mail:7:2"]));
    }

    #[tokio::test]
    async fn a_later_step_of_a_parent_is_told_what_its_children_left() {
        let url = serve(Router::new().route("/", post(async |body: axum::Json<Value>| body))).await;
        let endpoint = HttpEndpoint::new(client(), &url, AMPLE, Clock::system()).unwrap();
        let raw = |text: &str| RawValue::from_string(text.to_owned()).ok();
        let told = Children::Told(vec![
            Child { key: "bull:a:1".into(), kind: "processed", result: raw("[1]"), failed_reason: None },
            Child { key: "bull:a:2".into(), kind: "ignored", result: None, failed_reason: Some("no".into()) },
        ]);
        for (children, seen) in [
            (
                Some(told),
                json!([
                    {"key": "bull:a:1", "kind": "processed", "result": [1]},
                    {"key": "bull:a:2", "kind": "ignored", "failed_reason": "no"},
                ]),
            ),
            (Some(Children::TooMuch), Value::Null),
        ] {
            let work = Work { step: 1, children, ..work() };
            let body = endpoint.process(work, Arc::new(|_| {})).await.unwrap().to_value();
            assert_eq!(body.get("children"), Some(&seen));
        }
    }

    #[tokio::test]
    async fn an_endpoint_may_say_that_it_has_more_to_do() {
        let next = |body: &'static str| answered(([("content-type", "Application/vnd.onetake.next+JSON; x=y")], body));
        let said = Unfinished { next: Next::Limit(Duration::from_millis(70)), data: None, add: None };
        assert_eq!(next(r#"{"next":"limit","ms":70}"#).await, Err(Failure::Unfinished(said)));
        assert!(matches!(next("").await, Err(Failure::Retry { .. })));
        let plain = answered(([("content-type", "application/json")], r#"{"next":"wait"}"#)).await;
        assert_eq!(plain, Ok(json!({"next": "wait"})), "a result may look as it wants");
    }

    #[tokio::test]
    async fn success_needs_json_or_nothing() {
        assert_eq!(answered((StatusCode::CREATED, "[1]")).await, Ok(json!([1])));
        assert_eq!(answered(StatusCode::NO_CONTENT).await, Ok(Value::Null));
        let failure = answered("<html>It works!</html>").await.unwrap_err();
        assert!(matches!(failure, Failure::Retry { .. }), "{failure:?}");
        assert!(failure.reason().contains("text/plain") && failure.reason().ends_with("<html>It works!</html>"));
    }

    #[tokio::test]
    async fn retry_after_delays_without_counting() {
        for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
            for (header, seconds) in [("7", 7), ("0", 1), ("99999999", 86_400), ("Sun, 06 Nov 1994 08:49:47 GMT", 10)] {
                let failure = answered((status, [("retry-after", header)], "busy")).await.unwrap_err();
                let reason = format!("answered {status}: busy");
                assert_eq!(failure, Failure::Later { delay: Duration::from_secs(seconds), reason }, "{header}");
            }
        }
    }

    #[tokio::test]
    async fn refusals_are_final_and_breakdowns_are_not() {
        for status in [400, 401, 404, 408, 410, 422, 304] {
            let status = StatusCode::from_u16(status).unwrap();
            let failure = answered(status).await.unwrap_err();
            assert_eq!(failure, Failure::fatal(format!("answered {status}")));
        }
        for status in [429, 500, 502, 503, 504] {
            let status = StatusCode::from_u16(status).unwrap();
            let failure = answered((status, "oops")).await.unwrap_err();
            assert_eq!(failure, Failure::retry(format!("answered {status}: oops")));
        }
        let long = answered((StatusCode::BAD_REQUEST, "x".repeat(100_000) + "the cause")).await.unwrap_err();
        assert!(long.reason().len() < 2200 && long.reason().ends_with("the cause"));
    }

    #[tokio::test]
    async fn no_answer_is_worth_another_attempt() {
        let silent = Router::new().route("/", post(async || std::future::pending::<()>().await));
        let failure = process(&serve(silent).await, Duration::from_millis(100)).await.unwrap_err();
        assert_eq!(failure, Failure::retry("no whole answer within 100ms"));

        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = format!("http://{}/", taken.local_addr().unwrap());
        drop(taken);
        let failure = process(&closed, AMPLE).await.unwrap_err();
        assert!(matches!(&failure, Failure::Retry { reason } if reason.contains("refused")), "{failure:?}");
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut_off() {
        let failure = answered(vec![b' '; MAX_BODY + 1]).await.unwrap_err();
        assert!(matches!(failure, Failure::Final { .. }), "{failure:?}");
    }

    #[test]
    fn only_web_addresses_are_accepted() {
        for bad in ["", "localhost", "ftp://host/", "file:///etc/passwd"] {
            assert!(HttpEndpoint::new(client(), bad, AMPLE, Clock::system()).is_err(), "{bad}");
        }
    }
}
