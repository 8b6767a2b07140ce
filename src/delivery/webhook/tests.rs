//! One sending against an endpoint of its own, and which addresses are refused.

use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::routing::post;
use tokio::net::TcpListener;

use super::*;
use crate::delivery::signature::new_secret;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
const MESSAGE: Message<'static> = Message { id: "m1", timestamp_s: 1_614_265_330, body: r#"{"type":"request.ready"}"# };

fn webhook(secret: &str, allow_private: bool) -> Webhook {
    let settings = config::Webhook { secret: secret.into(), allow_private, schedule: Vec::new() };
    Webhook::new(&settings, Duration::from_secs(5)).unwrap()
}

/// An endpoint that gives one answer, and the address under which `host` reaches it.
async fn endpoint(host: &str, answer: impl IntoResponse + Clone + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().route("/hook", post(move || async move { answer }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{host}:{port}/hook")
}

async fn sent(answer: impl IntoResponse + Clone + Send + Sync + 'static) -> Outcome {
    let url = endpoint("127.0.0.1", answer).await;
    webhook(SECRET, true).send(&url, MESSAGE).await
}

fn retry(after: Option<u64>, reason: &str) -> Outcome {
    Outcome::Retry { after: after.map(Duration::from_secs), reason: reason.into() }
}

#[tokio::test]
async fn the_status_decides() {
    assert_eq!(sent(StatusCode::OK).await, Outcome::Delivered { receipt: "200".into() });
    assert_eq!(sent(StatusCode::NO_CONTENT).await, Outcome::Delivered { receipt: "204".into() });
    assert_eq!(sent(StatusCode::GONE).await, Outcome::Suppressed { reason: "the endpoint answered 410 Gone".into() });
    for status in [400, 401, 404, 408, 500, 503, 504].map(|code| StatusCode::from_u16(code).unwrap()) {
        assert_eq!(sent(status).await, retry(None, &format!("the endpoint answered {status}")));
    }
}

#[tokio::test]
async fn a_busy_endpoint_says_when_to_come_back() {
    for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
        let reason = format!("the endpoint answered {status}");
        assert_eq!(sent((status, [("retry-after", "7")])).await, retry(Some(7), &reason));
        let date = [("retry-after", "Thu, 25 Feb 2021 15:02:20 GMT")];
        assert_eq!(sent((status, date)).await, retry(Some(10), &reason));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = endpoint("127.0.0.1", StatusCode::OK).await;
    let outcome = sent((StatusCode::TEMPORARY_REDIRECT, [("location", elsewhere)])).await;
    assert_eq!(outcome, retry(None, "the endpoint answered 307 Temporary Redirect"));
}

#[tokio::test]
async fn an_endpoint_that_is_away_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    assert!(matches!(webhook(SECRET, true).send(&url, MESSAGE).await, Outcome::Retry { after: None, .. }));
}

#[tokio::test]
async fn a_message_carries_its_id_and_a_signature_of_each_secret() {
    let seen = Arc::new(Mutex::new(None));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let keep = seen.clone();
    let router = Router::new().route(
        "/hook",
        post(async move |headers: HeaderMap, body: Bytes| *keep.lock().unwrap() = Some((headers, body))),
    );
    tokio::spawn(async move { axum::serve(listener, router).await });

    let outcome = webhook(&format!("{SECRET}  {OTHER}"), true).send(&url, MESSAGE).await;
    assert_eq!(outcome, Outcome::Delivered { receipt: "200".into() });

    let (headers, body) = seen.lock().unwrap().take().unwrap();
    let [one, other] = [SECRET, OTHER].map(|text| sign(&Secret::parse(text).unwrap(), MESSAGE));
    assert_eq!(headers["webhook-id"], "m1");
    assert_eq!(headers["webhook-timestamp"], "1614265330");
    assert_eq!(headers["webhook-signature"], format!("{one} {other}"));
    assert_eq!(headers["content-type"], "application/json");
    assert!(headers["user-agent"].to_str().unwrap().starts_with("onetake/"));
    assert_eq!(body, MESSAGE.body);
}

#[test]
fn a_private_address_is_refused_however_it_is_spelt() {
    let webhook = webhook(SECRET, false);
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "0",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[fd00::1]",
        "[fe80::1]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "api.localhost",
        "ⓛocalhost",
    ] {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{host}:8080/hook");
            assert_eq!(webhook.check_url(&url), Err(UrlError::Private), "{url}");
        }
    }
}

#[test]
fn only_plain_web_addresses_are_taken() {
    let webhook = webhook(SECRET, false);
    for good in ["https://example.com/hook?a=1", "http://example.com:8080", "https://1.1.1.1/", "https://пример.рф/"]
    {
        assert!(webhook.check_url(good).is_ok(), "{good}");
    }
    let long = format!("https://example.com/{}", "x".repeat(LONGEST_URL));
    for (bad, why) in [
        ("ftp://example.com/", UrlError::Scheme),
        ("file:///etc/passwd", UrlError::Scheme),
        ("unix:/var/run/docker.sock", UrlError::Scheme),
        ("https://user@example.com/", UrlError::Credentials),
        ("https://:password@example.com/", UrlError::Credentials),
        ("example.com/hook", UrlError::Unreadable(url::ParseError::RelativeUrlWithoutBase)),
        ("http://", UrlError::Unreadable(url::ParseError::EmptyHost)),
        (&long, UrlError::Long),
    ] {
        assert_eq!(webhook.check_url(bad), Err(why), "{bad}");
    }
}

#[tokio::test]
async fn a_private_address_gets_nothing_even_if_it_was_stored() {
    let url = endpoint("127.0.0.1", StatusCode::OK).await;
    let outcome = webhook(SECRET, false).send(&url, MESSAGE).await;
    assert_eq!(outcome, Outcome::Rejected { reason: UrlError::Private.to_string() });
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_when_it_is_resolved() {
    // Past the check of the address itself, as any other name with a loopback address would be.
    let url = endpoint("localhost", StatusCode::OK).await;
    let error = webhook(SECRET, false).client.post(url).send().await.unwrap_err();
    assert!(NotPublic::caused(&error), "{error:?}");
    assert!(describe(error).ends_with("localhost has no public address"));
}

#[tokio::test]
async fn private_addresses_are_served_where_they_are_allowed() {
    let url = endpoint("localhost", StatusCode::OK).await;
    assert!(matches!(webhook(SECRET, true).send(&url, MESSAGE).await, Outcome::Delivered { .. }));
}

#[test]
fn nothing_is_sent_unsigned() {
    assert_eq!(webhook("", true).check_url("https://example.com/"), Err(UrlError::NoSecret));
}

#[test]
fn a_bad_secret_is_told_at_the_start() {
    let secret = format!("{} whsec_short", new_secret().expose_secret());
    let settings = config::Webhook { secret: secret.into(), allow_private: false, schedule: Vec::new() };
    let error = Webhook::new(&settings, Duration::from_secs(5)).unwrap_err();
    assert!(matches!(error, Error::Secret(_)), "{error}");
}
