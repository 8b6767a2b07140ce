//! HTTP: the API, its documents, and who may use it. The only module that knows axum.
//!
//! Handlers read what a caller sent, hand it to intake, flights or a queue, and write down what those say; they decide
//! nothing themselves. Each names the scope that it needs as its first argument.

mod auth;
mod claims;
mod cloudpayments;
mod dedupe;
mod deliveries;
mod envelope;
mod files;
mod flows;
mod health;
mod idempotency;
mod input;
mod jobs;
mod keys;
mod locks;
mod mailbox;
mod metrics;
mod openapi;
mod orders;
mod page;
mod pickup;
mod problem;
mod queues;
mod requests;
mod sagas;
mod schedulers;
mod slots;
mod submit;
#[cfg(test)]
mod tests;
mod videos;
mod view;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::access::Access;
use crate::config::Settings;
use crate::delivery::webhook::Webhook;
use crate::intake::Intake;
use crate::lock::Locks;
use crate::queue::Producer;
use crate::redis::Redis;
use crate::runner::{Claims, Controls, Rules};
use crate::saga::Sagas;
use crate::workloads::Workloads;

pub use flows::read as read_flows;

/// What the handlers work with.
pub struct Server {
    pub intake: Intake,
    pub locks: Locks,
    pub settings: Arc<Settings>,
    pub access: Access,
    pub redis: Redis,
    /// The folder of rendered files.
    pub files: PathBuf,
    /// The id of the Telegram bot, if one is configured.
    pub bot: Option<String>,
    /// Says which addresses a webhook may be sent to.
    pub webhook: Webhook,
    pub workloads: Workloads,
    pub metrics: Option<PrometheusHandle>,
    pub sagas: Sagas,
    pub claims: Claims,
    pub producer: Producer,
    /// Of the queues that this process works off.
    pub controls: Controls,
    /// What the addresses in answers begin with: the configured public address, or nothing.
    base: Arc<str>,
    in_flight: idempotency::InFlight,
    timings: envelope::Timings,
    counted: metrics::Counted,
    /// Cancelled when the server stops: what waits for a change then ends.
    stopping: CancellationToken,
}

/// What a [`Server`] is made of.
pub struct Parts {
    pub intake: Intake,
    pub locks: Locks,
    pub settings: Arc<Settings>,
    pub access: Access,
    pub redis: Redis,
    pub files: PathBuf,
    pub bot: Option<String>,
    pub webhook: Webhook,
    pub workloads: Workloads,
    pub metrics: Option<PrometheusHandle>,
    pub sagas: Sagas,
    pub controls: Controls,
}

pub type AppState = Arc<Server>;

impl Server {
    pub fn new(parts: Parts) -> AppState {
        let Parts { intake, locks, settings, access, redis, files, bot, webhook, workloads, metrics, sagas, controls } =
            parts;
        let runner = &settings.runner;
        let rules = Rules {
            stalled_interval: runner.stalled_interval.0,
            max_stalled: runner.max_stalled,
            drain_delay: runner.drain_delay.0,
        };
        let claims = Claims::new(intake.flights().store().clock().clone(), rules);
        let base = settings.http.public_url.trim_end_matches('/').into();
        Arc::new(Self {
            intake,
            locks,
            settings,
            access,
            redis,
            files,
            bot,
            webhook,
            workloads,
            metrics,
            sagas,
            claims,
            producer: Producer::start(),
            controls,
            base,
            in_flight: idempotency::InFlight::default(),
            timings: envelope::Timings::default(),
            counted: metrics::Counted::default(),
            stopping: CancellationToken::new(),
        })
    }
}

/// The whole API as a service; of a process that only runs jobs, its health and its metrics.
pub fn router(state: AppState) -> Router {
    let routes = if state.settings.role.serves_http() { openapi::routes() } else { openapi::probes() };
    routes
        .fallback(envelope::not_found)
        .method_not_allowed_fallback(envelope::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(state.clone(), envelope::envelop))
        .with_state(state)
}

/// Serves until `stop`, then lets what is under way finish, as long as `http.shutdown_grace` says at most.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: TcpListener, state: AppState, stop: CancellationToken) -> std::io::Result<()> {
    let stopping = state.stopping.clone();
    let grace = state.settings.http.shutdown_grace.0;
    let app = router(state);
    let serving = axum::serve(listener, app).with_graceful_shutdown({
        let (stop, stopping) = (stop.clone(), stopping.clone());
        async move {
            stop.cancelled().await;
            stopping.cancel();
        }
    });
    tokio::select! {
        done = serving => done,
        // dropped: requests that took longer than they may; what they had committed stands.
        () = async { stopping.cancelled().await; tokio::time::sleep(grace).await } => {
            warn!("requests were still under way after {grace:?}; stopping without them");
            Ok(())
        }
    }
}
