//! Talks to the running server; turns its problem documents into sentences.

use std::time::Duration;

use crate::json;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue, InvalidHeaderValue};
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::{Host, Url};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long an answer may take beyond what the call itself asks the server to wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The cause stands inside the sentence, so that the advice comes last.
    #[error("cannot reach {server} ({cause}); is the server running? start it with `onetake serve` or `onetake dev`")]
    Unreachable { server: Url, cause: String },
    #[error("{server} did not answer in time; what was asked for may have been done")]
    Silent { server: Url },
    #[error("{}", problem.sentence(*status))]
    Refused { status: StatusCode, problem: Problem },
    #[error("the answer of {server} was cut off or is not JSON; is it a Onetake server?")]
    Strange { server: Url, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("\"{0}\" is no name or id that an address can hold")]
    Name(String),
    #[error("the API key has characters that no header can carry")]
    Key(#[from] InvalidHeaderValue),
}

impl Error {
    /// The problem's stable code.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { problem, .. } if !problem.code.is_empty() => Some(&problem.code),
            _ => None,
        }
    }

    /// What the problem is about.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Refused { problem, .. } => problem.field.as_deref(),
            _ => None,
        }
    }
}

/// An RFC 9457 problem document. A proxy on the way may answer something else: then all is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    title: String,
    detail: Option<String>,
    code: String,
    field: Option<String>,
    request_id: Option<String>,
}

impl Problem {
    fn sentence(&self, status: StatusCode) -> String {
        let mut text = match (&self.detail, self.title.as_str()) {
            (Some(detail), _) => detail.clone(),
            (None, "") => "the server refused".to_owned(),
            (None, title) => title.to_owned(),
        };
        if let Some(field) = &self.field {
            text = format!("{field}: {text}");
        }
        let code = if self.code.is_empty() { "no problem document" } else { &self.code };
        text += &format!(" ({}, {code}", status.as_u16());
        if let Some(id) = &self.request_id {
            text += &format!(", request {id}");
        }
        text.push(')');
        match self.code.as_str() {
            "unauthorized" => text += "; give a key with --api-key or ONETAKE_API_KEY",
            "forbidden" => text += "; this key lacks the scope for that",
            _ => {}
        }
        text
    }
}

/// What the server said: read for people, and as it came for `--json` (numbers are not rounded on the way).
#[derive(Debug)]
pub(super) struct Answer {
    pub text: String,
    pub value: Value,
}

/// One call. The path is given in segments, which are escaped here.
pub(super) struct Call {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Option<String>,
    headers: Vec<(HeaderName, String)>,
    patience: Duration,
}

impl Call {
    fn new(method: Method, path: &[&str]) -> Self {
        let path = path.iter().map(|&segment| segment.to_owned()).collect();
        Self { method, path, query: Vec::new(), body: None, headers: Vec::new(), patience: ANSWER_WITHIN }
    }

    pub fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    pub fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub fn post(path: &[&str], body: &impl Serialize) -> Self {
        let body = serde_json::to_string(body).expect("what the command line builds is JSON");
        Self { body: Some(body), ..Self::new(Method::POST, path) }
    }

    pub fn put(path: &[&str], body: &impl Serialize) -> Self {
        Self { method: Method::PUT, ..Self::post(path, body) }
    }

    pub fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    pub fn idempotency_key(mut self, key: Option<&str>) -> Self {
        self.headers.extend(key.map(|key| (HeaderName::from_static("idempotency-key"), key.to_owned())));
        self
    }

    /// Waits for the answer so much longer.
    pub fn patience(mut self, more: Duration) -> Self {
        self.patience += more;
        self
    }

    /// Asks the server to hold its answer until there is something final to say, for `seconds` at most.
    pub fn wait(mut self, seconds: u64) -> Self {
        self.headers.push((HeaderName::from_static("prefer"), format!("wait={seconds}")));
        self.patience += Duration::from_secs(seconds);
        self
    }
}

pub(super) struct Client {
    http: reqwest::Client,
    server: Url,
    key: Option<SecretString>,
}

impl Client {
    pub fn new(server: Url, key: Option<SecretString>) -> anyhow::Result<Self> {
        let mut builder = reqwest::Client::builder().connect_timeout(CONNECT_WITHIN);
        if is_this_machine(&server) {
            // A proxy for the internet cannot reach our loopback.
            builder = builder.no_proxy();
        }
        Ok(Self { http: builder.build()?, server, key })
    }

