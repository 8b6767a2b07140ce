//! The load: many connections that each send a request, read its answer, and send the next.
//!
//! It runs as a process of its own and does as little as it can for a request, because it takes its share of the same
//! cores: requests are written by hand, and of an answer only the status, the length and one word are looked at.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest that one answer may take; a server that hangs ends the benchmark.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to send, and for how long.
#[derive(Clone, Serialize, Deserialize)]
pub struct Load {
    pub address: SocketAddr,
    pub path: String,
    pub connections: usize,
    pub body: Body,
    /// The keys of successive requests count up from here...
    pub first_key: u64,
    /// ...and begin again after so many.
    pub keys: u64,
    /// Askers of another number are other askers.
    pub askers: u64,
    pub until: Until,
    /// Each answer has this status, and this text near its beginning.
    pub status: u16,
    pub says: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum Body {
    /// A wish for a result, of an asker of its own.
    Wish,
    /// A job without a dedupe key.
    Plain,
    /// An order of its own for the pickup point, of one of the users.
    Accept,
    /// The one slot `hot`, for a user of its own.
    Book,
    /// No body: a user's list of orders is asked for.
    List,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum Until {
    /// So many requests, all of them measured.
    Requests(u64),
    /// For so long, after a time that does not count.
    Time { warm_up: Duration, measured: Duration },
}

/// How it went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    pub requests: u64,
    pub seconds: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

impl Measured {
    /// Answers per second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

/// Runs the load in a process of its own.
///
/// # Panics
/// If an answer is not the expected one; it is shown.
pub async fn run(load: &Load) -> Measured {
    let order = serde_json::to_string(load).expect("an order is JSON");
    let program = std::env::current_exe().expect("this program has a path");
    let output = tokio::process::Command::new(program).args(["load", &order]).kill_on_drop(true).output().await;
    let output = output.expect("this program starts");
    assert!(output.status.success(), "the load failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the load reports in JSON")
}

/// The process of [`run`].
pub fn child(order: &str) {
    let load: Load = serde_json::from_str(order).expect("an order is JSON");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let measured = runtime.block_on(drive(load));
    println!("{}", serde_json::to_string(&measured).expect("numbers are JSON"));
}

/// Sends one request past all measuring; returns the body of its answer.
pub async fn post(address: SocketAddr, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    write_post(path, body.as_bytes(), &mut request);
    stream.write_all(&request).await.expect("the server takes requests");
    let status = read_answer(&mut stream, &mut answer).await;
    let text = String::from_utf8(answer).expect("an answer is text");
    assert!((200..300).contains(&status), "{path}: {text}");
    text.split_once("\r\n\r\n").expect("an answer has a head").1.to_owned()
}

/// What a path answers to a GET.
pub async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the server takes requests");
    let mut answer = Vec::new();
    assert_eq!(read_answer(&mut stream, &mut answer).await, 200, "{path}");
    let text = String::from_utf8(answer).expect("an answer is text");
    text.split_once("\r\n\r\n").expect("an answer has a head").1.to_owned()
}

/// What all connections share.
struct Course {
    load: Load,
    sent: AtomicU64,
    counts_from: Instant,
    ends: Option<Instant>,
}

impl Course {
    /// The number of the next request, if there is one.
    fn next(&self) -> Option<u64> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        match self.load.until {
            Until::Requests(count) => (number < count).then_some(number),
            Until::Time { .. } => self.ends.is_none_or(|ends| Instant::now() < ends).then_some(number),
        }
    }
}

async fn drive(load: Load) -> Measured {
    let mut streams = Vec::new();
    for _ in 0..load.connections {
        let stream = TcpStream::connect(load.address).await.expect("the server listens");
        stream.set_nodelay(true).expect("the connection is open");
        streams.push(stream);
    }
    let now = Instant::now();
    let (counts_from, ends) = match load.until {
        Until::Requests(_) => (now, None),
        Until::Time { warm_up, measured } => (now + warm_up, Some(now + warm_up + measured)),
    };
    let course = Arc::new(Course { load, sent: AtomicU64::new(0), counts_from, ends });
    let tasks: Vec<_> = streams.into_iter().map(|stream| tokio::spawn(connection(stream, course.clone()))).collect();
    let mut took_us = Vec::new();
    for task in tasks {
        took_us.extend(task.await.expect("a connection works to its end"));
    }
    // To the last answer, which may come after the end.
    let seconds = course.counts_from.elapsed().as_secs_f64();
    took_us.sort_unstable();
    let at = |share: f64| took_us.get(((took_us.len() as f64) * share) as usize).map_or(0.0, |us| f64::from(*us));
    Measured { requests: took_us.len() as u64, seconds, p50_us: at(0.50), p99_us: at(0.99) }
}

/// Sends requests one after the other; returns how long each took, in microseconds.
async fn connection(mut stream: TcpStream, course: Arc<Course>) -> Vec<u32> {
    let mut took_us = Vec::with_capacity(10_000);
    let (mut body, mut request) = (Vec::with_capacity(512), Vec::with_capacity(1024));
    let mut answer = Vec::with_capacity(8192);
    while let Some(number) = course.next() {
        write_request(&course.load, number, &mut body, &mut request);
        let sent = Instant::now();
        let answered = async {
            stream.write_all(&request).await.expect("the server takes requests");
            read_answer(&mut stream, &mut answer).await
        };
        let status = tokio::time::timeout(PATIENCE, answered).await.expect("an answer comes in time");
        let says = course.load.says.as_bytes();
        let is_said = says.is_empty() || answer.windows(says.len()).any(|window| window == says);
        if status != course.load.status || !is_said {
            // At once: the other connections would only say the same.
            eprintln!("an unexpected answer: {}", String::from_utf8_lossy(&answer));
            std::process::exit(1);
        }
        if sent >= course.counts_from {
            took_us.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
    took_us
}

fn write_request(load: &Load, number: u64, body: &mut Vec<u8>, request: &mut Vec<u8>) {
    let key = load.first_key + number % load.keys;
    body.clear();
    request.clear();
    let data = format_args!(r#""name":"make","data":{{"name":"key-{key}","gender":"girl","template":"default"}}"#);
    match load.body {
        Body::Wish => write!(
            body,
            r#"{{{data},"dedupe":{{"key":"key-{key}"}},"subscriber":{{"id":"user-{}-{number}","deliver":"poll"}}}}"#,
            load.askers
        ),
        Body::Plain => write!(body, "{{{data}}}"),
        Body::Accept => write!(
            body,
            r#"{{"order":"{}-{number}","user":"u{key}","storage_until":"2099-01-01T00:00:00Z"}}"#,
            load.askers
        ),
        Body::Book => write!(body, r#"{{"slot":"hot","user":"user-{}-{number}"}}"#, load.askers),
        Body::List => {
            write!(request, "GET {}?user=u{key} HTTP/1.1\r\nhost: localhost\r\n\r\n", load.path)
                .expect("memory takes all that is written");
            return;
        }
    }
    .expect("memory takes all that is written");
    write_post(&load.path, body, request);
}

fn write_post(path: &str, body: &[u8], request: &mut Vec<u8>) {
    let length = body.len();
    write!(
        request,
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
    .expect("memory takes all that is written");
    request.extend_from_slice(body);
}

/// Leaves the answer's head and body in `answer`; returns its status.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> u16 {
    answer.clear();
    loop {
        if let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") {
            let text = std::str::from_utf8(&answer[..head]).expect("a head is ASCII");
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let whole = head + 4 + length.expect("an answer says its length");
            if answer.len() >= whole {
                return text.get(9..12).and_then(|status| status.parse().ok()).expect("an answer has a status");
            }
        }
        assert!(stream.read_buf(answer).await.expect("the server answers") > 0, "the server hung up");
    }
}
