//! What Prometheus scrapes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use metrics::gauge;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::AppState;
use super::auth::{Caller, Read};
use super::problem::{Code, Problem};

/// How old the gauges of the queues may be, so that several scrapers cost Redis as much as one.
const FRESH_FOR: Duration = Duration::from_secs(2);

/// When the queues were counted last.
#[derive(Clone, Default)]
pub struct Counted(Arc<Mutex<Option<Instant>>>);

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, content_type = "text/plain", body = String)), security(("bearer" = ["read"])))]
pub(super) async fn show(_: Caller<Read>, State(state): State<AppState>) -> Result<Response, Problem> {
    let Some(recorded) = &state.metrics else {
        return Err(Problem::new(Code::NotFound, "this process records no metrics"));
    };
    refresh(&state).await;
    gauge!("onetake_runtime_tasks").set(Handle::current().metrics().num_alive_tasks() as f64);
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], recorded.render()).into_response())
}

async fn refresh(state: &AppState) {
    let mut counted = state.counted.0.lock().await;
    if counted.is_some_and(|at| at.elapsed() < FRESH_FOR) {
        return;
    }
    gauge!("onetake_redis_up").set(if state.redis.is_up() { 1.0 } else { 0.0 });
    let queues = state.intake.publisher().queues();
    for entry in queues.catalog().entries() {
        let Some(queue) = queues.get(entry.name.as_str()) else { continue };
        // Without Redis the last counts stand; `onetake_redis_up` tells how old they are.
        let Ok(counts) = queue.counts().await else { break };
        let by_state = [
            ("waiting", counts.waiting),
            ("active", counts.active),
            ("delayed", counts.delayed),
            ("prioritized", counts.prioritized),
            ("waiting-children", counts.waiting_children),
            ("completed", counts.completed),
            ("failed", counts.failed),
        ];
        for (job_state, count) in by_state {
            let name = entry.name.to_string();
            gauge!("onetake_queue_jobs", "queue" => name, "state" => job_state).set(count as f64);
        }
    }
    *counted = Some(Instant::now());
}
