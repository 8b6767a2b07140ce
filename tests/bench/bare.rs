//! What axum alone can do here: a handler that reads the same body into the same kind of struct, and answers as much.

use std::net::SocketAddr;

use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

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
    status: &'static str,
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

impl Bare {
    /// `answer_bytes` is how long its answers are, about.
    pub async fn start(answer_bytes: usize) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let program = program.to_str().expect("the path is plain");
        let mut process = Launch::new("bare", program).args(["bare", &answer_bytes.to_string()]).talks().spawn();
        let address = process.read().await.expect("the handler says where it listens");
        Self { address: address.parse().expect("it says an address"), _process: process }
    }
}

/// The process of [`Bare`]; ends with its parent.
pub fn child(answer_bytes: &str) {
    // What the other fields take.
    let padding = answer_bytes.parse::<usize>().expect("a number of bytes").saturating_sub(200);
    // As `#[tokio::main]` does for the server.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let answer = move |Json(wish): Json<Wish>| async move {
            let subscriber = wish.subscriber.unwrap_or(Subscriber { id: String::new(), deliver: None });
            Json(Answer {
                status: "ready",
                key: wish.dedupe.and_then(|dedupe| dedupe.key).unwrap_or_default(),
                subscriber: subscriber.id,
                deliver: subscriber.deliver,
                name: wish.name,
                result: wish.data,
                padding: "x".repeat(padding),
            })
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        println!("{}", listener.local_addr().expect("it is bound"));
        axum::serve(listener, Router::new().route(PATH, post(answer))).await.expect("it serves until it is killed");
    });
}
