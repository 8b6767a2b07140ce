//! A Telegram that does what a test tells it to.
//!
//! It records every call and answers each by its chat's script; without one, it sends. Like Telegram it hands out a
//! `file_id` for an upload and refuses those that it did not hand out.

#![allow(dead_code, reason = "each test uses its own part of this")]

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest, Multipart, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::{IncomingStream, Listener};
use serde_json::{Value, json};
use tokio::io::{self, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The token of the one bot that this Telegram knows, and the part of it that names the bot.
pub const TOKEN: &str = "123456:fake-token";
pub const BOT_ID: &str = "123456";

/// What happens to one call.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Ok,
    TooMany {
        retry_after: u64,
    },
    Blocked,
    ChatNotFound,
    ServerError,
    BadFileId,
    /// The chat has become the supergroup with this id.
    MovedTo(i64),
    /// Any other refusal.
    Refused {
        code: u16,
        description: &'static str,
    },
    /// It sends, and the answer is no JSON.
    Garbled,
    /// Reading stops before the video is read, and nothing is answered. Only an upload beyond the buffers of the sockets
    /// (some megabytes) shows the client that it did not get through.
    HangBeforeBody,
    /// It sends, and nothing is answered.
    HangAfterBody,
    /// It sends, and the connection is reset.
    ResetAfterBody,
}

/// One call, recorded when its answer was decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub method: String,
    pub chat: String,
    pub video: Option<Sent>,
    /// The caption of a video, the text of a message.
    pub text: String,
    pub answer: Answer,
    pub at: Instant,
}

/// How a video came.
#[derive(Clone, Debug, PartialEq)]
pub enum Sent {
    Upload { bytes: usize },
    FileId(String),
}

impl Call {
    pub fn is_upload(&self) -> bool {
        matches!(self.video, Some(Sent::Upload { .. }))
    }
}

/// Runs until it is dropped.
pub struct FakeTelegram {
    address: SocketAddr,
    book: Arc<Book>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Book {
    pages: Mutex<Pages>,
    called: Notify,
}

#[derive(Default)]
struct Pages {
    calls: Vec<Call>,
    scripts: HashMap<String, VecDeque<Answer>>,
    file_ids: BTreeSet<String>,
    last_id: i64,
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().expect("no test panics while it holds this")
    }
}

impl FakeTelegram {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let book = Arc::new(Book::default());
        let router = Router::new()
            .route("/{bot}/{method}", post(call))
            .layer(DefaultBodyLimit::disable())
            .with_state(book.clone())
            .into_make_service_with_connect_info::<Cut>();
        let server = tokio::spawn(async move {
            let _ = axum::serve(Lines(listener), router).await;
        });
        Self { address, book, server }
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next calls for `chat` get these answers; the ones after them are sent.
    pub fn script(&self, chat: &str, answers: impl IntoIterator<Item = Answer>) {
        self.book.pages().scripts.entry(chat.to_owned()).or_default().extend(answers);
    }

    /// A `file_id` that this bot has been given before.
    pub fn know_file_id(&self, file_id: &str) {
        self.book.pages().file_ids.insert(file_id.to_owned());
    }

    /// Every `file_id` so far is worth nothing any more.
    pub fn forget_file_ids(&self) {
        self.book.pages().file_ids.clear();
    }

    pub fn calls(&self) -> Vec<Call> {
        self.book.pages().calls.clone()
    }

