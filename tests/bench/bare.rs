//! What axum alone can do here: a handler that reads the same body into the same kind of struct, and answers as much.
//! With a store it first commits the rows of the request, by plain inserts that ride together.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use onetake::batch::{Batch, Failure, Ride};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::Mutex;

use crate::direct::{Direct, Rows};
use crate::support::process::{Launch, Process};

pub const PATH: &str = "/bare";

#[derive(Deserialize)]
struct Wish {
    name: Option<String>,
    data: Option<Box<RawValue>>,
    dedupe: Option<Dedupe>,
    subscriber: Option<Subscriber>,
}

#[derive(Deserialize)]
struct Dedupe {
    key: Option<String>,
}

#[derive(Deserialize)]
struct Subscriber {
    id: String,
    deliver: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    status: String,
    key: String,
    subscriber: String,
    deliver: Option<String>,
    name: Option<String>,
    result: Option<Box<RawValue>>,
    padding: String,
}

/// The handler in a process of its own.
pub struct Bare {
    pub address: SocketAddr,
    _process: Process,
}

/// What the handler does.
#[derive(Serialize, Deserialize)]
pub struct Order {
    /// How long its answers are, about.
    pub answer_bytes: usize,
    /// The word that the load looks for.
    pub status: String,
    /// Rows to commit first, and the server that takes them (empty: SQLite).
    pub rows: Option<(Rows, String)>,
}

impl Bare {
    pub async fn start(order: &Order) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let program = program.to_str().expect("the path is plain");
        let order = serde_json::to_string(order).expect("an order is JSON");
        let mut process = Launch::new("bare", program).args(["bare", &order]).talks().spawn();
        let address = process.read().await.expect("the handler says where it listens");
        Self { address: address.parse().expect("it says an address"), _process: process }
    }
}

#[derive(Clone)]
struct Stopping;

impl Failure for Stopping {
    fn is_of_all(&self) -> bool {
        true
    }

    fn stopping() -> Self {
        Self
    }
}

/// The process of [`Bare`]; ends with its parent.
pub fn child(order: &str) {
    let order: Order = serde_json::from_str(order).expect("an order is JSON");
    // What the other fields take.
    let padding = order.answer_bytes.saturating_sub(200);
    // As `#[tokio::main]` does for the server.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let commits = match order.rows {
            Some((rows, server)) => Some(commits(rows, &server).await),
            None => None,
        };
        let status = order.status;
        let answer = move |Json(wish): Json<Wish>| async move {
            if let Some(commits) = commits {
                commits.run(()).await.ok().expect("the store takes the rows");
            }
            let subscriber = wish.subscriber.unwrap_or(Subscriber { id: String::new(), deliver: None });
            let code = if status == "ready" { StatusCode::OK } else { StatusCode::ACCEPTED };
            let body = Answer {
                status,
                key: wish.dedupe.and_then(|dedupe| dedupe.key).unwrap_or_default(),
                subscriber: subscriber.id,
                deliver: subscriber.deliver,
                name: wish.name,
                result: wish.data,
                padding: "x".repeat(padding),
            };
            (code, Json(body))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        println!("{}", listener.local_addr().expect("it is bound"));
        axum::serve(listener, Router::new().route(PATH, post(answer))).await.expect("it serves until it is killed");
    });
}

async fn commits(rows: Rows, server: &str) -> Batch<(), (), Stopping> {
    let database = if rows == Rows::Subscriptions { "bare_subscribed" } else { "bare_queued" };
    let direct = Arc::new(Mutex::new(Direct::open(server, database).await));
    Batch::new(Ride { name: "bare", most: 256 }, move |requests: Arc<Vec<()>>| {
        let direct = direct.clone();
        Box::pin(async move {
            direct.lock().await.insert(rows, requests.len()).await;
            Ok(requests.to_vec())
        })
    })
}
