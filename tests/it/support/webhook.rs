//! An endpoint for webhooks that records what it is sent and answers as a test tells it to.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::wait;

/// A 503 asks to come back after so many seconds.
pub const RETRY_AFTER_S: u64 = 1;

/// One message, as it came.
#[derive(Clone, Debug)]
pub struct Message {
    pub path: String,
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    pub body: String,
    pub at: Instant,
}

impl Message {
    /// # Panics
    /// If the body is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a webhook's body is JSON")
    }
}

#[derive(Default)]
struct Book {
    messages: Vec<Message>,
    scripts: HashMap<String, VecDeque<u16>>,
}

/// Runs until it is dropped.
pub struct Receiver {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    server: JoinHandle<()>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let book = Arc::default();
        let router = Router::new().fallback(receive).with_state(Arc::clone(&book));
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { address, book, server }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next messages to `path` are answered with these statuses; the ones after them with 204.
    pub fn script(&self, path: &str, statuses: impl IntoIterator<Item = u16>) {
        self.book().scripts.entry(path.to_owned()).or_default().extend(statuses);
    }

    /// What came to `path` so far.
    pub fn messages(&self, path: &str) -> Vec<Message> {
        self.book().messages.iter().filter(|message| message.path == path).cloned().collect()
    }

    /// What came to `path`, once there are at least `count` messages.
    pub async fn wait_for(&self, path: &str, count: usize) -> Vec<Message> {
        wait::until(&format!("{count} messages to {path}"), wait::PATIENCE, async || {
            Some(self.messages(path)).filter(|messages| messages.len() >= count)
        })
        .await
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no test panics while it holds this")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(State(book): State<Arc<Mutex<Book>>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let path = uri.path().to_owned();
    let mut book = book.lock().expect("no test panics while it holds this");
    book.messages.push(Message {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        body: String::from_utf8_lossy(&body).into_owned(),
        at: Instant::now(),
        path: path.clone(),
    });
    let status = book.scripts.get_mut(&path).and_then(VecDeque::pop_front).unwrap_or(204);
    let status = StatusCode::from_u16(status).expect("scripts name HTTP statuses");
    if status == StatusCode::SERVICE_UNAVAILABLE {
        return (status, [(header::RETRY_AFTER, RETRY_AFTER_S.to_string())]).into_response();
    }
    status.into_response()
}