    pub fn server(&self) -> &Url {
        &self.server
    }

    /// # Errors
    /// No server there, a refusal (any status that is not 2xx), or an answer that is not JSON.
    pub async fn send(&self, call: Call) -> Result<Answer, Error> {
        if let Some(name) = call.path.iter().find(|part| matches!(part.as_str(), "." | ".." | "")) {
            return Err(Error::Name(name.clone()));
        }
        let mut request = self.http.request(call.method, address(&self.server, &call.path)).timeout(call.patience);
        request = request.query(&call.query);
        if let Some(key) = &self.key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        if let Some(body) = call.body {
            request = request.header("content-type", "application/json").body(body);
        }
        let server = || self.server.clone();
        let answer = request.send().await.map_err(|e| match e {
            e if e.is_connect() => Error::Unreachable { server: server(), cause: root_cause(&e) },
            e if e.is_timeout() => Error::Silent { server: server() },
            e => Error::Strange { server: server(), source: e.into() },
        })?;
        let status = answer.status();
        let text = answer.text().await.map_err(|e| Error::Strange { server: server(), source: e.into() })?;
        if !status.is_success() {
            let problem = serde_json::from_str(&text).unwrap_or_default();
            return Err(Error::Refused { status, problem });
        }
        if text.is_empty() {
            return Ok(Answer { text: "null".to_owned(), value: Value::Null });
        }
        // Jobs may hold texts that were cut inside a character.
        let read = serde_json::from_str(&text).or_else(|error| json::told(&text).ok_or(error));
        let value = read.map_err(|e| Error::Strange { server: server(), source: e.into() })?;
        Ok(Answer { text, value })
    }
}

/// The last link of the chain: "Connection refused", without the layers it came through.
fn root_cause(error: &dyn std::error::Error) -> String {
    let last = std::iter::successors(Some(error), |error| error.source()).last();
    last.map_or_else(String::new, ToString::to_string)
}

fn is_this_machine(server: &Url) -> bool {
    match server.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The server may live under a path of its own, behind a proxy.
fn address(server: &Url, path: &[String]) -> Url {
    let mut url = server.clone();
    url.path_segments_mut().expect("an http address has a path").pop_if_empty().extend(path);
    url
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A client of a server that has these routes.
    pub(in crate::cli) async fn client(routes: axum::Router) -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Client::new(address.parse().unwrap(), Some("otk_one_two".to_owned().into())).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_escaped_and_a_base_path_is_kept() {
        let path = ["v1", "dedupe", "video", "[\"a/b\",\"50%\"]"].map(str::to_owned);
        let url = address(&"http://host/one/".parse().unwrap(), &path);
        assert_eq!(url.as_str(), "http://host/one/v1/dedupe/video/[%22a%2Fb%22,%2250%25%22]");
    }

    #[test]
    fn a_problem_becomes_one_sentence_with_its_code() {
        let text = r#"{"title":"Invalid field","status":422,"detail":"must not be empty","code":"invalid_field","field":"name","request_id":"r1"}"#;
        let problem: Problem = serde_json::from_str(text).unwrap();
        let sentence = problem.sentence(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(sentence, "name: must not be empty (422, invalid_field, request r1)");
        let sentence = Problem::default().sentence(StatusCode::BAD_GATEWAY);
        assert_eq!(sentence, "the server refused (502, no problem document)");
    }

    #[tokio::test]
    async fn jobs_with_cut_texts_are_listed_and_names_that_no_address_holds_are_refused() {
        let list = async || r#"{"items":[{"id":"1","data":"cut \ud83d"}]}"#;
        let client = testing::client(axum::Router::new().route("/v1/queues/mail/jobs", axum::routing::get(list))).await;
        let answer = client.send(Call::get(&["v1", "queues", "mail", "jobs"])).await.unwrap();
        assert_eq!(answer.value["items"][0]["data"], "cut \u{fffd}");
        assert!(answer.text.contains("\\ud83d"), "as it was sent: {}", answer.text);
        let error = client.send(Call::get(&["v1", "queues", "mail", "jobs", ".."])).await.unwrap_err();
        assert!(error.to_string().contains("no name or id"), "{error}");
    }

    #[tokio::test]
    async fn without_a_server_the_error_says_how_to_start_one() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = Client::new(format!("http://{free}").parse().unwrap(), None).unwrap();
        let error = client.send(Call::get(&["v1", "queues"])).await.unwrap_err();
        assert!(error.to_string().contains("onetake serve"), "{error}");
    }
}
