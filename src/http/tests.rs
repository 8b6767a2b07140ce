//! The API over a real intake on SQLite, with a Redis that is not there: what is acknowledged needs no Redis.

mod access;
mod claims;
mod flows;
mod groups;
mod input;
mod operations;
mod pages;
mod pickup;
mod queues;
mod schedulers;
mod shapes;
mod slots;
mod wishes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use figment::Figment;
use figment::providers::{Format, Toml};
use secrecy::ExposeSecret;
use serde_json::Value;
use tower::ServiceExt;

use super::{AppState, Parts, Server, router};
use crate::access::Access;
use crate::cache::Cache;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::Settings;
use crate::dedupe::{Dedupe, Wakes, What};
use crate::delivery::webhook::Webhook;
use crate::flight::{Claim, ClaimAsk, Ending, Finish, Flights};
use crate::intake::Intake;
use crate::lock::Locks;
use crate::publish::{Announcer, Publish, Publisher, Queues};
use crate::redis::Redis;
use crate::runner::Controls;
use crate::saga::Sagas;
use crate::store::Store;
use crate::workloads::{On, Workloads};

/// Runs of the queue `mail`, which is left to workers elsewhere otherwise, are this server's.
const MAIL_IS_MADE_HERE: &str = "[queues.mail]\nprocessor = { kind = 'builtin', name = 'echo' }\n";

struct World {
    state: AppState,
    app: Router,
    /// Kept, so that what is published has somewhere to go.
    _published: tokio::sync::mpsc::Receiver<Publish>,
    dir: tempfile::TempDir,
}

struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
    text: String,
}

impl World {
    async fn new() -> Self {
        Self::with("").await
    }

    /// A server with `toml` over the defaults, without Redis.
    async fn with(toml: &str) -> Self {
        Self::on("redis://127.0.0.1:1", toml).await
    }

    async fn on(redis: &str, toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ours = format!(
            "files_dir = '{0}'\n[store]\nurl = 'sqlite://{0}/t.db'\n[redis]\nurl = '{redis}'\n\
             [queues.mail]\n[queues.letters]\nprocessor = {{ kind = 'builtin', name = 'echo' }}\n\
             [queues.letters.dedupe]\nfields = ['to', 'kind']\ndefaults = {{ kind = 'note' }}\n\
             [webhook]\nsecret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'\n",
            dir.path().display()
        );
        let settings: Settings = Figment::from(Toml::string(include_str!("../config/default.toml")))
            .merge(Toml::string(&ours))
            .merge(Toml::string(toml))
            .extract()
            .unwrap();
        let store = Store::open(&settings.store, Clock::system()).await.unwrap();
        let redis = Redis::connect_lazy(&settings.redis).unwrap();
        let catalog = Catalog::new(&settings.queues, &settings.delivery);
        let queues = Arc::new(Queues::new(redis.clone(), &settings.redis.prefix, &catalog));
        let (publisher, published) = Publisher::new(queues);
        let dedupe = Dedupe::new(redis.clone(), &settings.redis.namespace, &settings.redis.prefix);
        let flights = Flights::new(store.clone());
        let announcer = Announcer { publisher, dedupe, wakes: Wakes::default() };
        let intake = Intake::new(flights, announcer, catalog, false);
        let cache = Cache::new(redis.clone(), &settings.redis.namespace, &settings.cache);
        let locks = Locks::new(store.clone(), redis.clone(), &settings.redis.namespace, &settings.locks);
        let settings = Arc::new(settings);
        let sagas = Sagas::new(store.clone(), settings.saga.clone(), BTreeMap::new());
        let is_local = settings.http.bind.starts_with("127.");
        let state = Server::new(Parts {
            workloads: Workloads::new(&On {
                store: store.clone(),
                cache,
                intake: intake.clone(),
                sagas: sagas.clone(),
                settings: settings.clone(),
            }),
            sagas,
            intake,
            locks,
            access: Access::new(store, settings.http.admin_key.expose_secret(), is_local),
            redis,
            files: settings.files_dir.clone(),
            bot: None,
            webhook: Webhook::new(&settings.webhook, Duration::from_secs(1)).unwrap(),
            metrics: None,
            controls: Controls::default(),
            settings,
        });
        Self { app: router(state.clone()), state, _published: published, dir }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answered {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.app.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 10_000_000).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answered { status: parts.status, headers: parts.headers, body, text }
    }

    async fn get(&self, path: &str) -> Answered {
        self.send(Method::GET, path, &[], Body::empty()).await
    }

    async fn post(&self, path: &str, body: Value) -> Answered {
        self.send(Method::POST, path, &[], body.to_string()).await
    }

    /// Asks for a video; the id of the request.
    async fn ask(&self, name: &str, user: &str) -> String {
        let answered = self.post("/v1/videos", serde_json::json!({"name": name, "user": user})).await;
        assert!(answered.status.is_success(), "{}", answered.text);
        answered.body["id"].as_str().unwrap().to_owned()
    }

    /// Runs what a request waits for, as a worker would.
    async fn finish(&self, request: &str, ending: Ending) {
        let flights = self.state.intake.flights();
        let row = flights.request(request).await.unwrap().unwrap();
        let ask = ClaimAsk {
            flight: row.flight.clone(),
            generation: row.generation,
            token: crate::id::new_token(),
            lease_ms: 10_000,
        };
        let Claim::Claimed(run) = flights.claim(ask).await.unwrap() else { panic!("not claimed") };
        let finish =
            Finish { flight: run.flight.clone(), token: run.token, ending, negative_ttl: Duration::ZERO, with: vec![] };
        flights.finish(finish).await.unwrap();
        self.state.intake.wakes().tell(&run.flight, What::Ended);
    }
}

impl Answered {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts a problem document, and gives its field.
    #[track_caller]
    fn problem(&self, status: u16, code: &str) -> &str {
        assert_eq!((self.status.as_u16(), self.body["code"].as_str()), (status, Some(code)), "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["type"], format!("urn:onetake:problem:{code}"));
        assert_eq!(self.body["request_id"], self.header("x-request-id"));
        assert!(self.body["title"].is_string() && self.body["detail"].is_string());
        self.body["field"].as_str().unwrap_or_default()
    }
}