    /// The calls, once there are at least `count` of them.
    ///
    /// # Panics
    /// After half a minute.
    pub async fn wait_for(&self, count: usize) -> Vec<Call> {
        let enough = async {
            loop {
                let called = self.book.called.notified();
                let calls = self.calls();
                if calls.len() >= count {
                    return calls;
                }
                called.await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(30), enough).await {
            Ok(calls) => calls,
            Err(_) => panic!("{count} calls were expected, there are {:?}", self.calls()),
        }
    }
}

impl Drop for FakeTelegram {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn call(
    State(book): State<Arc<Book>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    Path((bot, method)): Path<(String, String)>,
    request: Request,
) -> Response {
    if bot != format!("bot{TOKEN}") {
        return refusal(401, "Unauthorized", json!({}));
    }
    // What is left of the request stays unread, not closed, until this call ends.
    let Some((mut call, _unread)) = read(&book, method, request).await else {
        return refusal(400, "Bad Request: the request cannot be read", json!({}));
    };
    let is_known = match &call.video {
        Some(Sent::FileId(file_id)) => book.pages().file_ids.contains(file_id),
        _ => true,
    };
    if call.answer == Answer::Ok && !is_known {
        call.answer = Answer::BadFileId;
    }
    let answer = call.answer.clone();
    let result = matches!(answer, Answer::Ok | Answer::Garbled | Answer::HangAfterBody | Answer::ResetAfterBody)
        .then(|| send(&mut book.pages(), &call));
    book.pages().calls.push(call);
    book.called.notify_waiters();

    match answer {
        Answer::Ok => axum::Json(json!({"ok": true, "result": result})).into_response(),
        Answer::TooMany { retry_after } => refusal(
            429,
            &format!("Too Many Requests: retry after {retry_after}"),
            json!({"parameters": {"retry_after": retry_after}}),
        ),
        Answer::Blocked => refusal(403, "Forbidden: bot was blocked by the user", json!({})),
        Answer::ChatNotFound => refusal(400, "Bad Request: chat not found", json!({})),
        Answer::ServerError => refusal(500, "Internal Server Error", json!({})),
        Answer::BadFileId => refusal(400, "Bad Request: wrong file identifier/HTTP URL specified", json!({})),
        Answer::MovedTo(chat) => refusal(
            400,
            "Bad Request: group chat was upgraded to a supergroup chat",
            json!({"parameters": {"migrate_to_chat_id": chat}}),
        ),
        Answer::Refused { code, description } => refusal(code, description, json!({})),
        Answer::Garbled => "<html>".into_response(),
        Answer::HangBeforeBody | Answer::HangAfterBody => std::future::pending().await,
        Answer::ResetAfterBody => {
            cut.0.store(true, Ordering::SeqCst);
            ().into_response()
        }
    }
}

/// The call with the answer that its chat's script gives it, and what of the request was not read.
async fn read(book: &Book, method: String, request: Request) -> Option<(Call, Option<Multipart>)> {
    let mut call =
        Call { method, chat: String::new(), video: None, text: String::new(), answer: Answer::Ok, at: Instant::now() };
    let content_type = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    if content_type.starts_with("application/json") {
        let axum::Json(arguments) = axum::Json::<Value>::from_request(request, &()).await.ok()?;
        call.chat = text_of(&arguments["chat_id"])?;
        call.video = text_of(&arguments["video"]).map(Sent::FileId);
        call.text = text_of(&arguments["caption"]).or(text_of(&arguments["text"])).unwrap_or_default();
        call.answer = next_answer(book, &call.chat);
        return Some((call, None));
    }
    let mut form = Multipart::from_request(request, &()).await.ok()?;
    while let Some(mut field) = form.next_field().await.ok()? {
        match field.name()? {
            "chat_id" => {
                call.chat = field.text().await.ok()?;
                call.answer = next_answer(book, &call.chat);
            }
            "caption" => call.text = field.text().await.ok()?,
            "video" if call.answer == Answer::HangBeforeBody => {
                drop(field);
                call.video = Some(Sent::Upload { bytes: 0 });
                return Some((call, Some(form)));
            }
            "video" => {
                let mut bytes = 0;
                while let Some(chunk) = field.chunk().await.ok()? {
                    bytes += chunk.len();
                }
                call.video = Some(Sent::Upload { bytes });
            }
            _ => {}
        }
    }
    Some((call, None))
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn next_answer(book: &Book, chat: &str) -> Answer {
    book.pages().scripts.get_mut(chat).and_then(VecDeque::pop_front).unwrap_or(Answer::Ok)
}

/// Telegram's description of the message that it sent.
fn send(pages: &mut Pages, call: &Call) -> Value {
    pages.last_id += 1;
    let id = pages.last_id;
    let file_id = match &call.video {
        None => return json!({"message_id": id, "chat": {"id": call.chat}, "text": call.text}),
        Some(Sent::FileId(file_id)) => file_id.clone(),
        Some(Sent::Upload { .. }) => format!("file-{id}"),
    };
    pages.file_ids.insert(file_id.clone());
    json!({"message_id": id, "chat": {"id": call.chat}, "caption": call.text, "video": {"file_id": file_id}})
}

fn refusal(code: u16, description: &str, more: Value) -> Response {
    let mut body = json!({"ok": false, "error_code": code, "description": description});
    body.as_object_mut().expect("it is one").extend(more.as_object().cloned().unwrap_or_default());
    let status = StatusCode::from_u16(code).expect("scripts name HTTP codes");
    (status, axum::Json(body)).into_response()
}

/// Resets one connection instead of the next write to it.
#[derive(Clone, Default)]
pub struct Cut(pub Arc<AtomicBool>);

pub struct Lines(pub TcpListener);

pub struct Line {
    stream: TcpStream,
    cut: Cut,
}

impl Listener for Lines {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        let (stream, peer) = Listener::accept(&mut self.0).await;
        (Line { stream, cut: Cut::default() }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, Lines>> for Cut {
    fn connect_info(line: IncomingStream<'_, Lines>) -> Self {
        line.io().cut.clone()
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.cut.0.load(Ordering::SeqCst) {
            // Closing without lingering is what makes a reset of it.
            self.stream.set_zero_linger()?;
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
