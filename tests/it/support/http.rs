//! A small JSON client of the server under test.

use std::sync::Once;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;

/// Longer than the longest wait that the server honours.
const TIME_LIMIT: Duration = Duration::from_secs(90);

/// An answer with its whole body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// # Panics
    /// If the body is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The body, if the status is the expected one.
    ///
    /// # Panics
    /// If it is another.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    /// Empty where the header is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("headers of ours are ASCII"))
    }
}

/// Talks to one server; cheap to clone.
#[derive(Clone)]
pub struct Api {
    base: String,
    client: Client,
    headers: Vec<(&'static str, String)>,
}

impl Api {
    /// `base` is as in `http://127.0.0.1:7700`.
    pub fn new(base: &str) -> Self {
        static TLS: Once = Once::new();
        // reqwest is built without a TLS provider and does not start without one.
        TLS.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let client = Client::builder().no_proxy().timeout(TIME_LIMIT).build().expect("TLS has a provider");
        Self { base: base.trim_end_matches('/').to_owned(), client, headers: Vec::new() }
    }

    /// The same with one more header on each request, such as `("authorization", "Bearer ...")`.
    pub fn with(&self, header: &'static str, value: impl Into<String>) -> Self {
        let mut with = self.clone();
        with.headers.push((header, value.into()));
        with
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.must(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.must(Method::POST, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.must(Method::DELETE, path, None).await
    }

    /// For tests that kill the server meanwhile.
    ///
    /// # Errors
    /// If no complete answer came.
    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> reqwest::Result<Answer> {
        let mut request = self.prepare(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, text: response.text().await? })
    }

    /// Opens a stream of server-sent events.
    ///
    /// # Panics
    /// If the server does not answer 200.
    pub async fn events(&self, path: &str) -> Events {
        let response = self.prepare(Method::GET, path).send().await.expect("the server answers");
        assert_eq!(response.status(), 200);
        Events { response, received: String::new() }
    }

    async fn must(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let told = format!("{method} {path}");
        self.request(method, path, body).await.unwrap_or_else(|error| panic!("{told}: {error:?}"))
    }

    fn prepare(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        self.headers.iter().fold(request, |request, (name, value)| request.header(*name, value))
    }
}

/// One server-sent event.
#[derive(Debug)]
pub struct Event {
    pub id: String,
    pub name: String,
    pub data: Value,
}

/// Events as they come.
pub struct Events {
    response: Response,
    received: String,
}

impl Events {
    /// The next event; `None` at the end of the stream. Comments (keep-alives) are passed over.
    ///
    /// # Panics
    /// If the connection breaks, or the data is not JSON.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.received.split_once("\n\n") {
                let event = parse(block);
                self.received = rest.to_owned();
                if event.is_some() {
                    return event;
                }
            }
            let chunk = self.response.chunk().await.expect("the stream ends cleanly")?;
            self.received.push_str(std::str::from_utf8(&chunk).expect("events of ours do not split characters"));
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| {
        let values: Vec<_> = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':')).collect();
        values.iter().map(|value| value.strip_prefix(' ').unwrap_or(value)).collect::<Vec<_>>().join("\n")
    };
    let data = field("data");
    let data = (!data.is_empty()).then(|| serde_json::from_str(&data).expect("our events carry JSON"))?;
    Some(Event { id: field("id"), name: field("event"), data })
}
